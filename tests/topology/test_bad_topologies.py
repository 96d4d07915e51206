"""Every mistake in a topology file gives one message: where, what, the value, what was expected."""

from __future__ import annotations

import pytest

from testbed.errors import InputError
from testbed.files import yamlfile
from testbed.files.validation import FileError
from testbed.topology.loader import load_topology, topology_of

SETTINGS_KEYS = (
    "adaptive_batch, batch, cached_candidates, coalesce, command, engine, env, group_copies, "
    "handler, hello, kind, max_wait, metrics, mtu, ready, stop, user"
)
PERIOD = "expected a time from 10ms to 60min in whole milliseconds, such as 1s"
WAIT = "expected a time from 0us to 10ms in whole microseconds, such as 200us"
SIZES = "expected off, or two sizes from 1 to 256 such as 8..128"
LISTEN = "expected off, or an address and a port such as 127.0.0.1:9100, [::1]:9100 or :9100"
MTU = (
    "expected 1280 to 1472 bytes: IPv6 needs 1280, and a radio MTU of 1500 leaves 1472 to the "
    "inner packet"
)
NAME = "expected letters, digits, '.', '_' and '-', a letter or digit first"
METRES = "expected two numbers in metres, such as [120, 4]"
V4, V6 = "expected an IPv4 address such as 10.77.0.9", "expected an IPv6 address such as fd00::9"
PREFIX4 = "expected an IPv4 prefix such as 10.77.0.0/16"
LINK = "expected two nodes, such as [rsu1, obu1]"


def message(text: str) -> str:
    """What loading that text says; it must be an input error."""
    with pytest.raises(InputError) as caught:
        topology_of(yamlfile.parse(text, file="f", env={}))
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def with_node(body: str, *, rsu: str = "") -> str:
    """A file with that in the body of obu1, on line 5."""
    return (
        f"name: road\ntopology:\n  nodes:\n    rsu1: {{kind: rsu{rsu}}}\n    obu1: {{{body}}}\n"
        "  links:\n    - [rsu1, obu1]\n"
    )


def with_link(link: str) -> str:
    """A file with that link, on line 7."""
    return (
        "name: road\ntopology:\n  nodes:\n    rsu1: {kind: rsu}\n    obu1: {kind: obu}\n"
        f"  links:\n    - {link}\n"
    )


GOOD = with_link("[rsu1, obu1]")
"""Right as it is, and in its last line there are links; what is added begins on line 8."""


def test_the_file_that_the_cases_spoil_is_right() -> None:
    assert topology_of(yamlfile.parse(GOOD, file="f", env={})).name == "road"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("topology: {}\n", "f:1: the key 'name' is missing; and 1 more error in this file"),
        ("name: road\n", "f:1: the key 'topology' is missing"),
        ("name: road\ntopology:\n", "f:2: topology: is blank (expected a mapping)"),
        ("name: road\ntopology: pair\n", "f:2: topology: is text (got 'pair'; expected a mapping)"),
        ("name: road\ntopology: {}\n", "f:2: topology: the key 'nodes' is missing"),
        (
            "name: road\ntopology:\n  nodes: [rsu1, obu1]\n",
            "f:3: topology.nodes: is a list (got ['rsu1', 'obu1']; expected a mapping)",
        ),
        (
            "name: road\ntopology:\n  nodes:\n",
            "f:3: topology.nodes: there are no nodes (expected an RSU and an OBU)",
        ),
        (
            GOOD.replace("name: road", "name: my road"),
            (
                "f:1: name: not allowed (got 'my road'; "
                "expected letters, digits, '_' and '-', a letter or digit first)"
            ),
        ),
        (
            GOOD.replace("name: road", "name: a.b"),
            (
                "f:1: name: not allowed (got 'a.b'; "
                "expected letters, digits, '_' and '-', a letter or digit first)"
            ),
        ),
        (
            GOOD.replace("name: road", "name: 5"),
            (
                "f:1: name: is a number, put it in quotes (got 5; "
                "expected letters, digits, '_' and '-', a letter or digit first)"
            ),
        ),
        (
            GOOD.replace("name: road", "name: " + "r" * 33),
            f"f:1: name: too long (got '{'r' * 33}'; expected at most 32 characters)",
        ),
    ],
)
def test_the_top(text: str, expected: str) -> None:
    assert message(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD + "flavour: 1\n", "f:8: unknown key 'flavour' (expected one of name, topology)"),
        (
            GOOD + "segments: {}\n",
            "f:8: unknown key 'segments', it belongs in 'topology'",
        ),
        (
            GOOD + "  link: []\n",
            "f:8: topology: unknown key 'link', did you mean 'links'?",
        ),
        (
            with_node("kind: obu, mtuu: 1400"),
            "f:5: topology.nodes.obu1: unknown key 'mtuu', did you mean 'mtu'?",
        ),
        (
            with_node("kind: obu, period: 1s"),
            "f:5: topology.nodes.obu1: unknown key 'period', it belongs in 'hello'",
        ),
        (
            with_node("kind: obu, hello: {perod: 1s}"),
            "f:5: topology.nodes.obu1.hello: unknown key 'perod', did you mean 'period'?",
        ),
        (
            with_node("kind: obu, engine: {wired: mmsg}"),
            "f:5: topology.nodes.obu1.engine: unknown key 'wired', did you mean 'wire'?",
        ),
        (
            GOOD + "  kinds: {rsus: {}}\n",
            "f:8: topology.kinds: unknown key 'rsus', did you mean 'rsu'?",
        ),
        (
            GOOD + "  defaults: {group: a}\n",
            f"f:8: topology.defaults: unknown key 'group' (expected one of {SETTINGS_KEYS})",
        ),
        (
            GOOD + "  groups: {a: {position: [1, 2]}}\n",
            f"f:8: topology.groups.a: unknown key 'position' (expected one of {SETTINGS_KEYS})",
        ),
        (
            with_link("{endpoints: [rsu1, obu1], colour: red}"),
            "f:7: topology.links[0]: unknown key 'colour' (expected one of endpoints)",
        ),
        (
            GOOD + "  segments: {a: {member: [rsu1]}}\n",
            (
                "f:8: topology.segments.a: unknown key 'member', did you mean 'members'?; "
                "and 1 more error in this file"
            ),
        ),
        (
            GOOD + "  segments: [{memberz: [rsu1], members: [rsu1]}]\n",
            "f:8: topology.segments[0]: unknown key 'memberz', did you mean 'members'?",
        ),
        (
            GOOD + "  addressing: {ip4: 10.0.0.0/8}\n",
            "f:8: topology.addressing: unknown key 'ip4', did you mean 'ipv4'?",
        ),
    ],
)
def test_unknown_keys(text: str, expected: str) -> None:
    assert message(text) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            "kind: obuu",
            "kind: unknown value, did you mean 'obu'? (got 'obuu'; expected 'obu' or 'rsu')",
        ),
        (
            "kind: OBU",
            "kind: unknown value, did you mean 'obu'? (got 'OBU'; expected 'obu' or 'rsu')",
        ),
        ("kind: car", "kind: unknown value (got 'car'; expected 'obu' or 'rsu')"),
        ("kind: 1", "kind: is a number (got 1; expected 'obu' or 'rsu')"),
        ("kind: ", "kind: is blank (expected 'obu' or 'rsu')"),
        ("kind: [obu]", "kind: is a list (got ['obu']; expected 'obu' or 'rsu')"),
        ("hello: 1s", "hello: is text (got '1s'; expected a mapping)"),
        ("hello: {period: 5}", f"hello.period: the unit is missing (got 5; {PERIOD})"),
        ("hello: {period: 5 sec}", f"hello.period: unknown unit 'sec' (got '5 sec'; {PERIOD})"),
        (
            "hello: {period: 5MS}",
            f"hello.period: unknown unit 'MS', did you mean 'ms'? (got '5MS'; {PERIOD})",
        ),
        ("hello: {period: 1ms}", f"hello.period: too small (got '1ms'; {PERIOD})"),
        ("hello: {period: 90min}", f"hello.period: too large (got '90min'; {PERIOD})"),
        ("hello: {period: 10.5ms}", f"hello.period: finer than 1ms (got '10.5ms'; {PERIOD})"),
        ("hello: {period: -5s}", f"hello.period: a negative number (got '-5s'; {PERIOD})"),
        (
            "hello: {period: often}",
            f"hello.period: not a number with a unit (got 'often'; {PERIOD})",
        ),
        ("hello: {period: [1s]}", f"hello.period: is a list (got ['1s']; {PERIOD})"),
        ("hello: {period: }", f"hello.period: is blank ({PERIOD})"),
        (
            "hello: {history: 0}",
            "hello.history: too small (got 0; expected a whole number from 1 to 1000)",
        ),
        (
            "hello: {history: 2.5}",
            "hello.history: no whole number (got 2.5; expected a whole number from 1 to 1000)",
        ),
        (
            "hello: {history: true}",
            "hello.history: no whole number (got True; expected a whole number from 1 to 1000)",
        ),
        (
            "cached_candidates: many",
            "cached_candidates: no whole number (got 'many'; expected a whole number from 1 to 64)",
        ),
        ("batch: 257", "batch: too large (got 257; expected a whole number from 1 to 256)"),
        ("batch: -1", "batch: too small (got -1; expected a whole number from 1 to 256)"),
        ("batch: ", "batch: is blank (expected a whole number from 1 to 256)"),
        ("mtu: 1500", f"mtu: too large (got 1500; {MTU})"),
        ("mtu: 1473", f"mtu: too large (got 1473; {MTU})"),
        ("mtu: 1279", f"mtu: too small (got 1279; {MTU})"),
        ("mtu: 1400ms", f"mtu: unknown unit 'ms' (got '1400ms'; {MTU})"),
        ("mtu: 1.4kb", f"mtu: unknown unit 'kb', did you mean 'kB'? (got '1.4kb'; {MTU})"),
        ("mtu: 1400.5", f"mtu: not a whole number of bytes (got 1400.5; {MTU})"),
        ("max_wait: 200", f"max_wait: the unit is missing (got 200; {WAIT})"),
        ("max_wait: 11ms", f"max_wait: too large (got '11ms'; {WAIT})"),
        (
            "coalesce: sometimes",
            "coalesce: unknown value (got 'sometimes'; expected 'off' or 'fixed' or 'adaptive')",
        ),
        ("adaptive_batch: 8-128", f"adaptive_batch: not allowed (got '8-128'; {SIZES})"),
        ("adaptive_batch: 128..8", f"adaptive_batch: not allowed (got '128..8'; {SIZES})"),
        ("adaptive_batch: 8..257", f"adaptive_batch: not allowed (got '8..257'; {SIZES})"),
        ("adaptive_batch: 8", f"adaptive_batch: is a number, put it in quotes (got 8; {SIZES})"),
        ("metrics: 9100", f"metrics: is a number, put it in quotes (got 9100; {LISTEN})"),
        ("metrics: '9100'", f"metrics: not allowed (got '9100'; {LISTEN})"),
        ("metrics: 'fd00::1:9100'", f"metrics: not allowed (got 'fd00::1:9100'; {LISTEN})"),
        ("metrics: 'lo:9100'", f"metrics: not allowed (got 'lo:9100'; {LISTEN})"),
        ("metrics: ':65536'", f"metrics: not allowed (got ':65536'; {LISTEN})"),
        (
            "engine: mmsgs",
            (
                "engine: unknown value, did you mean 'mmsg'? "
                "(got 'mmsgs'; expected 'auto' or 'per-packet' or 'writev' or "
                "'aggregate' or 'mmsg' or 'uring' or 'ring' or 'xsk' or 'xsk-tx')"
            ),
        ),
        (
            "engine: {tap: mmsg}",
            (
                "engine.tap: unknown value "
                "(got 'mmsg'; expected 'auto' or 'per-packet' or 'writev' or 'uring')"
            ),
        ),
        (
            "engine: 3",
            (
                "engine: is a number (got 3; "
                "expected a word such as mmsg, or a mapping of wire and tap)"
            ),
        ),
        (
            "handler: batch",
            (
                "handler: unknown value, did you mean 'batched'? "
                "(got 'batch'; expected 'auto' or 'per-packet' or 'batched')"
            ),
        ),
        (
            "group_copies: adressed",
            (
                "group_copies: unknown value, did you mean 'addressed'? "
                "(got 'adressed'; expected 'reference' or 'addressed')"
            ),
        ),
        ("position: here", f"position: is text (got 'here'; {METRES})"),
        ("position: [1]", f"position: has 1 number (got [1]; {METRES})"),
        ("position: [1, 2, 3]", f"position: has 3 numbers (got [1, 2, 3]; {METRES})"),
        (
            "position: [1, east]",
            f"position: has a part that is no number (got [1, 'east']; {METRES})",
        ),
        (
            "position: [1, nan]",
            f"position: has a part that is no number (got [1, 'nan']; {METRES})",
        ),
        ("position: [1, [2]]", f"position: has a part that is no number ({METRES})"),
        (
            "position: [1, 2e9]",
            "position: too far away (got [1, 2000000000.0]; expected at most 1e9 metres)",
        ),
        ("ipv4: 10.77.0.300", f"ipv4: not an IPv4 address (got '10.77.0.300'; {V4})"),
        ("ipv4: 10", f"ipv4: is a number (got 10; {V4})"),
        ("ipv4: 'fd00::1'", f"ipv4: not an IPv4 address (got 'fd00::1'; {V4})"),
        (
            "ipv4: 10.77.0.9/40",
            "ipv4: not a prefix length (got '10.77.0.9/40'; expected /0 to /32 behind the address)",
        ),
        ("ipv6: 10.77.0.9", f"ipv6: not an IPv6 address (got '10.77.0.9'; {V6})"),
        ("ipv6: 'fe80::1%lo'", f"ipv6: an address with a scope (got 'fe80::1%lo'; {V6})"),
        ("group: [a]", f"group: is a list (got ['a']; {NAME})"),
    ],
)
def test_values_of_a_node(body: str, expected: str) -> None:
    """The same wherever the key may stand; here in a node."""
    assert message(with_node(body)) == f"f:5: topology.nodes.obu1.{expected}"


@pytest.mark.parametrize(
    ("rest", "place"),
    [
        ("  defaults: {mtu: 1}\n", "topology.defaults"),
        ("  kinds: {rsu: {mtu: 1}}\n", "topology.kinds.rsu"),
        ("  groups: {lorry: {mtu: 1}}\n", "topology.groups.lorry"),
    ],
)
def test_values_of_other_layers(rest: str, place: str) -> None:
    assert message(GOOD + rest) == f"f:8: {place}.mtu: too small (got 1; {MTU})"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            GOOD.replace("    obu1:", "    obu1: {kind: obu}\n    obu1:"),
            "f:6: the key 'obu1' stands here twice, first on line 5 (expected each key once)",
        ),
        (
            GOOD.replace("obu1: {kind: obu}", "obu1: obu"),
            "f:5: topology.nodes.obu1: is text (got 'obu'; expected a mapping)",
        ),
        (
            GOOD.replace("    obu1:", "    _obu1:"),
            f"f:5: topology.nodes._obu1: not allowed (got '_obu1'; {NAME})",
        ),
        (
            GOOD.replace("    obu1:", "    obu 1:"),
            f"f:5: topology.nodes.obu 1: not allowed (got 'obu 1'; {NAME})",
        ),
        (
            GOOD.replace("    obu1:", f"    {'o' * 33}:"),
            (
                f"f:5: topology.nodes.{'o' * 33}: too long (got '{'o' * 33}'; "
                "expected at most 32 characters)"
            ),
        ),
        (
            with_node(""),
            (
                "f:5: topology.nodes.obu1: the node has no kind "
                "(expected kind: obu or kind: rsu here, in its group or in defaults)"
            ),
        ),
        (
            with_node("kind: rsu"),
            (
                "f:3: topology.nodes: there is no OBU (on-board unit) "
                "(expected at least one node with kind: obu)"
            ),
        ),
        (
            GOOD.replace("kind: rsu", "kind: obu"),
            (
                "f:3: topology.nodes: there is no RSU (roadside unit) "
                "(expected at least one node with kind: rsu)"
            ),
        ),
        (
            with_node("group: lorry"),
            (
                "f:5: topology.nodes.obu1.group: there is no such group "
                "(got 'lorry'; expected a key of topology.groups)"
            ),
        ),
        (
            with_node("group: lory") + "  groups: {lorry: {kind: obu}, bus: {}}\n",
            (
                "f:5: topology.nodes.obu1.group: there is no such group, did you mean 'lorry'? "
                "(got 'lory'; expected one of lorry, bus)"
            ),
        ),
        (
            with_node("kind: obu, hello: {period: 1s}"),
            (
                "f:5: topology.nodes.obu1.hello.period: an OBU sends no heartbeats of its own "
                "(expected the period at an RSU, in kinds.rsu or in defaults)"
            ),
        ),
        (
            GOOD + "  kinds:\n    obu:\n      hello:\n        period: 1s\n",
            (
                "f:11: topology.kinds.obu.hello.period: an OBU sends no heartbeats of its own "
                "(expected the period at an RSU, in kinds.rsu or in defaults)"
            ),
        ),
        (
            GOOD.replace("  links:", "    obu2: {kind: obu}\n  links:"),
            (
                "f:6: topology.nodes.obu2: the node is in no link and in no segment, "
                "so nobody hears it "
                "(expected a link, or a segment (of its own, if it is meant to be alone))"
            ),
        ),
    ],
)
def test_nodes(text: str, expected: str) -> None:
    assert message(text) == expected


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        (
            "[rsu1, obu2]",
            "[1]: there is no node 'obu2', did you mean 'obu1'? (expected a key of topology.nodes)",
        ),
        ("[rsu1, bus]", "[1]: there is no node 'bus' (expected a key of topology.nodes)"),
        (
            "{endpoints: [bus, obu1]}",
            ".endpoints[0]: there is no node 'bus' (expected a key of topology.nodes)",
        ),
        ("[rsu1, rsu1]", ": a link from rsu1 to itself (expected two different nodes)"),
        ("[rsu1, 'rsu1:radio0']", ": a link from rsu1 to itself (expected two different nodes)"),
        (
            "['rsu1:eth1', obu1]",
            (
                "[0]: rsu1 has no interface 'eth1' "
                "(expected rsu1:radio0, as every node has one radio)"
            ),
        ),
        ("[rsu1]", f": has 1 endpoint (got ['rsu1']; {LINK})"),
        (
            "[rsu1, obu1, obu2]",
            f": has 3 endpoints (got ['rsu1', 'obu1', 'obu2']; {LINK})",
        ),
        ("{endpoints: [rsu1]}", f": has 1 endpoint ({LINK})"),
        ("{endpoints: rsu1}", ".endpoints: is text (got 'rsu1'; expected a list)"),
        ("{}", ": the key 'endpoints' is missing"),
        ("rsu1 obu1", f": is text (got 'rsu1 obu1'; {LINK})"),
        ("", f": is blank ({LINK})"),
        (
            "[rsu1, 1]",
            (
                "[1]: is a number, put it in quotes "
                "(got 1; expected a node, such as rsu1 or rsu1:radio0)"
            ),
        ),
        (
            "[rsu1, 'obu 1']",
            "[1]: not allowed (got 'obu 1'; expected a node, such as rsu1 or rsu1:radio0)",
        ),
    ],
)
def test_links(link: str, expected: str) -> None:
    assert message(with_link(link)) == f"f:7: topology.links[0]{expected}"


def test_a_link_twice() -> None:
    text = GOOD + "    - {endpoints: [obu1, rsu1]}\n"
    assert message(text) == (
        "f:8: topology.links[1]: obu1 and rsu1 are linked already, on line 7 "
        "(expected each pair once)"
    )


def test_links_that_are_no_list() -> None:
    text = GOOD.replace("    - [rsu1, obu1]", "    rsu1: obu1")
    assert message(text) == "f:6: topology.links: is a mapping (expected a list)"


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        (
            "{all: [rsu1, obu7]}",
            (
                ".all[1]: there is no node 'obu7', did you mean 'obu1'? "
                "(expected a key of topology.nodes)"
            ),
        ),
        (
            "[{members: [bus]}]",
            "[0].members[0]: there is no node 'bus' (expected a key of topology.nodes)",
        ),
        ("{all: [rsu1, obu1, rsu1]}", ".all[2]: rsu1 is a member twice (expected each node once)"),
        (
            "{all: {members: ['obu1:radio0', obu1]}}",
            ".all.members[1]: obu1 is a member twice (expected each node once)",
        ),
        (
            "{all: ['obu1:tap0', rsu1]}",
            (
                ".all[0]: obu1 has no interface 'tap0' "
                "(expected obu1:radio0, as every node has one radio)"
            ),
        ),
        ("{all: []}", ".all: has no members (got []; expected at least one node)"),
        ("{all: {members: }}", ".all: has no members (expected at least one node)"),
        ("{all: {}}", ".all: the key 'members' is missing"),
        (
            "{all: obu1}",
            ".all: is text (got 'obu1'; expected a list of nodes, such as [rsu1, obu1, obu2])",
        ),
        ("all", ": is text (got 'all'; expected a mapping)"),
        ("{a b: [rsu1]}", f".a b: not allowed (got 'a b'; {NAME})"),
        (
            "{all: {name: some, members: [rsu1]}}",
            ".all.name: the segment has two names (got 'some'; expected 'all')",
        ),
        (
            "[{name: a, members: [rsu1]}, {name: a, members: [obu1]}]",
            "[1]: there are two segments 'a' (expected each name once)",
        ),
    ],
)
def test_segments(segments: str, expected: str) -> None:
    text = GOOD + f"  segments: {segments}\n"
    assert message(text) == f"f:8: topology.segments{expected}"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            "ipv4: 10.78.0.1",
            (
                "ipv4: the address is outside the testbed's prefix "
                "(got '10.78.0.1'; expected an address in 10.77.0.0/16)"
            ),
        ),
        (
            "ipv6: 'fd00::1'",
            (
                "ipv6: the address is outside the testbed's prefix "
                "(got 'fd00::1'; expected an address in fd77:7465:7374::/64)"
            ),
        ),
        (
            "ipv4: 10.77.0.0",
            (
                "ipv4: the address is the network's own "
                "(got '10.77.0.0'; expected 10.77.0.1 to 10.77.255.254)"
            ),
        ),
        (
            "ipv4: 10.77.255.255",
            (
                "ipv4: the address is the one for broadcasts "
                "(got '10.77.255.255'; expected 10.77.0.1 to 10.77.255.254)"
            ),
        ),
        (
            "ipv6: 'fd77:7465:7374::'",
            (
                "ipv6: the address is the network's own (got 'fd77:7465:7374::'; "
                "expected fd77:7465:7374::1 to fd77:7465:7374:0:ffff:ffff:ffff:ffff)"
            ),
        ),
        (
            "ipv4: 10.77.0.9/24",
            (
                "ipv4: another prefix length than the testbed's "
                "(got '10.77.0.9/24'; expected 10.77.0.9 or 10.77.0.9/16)"
            ),
        ),
    ],
)
def test_given_addresses(body: str, expected: str) -> None:
    assert message(with_node(f"kind: obu, {body}")) == f"f:5: topology.nodes.obu1.{expected}"


@pytest.mark.parametrize(
    ("key", "first", "second", "shown"),
    [
        ("ipv4", "10.77.0.9", "10.77.0.9/16", "10.77.0.9"),
        ("ipv6", "fd77:7465:7374::9", "fd77:7465:7374:0::9", "fd77:7465:7374::9"),
    ],
)
def test_an_address_given_twice(key: str, first: str, second: str, shown: str) -> None:
    text = with_node(f"kind: obu, {key}: '{second}'", rsu=f", {key}: '{first}'")
    assert message(text) == (
        f"f:5: topology.nodes.obu1.{key}: rsu1 has this address already "
        f"(got '{shown}'; expected each address once)"
    )


@pytest.mark.parametrize(
    ("addressing", "expected"),
    [
        (
            "ipv4: 10.77.0.1/16",
            "ipv4: an address, not a prefix (got '10.77.0.1/16'; expected 10.77.0.0/16)",
        ),
        (
            "ipv4: 10.77.0.0",
            f"ipv4: the length of the prefix is missing (got '10.77.0.0'; {PREFIX4})",
        ),
        ("ipv4: 10.77/33", f"ipv4: not an IPv4 prefix (got '10.77/33'; {PREFIX4})"),
        ("ipv4: 'fd77::/64'", f"ipv4: not an IPv4 prefix (got 'fd77::/64'; {PREFIX4})"),
        ("ipv4: 10", f"ipv4: is a number (got 10; {PREFIX4})"),
        (
            "ipv4: 127.0.0.0/16",
            (
                "ipv4: the prefix is in use already, 127.0.0.0/8 is for loopback "
                "(got '127.0.0.0/16'; expected a prefix for hosts, such as 10.77.0.0/16)"
            ),
        ),
        (
            "ipv4: 0.0.0.0/0",
            (
                'ipv4: the prefix is in use already, 0.0.0.0/8 is for "this network" '
                "(got '0.0.0.0/0'; expected a prefix for hosts, such as 10.77.0.0/16)"
            ),
        ),
        (
            "ipv6: 'fe80::/64'",
            (
                "ipv6: the prefix is in use already, fe80::/10 is for link-local addresses "
                "(got 'fe80::/64'; expected a prefix for hosts, such as fd77:7465:7374::/64)"
            ),
        ),
        (
            "ipv4: 10.0.0.0/32",
            "ipv4: 10.0.0.0/32 has 1 address for 2 nodes (expected a prefix of /31 or shorter)",
        ),
        (
            "ipv6: 'fd00::/128'",
            "ipv6: fd00::/128 has 1 address for 2 nodes (expected a prefix of /127 or shorter)",
        ),
    ],
)
def test_prefixes(addressing: str, expected: str) -> None:
    text = GOOD + f"  addressing: {{{addressing}}}\n"
    assert message(text) == f"f:8: topology.addressing.{expected}"


def test_more_nodes_than_addresses() -> None:
    names = ", ".join(f"obu{index}" for index in range(7))
    text = (
        "name: road\ntopology:\n  defaults: {kind: obu}\n  nodes: {rsu1: {kind: rsu}, "
        + "".join(f"obu{index}: , " for index in range(7))
        + f"}}\n  segments: {{all: [rsu1, {names}]}}\n  addressing:\n    ipv4: 10.0.0.0/29\n"
    )
    assert message(text) == (
        "f:7: topology.addressing.ipv4: 10.0.0.0/29 has 6 addresses for 8 nodes "
        "(expected a prefix of /28 or shorter)"
    )


def test_several_errors_are_counted_and_the_first_is_shown() -> None:
    text = (
        "name: road\ntopology:\n  nodes:\n    rsu1: {kind: rsu, batch: 0}\n"
        "    obu1: {kind: obu, mtuu: 1, mtu: 9000}\n  links:\n    - [rsu1]\n"
    )
    assert message(text) == (
        "f:4: topology.nodes.rsu1.batch: too small "
        "(got 0; expected a whole number from 1 to 256); and 3 more errors in this file"
    )
    with pytest.raises(FileError) as caught:
        topology_of(yamlfile.parse(text, file="f", env={}))
    assert [(problem.line, problem.file) for problem in caught.value.problems] == [
        (4, "f"),
        (5, "f"),
        (5, "f"),
        (7, "f"),
    ]


def test_errors_of_meaning_are_counted_too() -> None:
    text = with_node("kind: obu, ipv4: 10.78.0.1") + "    - [rsu1, bus]\n    - [obu1, obu1]\n"
    assert message(text) == (
        "f:5: topology.nodes.obu1.ipv4: the address is outside the testbed's prefix (got "
        "'10.78.0.1'; expected an address in 10.77.0.0/16); and 2 more errors in this file"
    )


def test_what_a_merge_key_brings_is_blamed_where_it_stands() -> None:
    text = (
        "name: road\ntopology:\n  nodes:\n    rsu1: &base\n      kind: rsu\n      hello:\n"
        "        period: 1s\n    obu1: {<<: *base, kind: obu}\n  links: [[rsu1, obu1]]\n"
    )
    assert message(text) == (
        "f:7: topology.nodes.obu1.hello.period: an OBU sends no heartbeats of its own "
        "(expected the period at an RSU, in kinds.rsu or in defaults)"
    )


def test_braces_in_a_value_do_no_harm() -> None:
    expected = f"f:5: topology.nodes.obu1.mtu: not a number with a unit (got '{{x}}{{0}}'; {MTU})"
    assert message(with_node("mtu: '{x}{0}'")) == expected


def test_the_file_is_named_as_the_user_named_it(tmp_path: object) -> None:
    path = f"{tmp_path}/road.yaml"
    with open(path, "w") as file:
        file.write("name: road\ntopology: {}\n")
    with pytest.raises(InputError) as caught:
        load_topology(path)
    assert str(caught.value) == f"{path}:2: topology: the key 'nodes' is missing"
