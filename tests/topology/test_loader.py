"""What a topology file means: inheritance, who hears whom, addresses, where it is found."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
from pathlib import Path

import pytest

from testbed.errors import InputError
from testbed.files import yamlfile
from testbed.topology.loader import load_topology, topology_of
from testbed.topology.model import Link, NodeSettings, Ready, Segment, Topology


def load(text: str, **env: str) -> Topology:
    return topology_of(yamlfile.parse(text, file="road.yaml", env=env))


def road(rest: str = "", *, rsu: str = "", obu: str = "") -> Topology:
    return load(
        "name: road\ntopology:\n  nodes:\n"
        f"    rsu1: {{kind: rsu, {rsu}}}\n    obu1: {{kind: obu, {obu}}}\n"
        f"  links: [[rsu1, obu1]]\n{rest}"
    )


def test_what_is_not_said_has_the_reference_nodes_defaults() -> None:
    topology = road()
    assert topology.name == "road"
    assert topology.source == "road.yaml"
    assert [(node.name, node.kind) for node in topology.nodes] == [("rsu1", "rsu"), ("obu1", "obu")]
    for node in topology.nodes:
        assert node.settings == NodeSettings()
        assert node.position is None
    assert NodeSettings() == NodeSettings(
        hello_periodicity_ms=5000,
        hello_history=10,
        cached_candidates=3,
        mtu=1436,
        engine_wire="auto",
        engine_tap="auto",
        handler="auto",
        batch=32,
        adaptive_batch="off",
        coalesce=None,
        max_wait_us=0,
        group_copies="reference",
        metrics="off",
    )


def test_every_setting_arrives() -> None:
    settings = (
        "hello: {history: 4}, cached_candidates: 2, mtu: 1300, engine: {wire: mmsg, "
        "tap: per-packet}, handler: batched, batch: 8, adaptive_batch: 4..64, coalesce: adaptive, "
        "max_wait: 0.2ms, group_copies: addressed, metrics: ':9100'"
    )
    topology = road("  kinds: {rsu: {hello: {period: 250ms}}}\n", rsu=settings, obu=settings)
    expected = NodeSettings(
        hello_history=4,
        cached_candidates=2,
        mtu=1300,
        engine_wire="mmsg",
        engine_tap="per-packet",
        handler="batched",
        batch=8,
        adaptive_batch="4..64",
        coalesce="adaptive",
        max_wait_us=200,
        group_copies="addressed",
        metrics=":9100",
    )
    assert topology.node("obu1").settings == expected
    assert topology.node("rsu1").settings == dataclasses.replace(expected, hello_periodicity_ms=250)


@pytest.mark.parametrize(
    ("layers", "batch"),
    [
        ([], 32),
        (["defaults"], 1),
        (["defaults", "kinds"], 2),
        (["defaults", "kinds", "groups"], 3),
        (["defaults", "kinds", "groups", "node"], 4),
        (["defaults", "groups"], 3),
        (["kinds", "node"], 4),
    ],
)
def test_the_nearest_layer_holds(layers: list[str], batch: int) -> None:
    rest = "  groups: {lorry: {batch: 3}}\n" if "groups" in layers else "  groups: {lorry: {}}\n"
    rest += "  defaults: {batch: 1}\n" if "defaults" in layers else ""
    rest += "  kinds: {obu: {batch: 2}, rsu: {batch: 9}}\n" if "kinds" in layers else ""
    topology = road(rest, obu="group: lorry" + (", batch: 4" if "node" in layers else ""))
    assert topology.node("obu1").settings.batch == batch


def test_layers_are_merged_key_by_key() -> None:
    topology = road(
        "  defaults: {hello: {period: 2s, history: 7}, engine: {tap: per-packet}}\n"
        "  kinds: {rsu: {hello: {period: 1s}}, obu: {engine: {wire: mmsg}}}\n",
        rsu="hello: {history: 3}",
    )
    rsu, obu = topology.node("rsu1").settings, topology.node("obu1").settings
    assert (rsu.hello_periodicity_ms, rsu.hello_history) == (1000, 3)
    assert (obu.hello_periodicity_ms, obu.hello_history) == (2000, 7)
    assert (rsu.engine_wire, rsu.engine_tap) == ("auto", "per-packet")
    assert (obu.engine_wire, obu.engine_tap) == ("mmsg", "per-packet")


@pytest.mark.parametrize(
    ("word", "wire", "tap"),
    [
        ("auto", "auto", "auto"),
        ("per-packet", "per-packet", "per-packet"),
        ("mmsg", "mmsg", "auto"),
    ],
)
def test_an_engine_by_one_word_is_the_wires_and_the_taps_where_it_can_be(
    word: str, wire: str, tap: str
) -> None:
    topology = road(
        "  defaults: {engine: {wire: per-packet, tap: per-packet}}\n", obu=f"engine: {word}"
    )
    settings = topology.node("obu1").settings
    assert (settings.engine_wire, settings.engine_tap) == (wire, tap)


def test_a_kind_comes_from_node_group_or_defaults() -> None:
    topology = load(
        "name: road\ntopology:\n  defaults: {kind: obu}\n  groups: {mast: {kind: rsu}}\n"
        "  nodes:\n    a: {group: mast}\n    b:\n    c: {group: mast, kind: obu}\n"
        "  segments: {all: [a, b, c]}\n"
    )
    assert [node.kind for node in topology.nodes] == ["rsu", "obu", "obu"]
    assert [node.name for node in topology.rsus] == ["a"]
    assert [node.name for node in topology.obus] == ["b", "c"]


def test_links_and_segments_add_up() -> None:
    topology = load(
        "name: road\ntopology:\n  defaults: {kind: obu}\n"
        "  nodes: {rsu1: {kind: rsu}, obu1: , obu2: , obu3: , obu4: , no: }\n"
        "  links:\n    - [rsu1, obu1]\n    - {endpoints: ['obu1:radio0', 'obu2']}\n"
        "  segments:\n    bus: [obu1, obu2, obu3]\n    alone: {members: [no]}\n"
        "    near: {name: near, members: ['obu3:radio0', obu4]}\n"
    )
    assert topology.links == (Link(a="rsu1", b="obu1"), Link(a="obu1", b="obu2"))
    assert topology.segments == (
        Segment(name="bus", members=("obu1", "obu2", "obu3")),
        Segment(name="alone", members=("no",)),
        Segment(name="near", members=("obu3", "obu4")),
    )
    assert topology.neighbours() == {
        "rsu1": {"obu1"},
        "obu1": {"rsu1", "obu2", "obu3"},
        "obu2": {"obu1", "obu3"},
        "obu3": {"obu1", "obu2", "obu4"},
        "obu4": {"obu3"},
        "no": frozenset(),
    }
    assert topology.hops_to_rsu() == {
        "rsu1": 0,
        "obu1": 1,
        "obu2": 2,
        "obu3": 2,
        "obu4": 3,
        "no": None,
    }


def test_segments_in_a_list() -> None:
    topology = load(
        "name: road\ntopology:\n  nodes: {rsu1: {kind: rsu}, obu1: {kind: obu}}\n"
        "  segments:\n    - [rsu1, obu1]\n    - {name: b, members: [obu1]}\n    - members: [rsu1]\n"
    )
    assert [segment.name for segment in topology.segments] == ["segment0", "b", "segment2"]


def test_addresses_given_and_assigned() -> None:
    topology = road(
        '  addressing: {ipv4: 192.168.9.0/28, ipv6: "fd99::/64"}\n',
        rsu="ipv4: 192.168.9.2/28",
        obu='ipv6: "fd99::1"',
    )
    rsu, obu = topology.nodes
    assert (str(rsu.ipv4), str(obu.ipv4)) == ("192.168.9.2/28", "192.168.9.1/28")
    assert (str(rsu.ipv6), str(obu.ipv6)) == ("fd99::2/64", "fd99::1/64")
    assert (str(topology.prefix4), str(topology.prefix6)) == ("192.168.9.0/28", "fd99::/64")


def test_a_position_is_a_pair_of_metres() -> None:
    assert road(obu="position: [12, -3.5]").node("obu1").position == (12.0, -3.5)


def test_what_is_left_blank_is_empty() -> None:
    topology = load(
        "name: road\ntopology:\n  defaults:\n  kinds:\n  groups:\n    lorry:\n  addressing:\n"
        "  segments:\n  nodes:\n    rsu1: {kind: rsu, hello: , engine: }\n    obu1: {kind: obu}\n"
        "  links: [[rsu1, obu1]]\n"
    )
    assert topology.nodes == road().nodes


def test_numbers_may_come_from_variables_in_quotes() -> None:
    topology = load(
        'name: ${NAME}\ntopology:\n  nodes:\n    rsu1: {kind: rsu, hello: {period: "${P:=1s}"}}\n'
        '    obu1: {kind: obu, mtu: "${MTU}", batch: "${N}", position: ["${X}", 0]}\n'
        "  links: [[rsu1, obu1]]\n",
        NAME="way",
        MTU="1300",
        N="4",
        X="7.5",
    )
    obu = topology.node("obu1")
    assert (topology.name, obu.settings.mtu, obu.settings.batch) == ("way", 1300, 4)
    assert obu.position == (7.5, 0.0)
    assert topology.node("rsu1").settings.hello_periodicity_ms == 1000


def test_another_name_gives_another_testbed_of_the_same_shape() -> None:
    one, other = load_topology("pair"), load_topology("pair", name="other")
    assert (one.name, other.name) == ("pair", "other")
    assert one.links == other.links
    macs = {node.mac for node in (*one.nodes, *other.nodes)}
    assert len(macs) == 4


def test_a_thousand_nodes_load() -> None:
    names = [f"obu{index}" for index in range(1000)]
    topology = load(
        "name: big\ntopology:\n  defaults: {kind: obu}\n  nodes:\n    rsu1: {kind: rsu}\n"
        + "".join(f"    {name}:\n" for name in names)
        + f"  segments: {{all: [rsu1, {', '.join(names)}]}}\n"
    )
    assert len({node.ipv4 for node in topology.nodes}) == 1001
    assert len({node.mac for node in topology.nodes}) == 1001


def test_values_go_through_json() -> None:
    for name in ("line", "cell", "highway"):
        topology = load_topology(name)
        assert Topology.from_json(json.loads(json.dumps(topology.to_json()))) == topology


def test_a_node_with_a_command_goes_through_json() -> None:
    topology = road()
    nodes = tuple(
        dataclasses.replace(
            node,
            position=(1.5, 2.0),
            settings=dataclasses.replace(
                node.settings,
                command=("prog", "--ip", "{ip}"),
                env=(("A", "b"), ("C", "{name}")),
                ready=Ready(how="log", pattern="up .*"),
                user="nobody",
            ),
        )
        for node in topology.nodes
    )
    topology = dataclasses.replace(topology, nodes=nodes, source=None)
    assert Topology.from_json(json.loads(json.dumps(topology.to_json()))) == topology


def test_json_of_another_format_is_refused() -> None:
    values = road().to_json() | {"format": 99}
    with pytest.raises(ValueError, match="format 99, this version reads 2"):
        Topology.from_json(values)


def test_a_node_that_is_not_there_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        road().node("obu9")


# Where a file is found


def test_a_path_is_read_as_given(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: ${NAME}\ntopology:\n  nodes: {a: {kind: rsu}, b: {kind: obu}}\n  links: [[a, b]]\n"
    )
    topology = load_topology(path, env={"NAME": "mine"})
    assert (topology.name, topology.source) == ("mine", str(path))


def test_the_environment_is_the_process_own_unless_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELLO_PERIOD", "300ms")
    assert load_topology("highway").node("rsu1").settings.hello_periodicity_ms == 300
    assert load_topology("highway", env={}).node("rsu1").settings.hello_periodicity_ms == 1000


def test_a_file_in_the_working_directory_wins_over_a_shipped_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cell").mkdir()
    assert load_topology("cell").name == "cell"
    (tmp_path / "pair").write_text(
        "name: mine\ntopology:\n  nodes: {a: {kind: rsu}, b: {kind: obu}}\n  links: [[a, b]]\n"
    )
    assert load_topology("pair").name == "mine"


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"name: in\ntopology:\n  nodes: {a: {kind: rsu}, b: {kind: obu}}\n  links: [[a, b]]\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    topology = load_topology("-")
    assert (topology.name, topology.source) == ("in", "<stdin>")


def test_an_unknown_bare_name() -> None:
    with pytest.raises(InputError) as caught:
        load_topology("higway")
    assert str(caught.value) == (
        "higway: there is no such file, and no shipped topology of that name, "
        "did you mean 'highway'? "
        "(expected a file, - for standard input, or one of cell, highway, line, pair)"
    )


def test_a_missing_file() -> None:
    with pytest.raises(InputError) as caught:
        load_topology("nowhere/pair.yaml")
    assert str(caught.value) == "nowhere/pair.yaml: there is no such file"


@pytest.mark.parametrize("name", ["", "a b", "a.b", "_a", "-a", "a" * 33, "ä", "a/b", "a\n"])
def test_a_name_that_no_testbed_can_have(name: str) -> None:
    with pytest.raises(InputError, match="this cannot be the name of a testbed") as caught:
        load_topology("pair", name=name)
    assert caught.value.exit_code == 2
