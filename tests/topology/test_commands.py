"""A node that is a program: what a file may say of it, what it comes to, and what is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from testbed.errors import InputError
from testbed.files import yamlfile
from testbed.launch.messages import NodeSpec
from testbed.running.plan import node_spec, operation_from_json, operation_to_json, plan
from testbed.scenario.loader import load_scenario
from testbed.topology.effect import heeded
from testbed.topology.loader import topology_of
from testbed.topology.model import NodeSettings, Ready, Topology
from testbed.topology.placeholders import MEANINGS, fill, names_in, values_for


def road(obu1: str, rest: str = "") -> Topology:
    text = (
        f"name: road\ntopology:\n  nodes:\n    rsu1: {{kind: rsu}}\n    obu1: {{{obu1}}}\n"
        f"  links:\n    - [rsu1, obu1]\n{rest}"
    )
    return topology_of(yamlfile.parse(text, file="f", env={}))


def spec(topology: Topology, name: str = "obu1") -> NodeSpec:
    return node_spec(topology.name, topology.node(name))


def test_a_command_runs_in_place_of_the_agent_with_everything_filled_in() -> None:
    topology = road(
        "kind: obu, mtu: 1400, command: [node, '{kind}', '--bind', '{iface}', '--tap-name', "
        "'{tap}', '--ip', '{ip}/{prefix}', '-m', '{mtu}', '{{{name}}}'], "
        "env: {RUST_LOG: info, ADDRESS: '{ip6}'}, stop: SIGINT, user: nobody"
    )
    made = spec(topology)
    assert made.config is None
    assert made.program is not None
    node = topology.node("obu1")
    assert made.program.argv == (
        "node", "obu", "--bind", "radio0", "--tap-name", "tap0", "--ip", "10.77.0.2/16", "-m",
        "1400", "{obu1}",
    )  # fmt: skip
    assert made.program.env == {"RUST_LOG": "info", "ADDRESS": str(node.ipv6.ip)}
    assert (made.program.stop, made.program.user) == ("SIGINT", "nobody")
    assert (made.program.tap, made.program.answers_on) == ("tap0", "radio0")
    assert made.program.addresses == ("10.77.0.2/16", str(node.ipv6))
    assert spec(topology, "rsu1").program is None
    for operation in plan(topology).operations:
        assert operation_from_json(operation_to_json(operation)) == operation


@pytest.mark.parametrize(
    ("said", "ready", "within_ms"),
    [
        ("", Ready(how="tap"), 10_000),
        (", ready: tap", Ready(how="tap"), 10_000),
        (", ready: started", Ready(how="started"), 10_000),
        (", ready: {within: 2s}", Ready(how="tap"), 2000),
        (", ready: {log: 'up on .*', within: 1min}", Ready(how="log", pattern="up on .*"), 60_000),
    ],
)
def test_when_it_is_ready(said: str, ready: Ready, within_ms: int) -> None:
    settings = road(f"kind: obu, command: [node]{said}").node("obu1").settings
    assert (settings.ready, settings.ready_within_ms) == (ready, within_ms)


def test_of_a_program_that_is_only_started_nothing_else_is_asked() -> None:
    program = spec(road("kind: obu, command: [node], ready: started")).program
    assert program is not None
    assert (program.tap, program.addresses, program.answers_on) == (None, (), None)


def test_a_command_comes_from_kind_group_or_defaults_and_agent_wins_it_back() -> None:
    topology = road(
        "kind: obu, command: agent",
        "  defaults: {command: [node, '{kind}'], ready: {log: up}}\n"
        "  kinds: {rsu: {command: [rsu], ready: {within: 3s}}}\n",
    )
    rsu = topology.node("rsu1").settings
    assert rsu.command == ("rsu",)
    assert (rsu.ready, rsu.ready_within_ms) == (Ready(how="log", pattern="up"), 3000)
    assert not topology.node("obu1").settings.is_program
    assert spec(topology).config is not None


def test_every_placeholder_stands_for_something() -> None:
    topology = road("kind: obu")
    node = topology.node("obu1")
    values = values_for("road", "tb.road.obu1", node, node.settings)
    assert set(values) == set(MEANINGS)
    assert all(values.values())
    assert fill("".join(f"{{{name}}} " for name in MEANINGS), values).count(" ") == len(MEANINGS)
    waiting = replace(node.settings, max_wait_us=200)
    assert values_for("road", "tb.road.obu1", node, waiting)["coalesce"] == "fixed"


def test_doubled_braces_are_braces() -> None:
    assert names_in('{{"a": "{ip}"}}') == {"ip"}
    assert fill('{{"a": "{ip}"}}', {"ip": "10.77.0.2"}) == '{"a": "10.77.0.2"}'


def test_of_its_settings_a_program_heeds_what_its_command_names() -> None:
    settings = NodeSettings(command=("node", "-b", "{batch}"), env=(("MTU", "{mtu}"),), batch=4)
    assert heeded(settings) == {"batch": 4, "mtu": 1436}
    assert "command" not in heeded(NodeSettings())
    assert heeded(NodeSettings())["engine_wire"] == "auto"


NODE = "kind: obu, command: [node, '{ip}']"


@pytest.mark.parametrize(
    ("obu1", "expected"),
    [
        (
            "kind: obu, command: [node, '{adress}']",
            "f:5: topology.nodes.obu1.command[1]: there is no placeholder {adress}",
        ),
        (
            "kind: obu, command: [node, '{taps}']",
            (
                "there is no placeholder {taps}, did you mean 'tap'? (got '{taps}'; expected one "
                "of {kind}, {name}, "
            ),
        ),
        (
            "kind: obu, command: [node, '{ip']",
            (
                "command[1]: a '{' that belongs to no placeholder (got '{ip'; expected a "
                "placeholder such as {ip}, or {{ for a brace)"
            ),
        ),
        (
            "kind: obu, command: [node, {ip}]",
            'command[1]: is a mapping, put {ip} in quotes (expected "{ip}")',
        ),
        ("kind: obu, command: [node, 5]", "command[1]: is a number, put it in quotes"),
        (
            "kind: obu, command: node --ip",
            (
                "command: is text, and no shell would take it apart (got 'node --ip'; expected a "
                'program and its arguments as a list such as ["node", "{kind}"], or agent)'
            ),
        ),
        ("kind: obu, command: []", "command: has no program"),
        ("kind: obu, command: ['']", "command: has no program"),
        (NODE + ", env: {A: '{nope}'}", "env.A: there is no placeholder {nope}"),
        (NODE + ", env: {A: 1}", "env.A: is a number, put it in quotes"),
        (NODE + ", env: {A-B: x}", "the name of a variable"),
        (NODE + ", env: {TESTBED_MARK: x}", "env: TESTBED_MARK is set by the testbed"),
        (NODE + ", env: {TESTBED_NODE: x}", "env: TESTBED_NODE is set by the testbed"),
        (NODE + ", ready: soon", "ready: unknown value"),
        (NODE + ", ready: {log: '('}", "ready.log: no regular expression (missing ), "),
        (NODE + ", ready: {log: up, how: tap}", "ready: has both how and log"),
        (NODE + ", ready: {within: 5}", "ready.within: "),
        (NODE + ", ready: {logs: up}", "ready: unknown key 'logs', did you mean 'log'?"),
        (NODE + ", stop: TERM", "stop: unknown value, did you mean 'SIGTERM'?"),
        (NODE + ", user: no body", "user: not allowed"),
        (
            "kind: obu, env: {A: b}",
            (
                "f:5: topology.nodes.obu1.env: is about a program, and our agent runs here "
                "(expected a command as well)"
            ),
        ),
        ("kind: obu, ready: {within: 1s}", "ready.within: is about a program"),
        (
            NODE + ", engine: mmsg",
            (
                "f:5: topology.nodes.obu1.engine: says nothing to this program (expected "
                "{engine_wire} in its command or env, or no such setting beside it)"
            ),
        ),
        (NODE + ", batch: 4", "batch: says nothing to this program"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(obu1: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        road(obu1)
    assert caught.value.exit_code == 2
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    "obu1",
    [
        "kind: obu, command: [node, '-b', '{batch}'], batch: 4",
        "kind: obu, command: [node], env: {BATCH: '{batch}'}, batch: 4",
        "kind: obu, command: [node, '{engine_wire}'], engine: mmsg",
        "kind: obu, command: [node]",
    ],
)
def test_what_reaches_the_program_is_taken(obu1: str) -> None:
    assert road(obu1).node("obu1").settings.is_program


def test_settings_from_further_away_need_not_concern_a_program() -> None:
    topology = road("kind: obu, command: [node]", "  defaults: {engine: mmsg, batch: 8}\n")
    assert topology.node("rsu1").settings.batch == 8


def test_the_example_in_the_documents_loads(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "foreign-nodes.md").read_text()
    cell, builds = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "theirs.yaml").write_text(cell)
    (tmp_path / "builds.yaml").write_text(builds)
    scenario = load_scenario(tmp_path / "builds.yaml", env={})
    programs = {
        variant.name: variant.settings(scenario.topology.node("obu1")).is_program
        for variant in scenario.variants
    }
    assert programs == {"before": True, "after": True, "ours": False}
    assert [node.settings.is_program for node in scenario.topology.nodes] == [
        False,
        True,
        True,
        False,
    ]


def test_how_the_topologys_program_is_dealt_with_says_nothing_about_a_variants(
    tmp_path: Path,
) -> None:
    (tmp_path / "theirs.yaml").write_text(
        "name: theirs\ntopology:\n  nodes:\n    rsu1: {kind: rsu}\n"
        "    obu1: {kind: obu, mtu: 1300, command: [theirs, '{mtu}', '{batch}'], env: {A: b}, "
        "ready: {log: up, within: 3s}, stop: SIGINT, user: nobody}\n  links: [[rsu1, obu1]]\n"
    )
    file = tmp_path / "s.yaml"
    file.write_text(
        "name: s\ntopology: theirs.yaml\nmeasure:\n  relay: {node: obu1, path: relay}\n"
        "traffic:\n  loads: {low: 100pps}\nvariants:\n"
        "  as-it-is: {baseline: true, batch: 8}\n"
        "  other: {command: [other, '{mtu}'], ready: {within: 5s}}\n"
        "  like-other: {like: other, stop: SIGHUP}\n"
        "  ours: {command: agent}\n"
    )
    scenario = load_scenario(file, env={})
    node = scenario.topology.node("obu1")
    told = {variant.name: variant.settings(node) for variant in scenario.variants}
    assert told["as-it-is"] == replace(node.settings, batch=8)
    plain = NodeSettings(mtu=1300, command=("other", "{mtu}"), ready_within_ms=5000)
    assert told["other"] == plain
    assert told["like-other"] == replace(plain, stop="SIGHUP")
    assert told["ours"] == NodeSettings(mtu=1300)


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        (
            "{command: [node], batch: 8}",
            (
                "variants.b.batch: says nothing to this program (expected {batch} in its command "
                "or env, or no such setting beside it)"
            ),
        ),
        (
            "{command: [node], sweep: {batch: [1, 8]}}",
            "variants.b.sweep.batch: says nothing to this program",
        ),
        ("{sweep: {command: [[a], [b]]}}", "variants.b.sweep.command: is not swept"),
        ("{env: {A: b}}", "variants.b.env: is about a program, and our agent runs here"),
        ("{command: [node, '{nope}']}", "variants.b.command[1]: there is no placeholder {nope}"),
    ],
)
def test_a_variant_that_makes_no_sense_is_refused(
    tmp_path: Path, variant: str, expected: str
) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(
        "name: s\ntopology: pair\nmeasure:\n  relay: {node: obu1, path: relay}\n"
        "traffic:\n  loads: {low: 100pps}\nvariants:\n  a: {baseline: true}\n"
        f"  b: {variant}\n"
    )
    with pytest.raises(InputError) as caught:
        load_scenario(file, env={})
    assert expected in str(caught.value)


def test_a_variant_may_sweep_what_its_command_names(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(
        "name: s\ntopology: pair\nmeasure:\n  relay: {node: obu1, path: relay}\n"
        "traffic:\n  loads: {low: 100pps}\nvariants:\n  a: {baseline: true}\n"
        "  b: {command: [node, -b, '{batch}'], sweep: {batch: [1, 8]}}\n"
    )
    scenario = load_scenario(file, env={})
    assert [variant.name for variant in scenario.variants] == ["a", "b-1", "b-8"]
    node = scenario.topology.node("obu1")
    made = [node_spec("t", node, variant.settings(node)).program for variant in scenario.variants]
    assert [None if one is None else one.argv[-1] for one in made] == [None, "1", "8"]
