"""Every shipped scenario can be run, keeps the rules of the method, and its time."""

from __future__ import annotations

import pytest

from testbed import shipped
from testbed.experiment.trialplan import plan_trials
from testbed.scenario.loader import load_scenario
from testbed.scenario.model import RULE_FULL_TRIAL_S, RULE_PAIRS, RULE_TRIAL_S, shortfalls
from testbed.targets import BY_KEY, Band

NAMES = shipped.names("scenarios")

# What a trial costs beyond its traffic and warm-up on two cores: restart, probes, silence after it.
FRESH_S = 0.45
AGAIN_S = 0.32
# What the checks of a few variants take, all at once, in the quick form.
CHECKS_S = 3.8


def seconds(name: str, *, quick: bool) -> float:
    scenario = load_scenario(name, env={})
    warm_up_s = scenario.extent(quick=quick).warm_up_s
    return CHECKS_S + sum(
        trial.duration_s
        + (FRESH_S if trial.fresh else AGAIN_S)
        + (warm_up_s if trial.pass_ == "timing" else 0)
        for trial in plan_trials(scenario, quick=quick)
    )


def test_there_are_shipped_scenarios() -> None:
    assert "batching" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_planned_and_its_quick_form_is_quicker_and_says_so(name: str) -> None:
    scenario = load_scenario(name, env={})
    assert scenario.description
    if scenario.kind != "checks":
        assert plan_trials(scenario, quick=True)
        assert seconds(name, quick=True) < seconds(name, quick=False) / 4
    assert shortfalls(scenario, quick=True)


@pytest.mark.parametrize("quick", [True, False])
def test_batching_keeps_the_rules(quick: bool) -> None:
    scenario = load_scenario("batching", env={})
    extent = scenario.extent(quick=quick)
    assert extent.pairs >= RULE_PAIRS
    least = RULE_TRIAL_S if quick else RULE_FULL_TRIAL_S
    assert all(extent.trial_s[load] >= least for load in extent.loads)
    assert extent.counting is not None
    assert extent.counting.repeats >= RULE_PAIRS
    assert bool(shortfalls(scenario, quick=quick)) == quick


def test_batching_takes_a_minute_and_a_half_at_most_or_twenty_minutes() -> None:
    assert seconds("batching", quick=True) <= 90
    assert seconds("batching", quick=False) <= 20 * 60


def test_batching_measures_every_documented_claim() -> None:
    scenario = load_scenario("batching", env={})
    assert set(scenario.targets) == set(BY_KEY)
    bands = {load.name: Band.of(load.rate_pps) for load in scenario.loads}
    assert {name: str(band) for name, band in bands.items()} == {
        name: name for name in ("low", "medium", "high", "max")
    }
    node = scenario.topology.node("obu1")
    counted = {
        variant.settings(node).batch
        for variant in scenario.variants
        if "counting" in variant.passes and not variant.baseline
    }
    assert counted == {1, 8, 16, 32}
    for kind in ("obu", "rsu"):
        first = next(
            point
            for point in scenario.points
            if scenario.topology.node(point.nodes[0]).kind == kind
        )
        assert {"medium", "high", "max"} <= set(first.loads)


def test_quick_batching_measures_below_and_above_saturation() -> None:
    quick = load_scenario("batching", env={}).quick
    assert quick.loads == ("high", "max")
    assert quick.counting is not None
    assert quick.counting.loads == ("max",)
