"""Searches really made, under mixed frames and bursts: rates with the trials behind them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from test_scenario_files import load

from testbed.experiment.progress import Step
from testbed.experiment.runner import run_scenario
from testbed.experiment.trialplan import plan_searches
from testbed.measure.statistics import SearchedPlace, searches_of
from testbed.results import Traffic
from testbed.results.store import load_result

SEARCHED = """\
name: NAME
topology: pair
checks: {which: []}
measure:
  relay: {node: obu1, path: relay}
traffic:
  loads: {bursty: {rate: 2kpps, burst: 20}, stairs: {steps: [1kpps, 8kpps, 2kpps]}}
  frame_sizes: [imix]
variants:
  single: {baseline: true, engine: per-packet, handler: per-packet, batch: 1}
  batched: {engine: {wire: mmsg, tap: per-packet}, handler: batched, batch: 32}
repeats: 1
trial: 200ms
warm_up: 50ms
search:
  {trial: 100ms, bound: 100ms, width: 50%, lowest: 2kpps, highest: 20kpps, repeats: 2, longest: 20s}
"""


def test_searches_alternate_as_trials_do(tmp_path: Path) -> None:
    scenario = load(SEARCHED.replace("[imix]", "[imix, 256]"), tmp_path)
    plan = plan_searches(scenario, quick=False)
    assert [one.id for one in plan] == list(range(8))
    assert [(one.pair, one.frame_bytes, one.variant) for one in plan] == [
        (0, "imix", "single"), (0, "imix", "batched"), (0, 256, "batched"), (0, 256, "single"),
        (1, "imix", "batched"), (1, "imix", "single"), (1, 256, "single"), (1, 256, "batched"),
    ]  # fmt: skip
    only = SEARCHED.replace("batch: 32}", "batch: 32, only: {passes: [timing]}}")
    assert {one.variant for one in plan_searches(load(only, tmp_path), quick=False)} == {"single"}


def test_a_run_with_searches(root: None, run_dir: Path, tmp_path: Path, testbed_name: str) -> None:
    scenario = load(SEARCHED.replace("NAME", testbed_name), tmp_path)
    steps: list[Step] = []
    made = run_scenario(scenario, quick=False, output_dir=tmp_path / "out", progress=steps.append)
    assert load_result(tmp_path / "out") == made
    assert steps[-1].done == steps[-1].total == len(made.trials) + 4
    assert steps[-1].remaining_s == 0
    assert steps[0].remaining_s > 0

    for trial in made.trials:
        assert trial.frame_bytes == "imix"
        assert trial.traffic is not None
        assert trial.traffic.delivered == trial.traffic.offered
        if trial.load == "bursty":
            # Bursts of 20 at 2 000 a second: 20 bursts in 0.2 s.
            assert trial.traffic.offered % 20 == 0
            assert not trial.traffic.steps
        else:
            steps_are_told(trial.traffic)
    assert made.scenario.loads[0].burst == 20
    assert made.scenario.loads[1].steps_pps == [1_000, 8_000, 2_000]
    assert made.scenario.searching is not None
    assert made.scenario.searching.goals == {"ndr": 0.0, "pdr": 0.005}
    assert Counter(search.variant for search in made.searches) == {"single": 2, "batched": 2}
    place = SearchedPlace(point="relay", frame_bytes="imix")
    for search in made.searches:
        assert search in searches_of(made, place, search.variant)
        assert search.ended == "converged", search.why
        assert [bound.goal for bound in search.bounds] == ["ndr", "pdr"]
        assert search.trials
        for trial in search.trials:
            assert 2_000 <= trial.intended_pps <= 20_000
            assert trial.duration_ns == 100_000_000
            assert trial.lost == trial.offered - trial.delivered
        for bound in search.bounds:
            at_lower = [t for t in search.trials if t.intended_pps == bound.lower_pps]
            assert bound.lower_pps is None or bound.lower_trials in range(1, len(at_lower) + 1)
            if bound.lower_pps is not None and not bound.tester_limited:
                assert any(t.lost <= bound.loss_ratio * t.offered for t in at_lower)


def steps_are_told(traffic: Traffic) -> None:
    steps = traffic.steps
    assert [step.intended_pps for step in steps] == [1_000, 8_000, 2_000]
    assert sum(step.duration_ns for step in steps) == traffic.duration_ns
    assert sum(step.offered for step in steps) == traffic.offered
    assert sum(step.delivered for step in steps) == traffic.delivered
    for step in steps:
        assert step.offered <= step.intended_pps * step.duration_ns / 1e9 + 2
        assert step.latency is not None
        assert step.latency.count == step.delivered
    assert steps[1].offered > steps[2].offered > steps[0].offered


def test_every_way_and_direction_can_be_asked_for(tmp_path: Path) -> None:
    """What the issue of traffic comes to: up, down, both, OBU to OBU, to a group."""
    path = SEARCHED.replace("topology: pair", "topology: cell\nkind: path")
    for ends in (
        "from: obu1, to: rsu1", "from: obu1, to: rsu1, direction: back",
        "from: obu1, to: rsu1, direction: both", "from: obu1, to: obu2",
    ):  # fmt: skip
        (point,) = load(path.replace("node: obu1, path: relay", ends), tmp_path).points
        assert point.ends is not None
    for node, way in (
        ("obu1", "relay"), ("obu1", "relay-down"), ("obu1", "tap-to-wire"), ("obu1", "wire-to-tap"),
        ("rsu1", "hairpin"), ("rsu1", "group"), ("rsu1", "tap-to-wire"), ("rsu1", "wire-to-tap"),
    ):  # fmt: skip
        text = SEARCHED.replace("node: obu1, path: relay", f"node: {node}, path: {way}")
        (point,) = load(text, tmp_path).points
        assert point.path == way


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("lowest: 2kpps", "lowest: 30kpps"),
         "is not below highest (got '30000pps'; expected less than 20000pps)"),
        (("trial: 100ms, bound", "first_trial: 2s, trial: 100ms, bound"),
         "longer than the trials that decide (got '2s'; expected at most 0.1s)"),
        (("width: 50%", "width: 0.1%"), "a percentage from 0.5% to 50%, such as 5%"),
        (("repeats: 2,", "repeats: 2, goals: {mdr: 1%},"), "unknown value"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_search_is_told(
    change: tuple[str, str], message: str, tmp_path: Path
) -> None:
    from testbed.errors import InputError

    assert change[0] in SEARCHED
    with pytest.raises(InputError) as error:
        load(SEARCHED.replace(*change), tmp_path)
    assert message in str(error.value)
