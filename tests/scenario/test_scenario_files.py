"""Scenario files: what they come to, and one clear message for each mistake."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest

from testbed.checks import ground
from testbed.errors import InputError
from testbed.scenario.loader import load_scenario
from testbed.scenario.model import Scenario, shortfalls
from testbed.topology.model import NodeSettings

SMALL = """\
name: small
topology: pair
measure:
  relay: {node: obu1, path: relay}
traffic:
  loads: {low: 500pps, max: max}
variants:
  one: {baseline: true, batch: 1}
  many: {batch: 32}
"""


def load(text: str, folder: Path) -> Scenario:
    path = folder / "scenario.yaml"
    path.write_text(dedent(text))
    return load_scenario(path, env={})


def problems(text: str, folder: Path) -> list[str]:
    """Every error in the file, without the file's name."""
    with pytest.raises(InputError) as error:
        load(text, folder)
    found = getattr(error.value, "problems", (error.value,))
    return [str(problem).replace(f"{folder / 'scenario.yaml'}:", "") for problem in found]


def test_what_is_left_out_has_documented_defaults(tmp_path: Path) -> None:
    made = load(SMALL, tmp_path)
    assert made.kind == "node"
    assert made.flows == 1
    assert made.full.frame_bytes == (256,)
    assert made.full.pairs == 10
    assert made.full.trial_s == {"low": 10.0, "max": 10.0}
    assert made.full.warm_up_s == 1.0
    assert made.full.counting is None
    assert made.quick.form == "quick"
    assert made.quick.pairs == made.full.pairs
    assert len(made.targets) == 20
    assert made.point("relay").tester_at == "rsu1"
    assert made.load("max").rate_pps is None


def test_a_variant_lies_over_the_settings_of_the_node(tmp_path: Path) -> None:
    made = load(SMALL, tmp_path)
    node = made.topology.node("obu1")
    one, many = made.variants
    assert made.baseline is one
    assert one.settings(node).batch == 1
    assert many.settings(node).batch == 32
    assert many.settings(node).hello_periodicity_ms == node.settings.hello_periodicity_ms


def test_a_variant_may_set_what_is_the_default_anyway(tmp_path: Path) -> None:
    text = SMALL.replace("{batch: 32}", f"{{batch: {NodeSettings().batch}, max_wait: 0us}}")
    overrides = load(text, tmp_path).variants[1].overrides
    assert overrides == {"batch": NodeSettings().batch, "max_wait_us": 0}


def test_a_sweep_is_one_variant_for_each_value(tmp_path: Path) -> None:
    text = SMALL + "  several: {like: many, sweep: {batch: [8, 16], max_wait: [0us, 1ms]}}\n"
    made = load(text, tmp_path)
    assert {
        v.name: (v.overrides["batch"], v.overrides["max_wait_us"]) for v in made.variants[2:]
    } == {
        "several-8-0us": (8, 0),
        "several-8-1ms": (8, 1000),
        "several-16-0us": (16, 0),
        "several-16-1ms": (16, 1000),
    }


def test_the_quick_form_takes_less(tmp_path: Path) -> None:
    text = SMALL + dedent("""\
        counting: {trial: 2s}
        quick:
          loads: [max]
          repeats: 5
          trial: {max: 1s}
          counting: {repeats: 2}
    """)
    made = load(text, tmp_path)
    quick = made.quick
    assert quick.loads == ("max",)
    assert quick.pairs == 5
    assert quick.trial_s["max"] == 1.0
    assert quick.counting is not None
    assert (quick.counting.trial_s, quick.counting.repeats) == (2.0, 2)
    assert shortfalls(made, quick=True) == (
        "5 pairs of trials where the full form takes 10",
        "trials of 1 s; the rules ask for at least 2 s, and for 10 s in a full run, RFC 2544 60 s",
        "no timed trials at low load",
        "checked with some frame sizes, the full form with every one",
    )
    assert shortfalls(made, quick=False) == ()


def test_too_few_pairs_fall_short_of_the_rules(tmp_path: Path) -> None:
    made = load(SMALL + "repeats: 2\n", tmp_path)
    assert shortfalls(made, quick=False) == ("2 pairs of trials; the rules ask for at least 5",)


def test_the_topology_is_looked_for_beside_the_scenario(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "name: mine\ntopology:\n  nodes: {r: {kind: rsu}, obu1: {kind: obu}}\n"
        "  links: [[r, obu1]]\n"
    )
    made = load(SMALL.replace("pair", "mine.yaml"), tmp_path)
    assert made.topology.name == "mine"
    assert made.point("relay").tester_at == "r"


def test_a_shipped_scenario_is_found_by_its_bare_name() -> None:
    assert load_scenario("batching", env={}).name == "batching"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("topology: pair", "topology: pear"),
            (
                "2: topology: there is no such file, and no shipped topology of that name, did you "
                "mean 'pair'? (got 'pear'; expected a file, or one of cell, highway, line, pair)"
            ),
        ),
        (
            ("node: obu1", "node: obu7"),
            (
                "4: measure.relay.node: there is no such node in the topology, did you mean "
                "'obu1'? (got 'obu7'; expected one of rsu1, obu1)"
            ),
        ),
        (
            ("{node: obu1, path: relay}", "{node: rsu1, path: relay}"),
            (
                "4: measure.relay.path: rsu1 is an RSU, and has no such way through it "
                "(got 'relay'; expected tap-to-wire or wire-to-tap or hairpin or group)"
            ),
        ),
        (
            ("path: relay}", "path: relay, tester: obu1}"),
            (
                "4: measure.relay.tester: there is no such neighbour of obu1 "
                "(got 'obu1'; expected one of rsu1)"
            ),
        ),
        (
            ("path: relay}", "path: relay, loads: [high]}"),
            (
                "4: measure.relay.loads[0]: there is no such load of this scenario "
                "(got 'high'; expected one of low, max)"
            ),
        ),
        (
            ("low: 500pps", "low: 500"),
            (
                "6: traffic.loads.low: the unit is missing (got 500; expected a packet rate "
                "such as 500pps or 50kpps, or max)"
            ),
        ),
        (
            ("low: 500pps", "low: 0pps"),
            (
                "6: traffic.loads.low: too small (got '0pps'; expected a packet rate such as "
                "500pps or 50kpps, or max)"
            ),
        ),
        (
            ("loads: {low: 500pps, max: max}", "loads: {}"),
            "6: traffic.loads: is empty (expected at least one load)",
        ),
        (
            ("baseline: true, ", ""),
            "7: variants: none is the baseline (expected baseline: true at exactly one variant)",
        ),
        (
            ("many: {batch: 32}", "many: {batch: 32, baseline: true}"),
            (
                "7: variants: one and many are baselines "
                "(expected baseline: true at exactly one variant)"
            ),
        ),
        (
            ("  many: {batch: 32}\n", ""),
            "7: variants: one variant only (expected at least two to compare)",
        ),
        (
            ("many: {batch: 32}", "many: {like: on}"),
            (
                "9: variants.many.like: there is no such variant, did you mean 'one'? "
                "(got 'on'; expected one of one, many)"
            ),
        ),
        (
            ("many: {batch: 32}", "many: {like: many}"),
            "9: variants.many.like: goes round in a circle (got 'many')",
        ),
        (
            ("many: {batch: 32}", "many: {sweep: {batsh: [1]}}"),
            (
                "9: variants.many.sweep.batsh: there is no such setting of a node, did you mean "
                "'batch'? (got 'batsh'; expected one of hello, cached_candidates, mtu, engine, "
                "handler, batch, adaptive_batch, coalesce, max_wait, group_copies, metrics)"
            ),
        ),
        (
            ("many: {batch: 32}", "many: {sweep: {batch: [8, 0]}}"),
            (
                "9: variants.many.sweep.batch[1]: too small "
                "(got 0; expected a whole number from 1 to 256)"
            ),
        ),
        (
            ("many: {batch: 32}", "many: {sweep: {batch: []}}"),
            "9: variants.many.sweep.batch: has no values (expected a list of values)",
        ),
        (
            ("many: {batch: 32}", "many: {batch: 0}"),
            "9: variants.many.batch: too small (got 0; expected a whole number from 1 to 256)",
        ),
        (
            ("many: {batch: 32}", "many: {bach: 8}"),
            "9: variants.many: unknown key 'bach', did you mean 'batch'?",
        ),
        (
            ("many: {batch: 32}", "many: {only: {passes: [time]}}"),
            (
                "9: variants.many.only.passes[0]: unknown value, did you mean 'timing'? "
                "(got 'time'; expected 'timing' or 'search' or 'counting')"
            ),
        ),
    ],
)
def test_a_mistake_is_told_with_line_value_and_what_was_expected(
    change: tuple[str, str], message: str, tmp_path: Path
) -> None:
    assert change[0] in SMALL
    assert problems(SMALL.replace(*change), tmp_path) == [message]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("repeats: 0", "10: repeats: too small (got 0; expected a whole number from 1 to 1000)"),
        (
            "trial: 10ms",
            "10: trial: too small (got '10ms'; expected a time from 100ms to 60min, such as 2s)",
        ),
        (
            "trial: {high: 2s}",
            (
                "10: trial.high: there is no such load of this scenario "
                "(got 'high'; expected one of low, max)"
            ),
        ),
        ("trial: {}", "10: trial: is empty (expected a time, or a time for each load)"),
        ("kind: pats", "10: kind: unknown value, did you mean 'path'? (got 'pats'; expected "),
        (
            "targets: [memori]",
            "10: targets[0]: unknown value, did you mean 'memory'? (got 'memori'; expected ",
        ),
        (
            "quick: {measure: [other]}",
            (
                "10: quick.measure[0]: there is no such point of this scenario "
                "(got 'other'; expected one of relay)"
            ),
        ),
        (
            "quick: {loads: []}",
            "10: quick.loads: is empty (expected at least one load of this scenario)",
        ),
        (
            "counting: {loads: [none]}",
            (
                "10: counting.loads[0]: there is no such load of this scenario "
                "(got 'none'; expected one of low, max)"
            ),
        ),
        ("repeat: 5", "10: unknown key 'repeat', did you mean 'repeats'?"),
    ],
)
def test_a_mistaken_line_is_told(line: str, message: str, tmp_path: Path) -> None:
    found = problems(SMALL + line + "\n", tmp_path)
    assert len(found) == 1
    assert found[0].startswith(message)


def test_a_point_without_a_load_left_in_the_quick_form_is_told(tmp_path: Path) -> None:
    text = SMALL.replace("path: relay}", "path: relay, loads: [low]}") + "quick: {loads: [max]}\n"
    assert problems(text, tmp_path) == [
        "10: quick: relay has no load left to be measured at (expected one of low)"
    ]


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    text = SMALL.replace("node: obu1", "node: obu7").replace("baseline: true, ", "")
    assert len(problems(text, tmp_path)) == 2


def test_a_missing_file_is_told() -> None:
    with pytest.raises(InputError, match="there is no such file"):
        load_scenario("nowhere/scenario.yaml", env={})
    with pytest.raises(
        InputError, match="no shipped scenario of that name, did you mean 'batching'"
    ):
        load_scenario("batchin", env={})


def test_a_frame_that_a_tap_on_the_way_cannot_carry_is_refused_by_place(tmp_path: Path) -> None:
    (tmp_path / "narrow.yaml").write_text(
        "name: narrow\ntopology:\n  nodes: {rsu1: {kind: rsu}, obu1: {kind: obu, mtu: 1280}}\n"
        "  links: [[rsu1, obu1]]\n"
    )
    narrow = SMALL.replace("topology: pair", "topology: narrow.yaml")
    sizes = narrow.replace("traffic:\n", "traffic:\n  frame_sizes: [256, 1294, 1295, imix]\n")
    expected = "(got {}; expected at most its mtu and 14, 1294 bytes)"
    told = "the TAP of obu1 under one carries no such frame, as relay needs it to "
    assert problems(sizes, tmp_path) == [
        f"6: traffic.frame_sizes[2]: {told}" + expected.format(1295),
        f"6: traffic.frame_sizes[3]: {told}" + expected.format("'imix'"),
    ]
    assert problems(narrow + "quick: {frame_sizes: [1450]}\n", tmp_path) == [
        f"10: quick.frame_sizes[0]: {told}" + expected.format(1450)
    ]
    # The node at the other end has room, and so has this one where a variant gives it.
    load(sizes.replace("node: obu1, path: relay", "node: rsu1, path: wire-to-tap"), tmp_path)
    load(sizes.replace("batch: 1}", "mtu: 1436}").replace("32}", "32, mtu: 1436}"), tmp_path)


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        (SMALL, ("obu",)),
        (SMALL.replace("{node: obu1, path: relay}", "{node: rsu1, path: group}"), ("rsu",)),
        (
            SMALL.replace("traffic:", "  group: {node: rsu1, path: group}\ntraffic:"),
            ("obu", "rsu"),
        ),
        (SMALL + "checks: {kinds: [rsu, obu]}\n", ("obu", "rsu")),
        ("name: x\nkind: checks\ntopology: pair\nvariants: {one: {}}\n", ("obu", "rsu")),
        (
            "name: x\nkind: checks\ntopology: pair\nvariants: {one: {}}\nchecks: {kinds: [obu]}\n",
            ("obu",),
        ),
    ],
)
def test_in_checks_a_variant_plays_the_kinds_of_nodes_under_test(
    text: str, kinds: tuple[str, ...], tmp_path: Path
) -> None:
    made = load(text, tmp_path)
    assert made.checks.kinds == kinds
    variant = replace(made.variants[0], overrides={"command": ("their", "{kind}")})
    island = ground.as_variant(ground.cell(), variant, made.checks.kinds)
    assert {node.kind for node in island.nodes if node.settings.is_program} == set(kinds)
    assert {node.settings.hello_periodicity_ms for node in island.nodes} == {ground.HELLO_MS}


def test_checks_without_a_kind_to_play_are_refused(tmp_path: Path) -> None:
    assert problems(SMALL + "checks: {kinds: []}\n", tmp_path) == [
        "10: checks.kinds: is empty (expected obu or rsu)"
    ]


@pytest.mark.parametrize("key", ["search", "counting", "quick"])
def test_what_is_timed_has_no_place_in_a_scenario_of_checks(tmp_path: Path, key: str) -> None:
    text = f"name: x\nkind: checks\ntopology: pair\nvariants: {{one: {{}}}}\n{key}: {{}}\n"
    assert problems(text, tmp_path) == [
        f"5: {key}: has no meaning in a scenario of kind checks (expected node or path)"
    ]
