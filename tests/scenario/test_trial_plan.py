"""The order of trials: pairs at once, A B B A within a cell, cells spread over the run."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from test_scenario_files import SMALL, load

from testbed.experiment.trialplan import PlannedTrial, estimated_s, plan_trials, replacements
from testbed.scenario.model import Scenario

THREE = SMALL + "  other: {batch: 8}\n"
COUNTED = SMALL.replace("{batch: 32}", "{batch: 32}") + (
    "  counted: {like: many, sweep: {batch: [1, 8]}, only: {passes: [counting], loads: [max]}}\n"
    "repeats: 5\ncounting: {trial: 500ms, repeats: 3, loads: [max]}\n"
)


@pytest.fixture
def scenario(tmp_path: Path) -> Scenario:
    return load(COUNTED, tmp_path)


def of_cell(plan: tuple[PlannedTrial, ...], load_: str) -> list[PlannedTrial]:
    return [trial for trial in plan if trial.pass_ == "timing" and trial.load == load_]


@pytest.mark.parametrize("load_", ["low", "max"])
def test_two_variants_alternate_a_b_b_a_in_every_cell(scenario: Scenario, load_: str) -> None:
    order = [trial.variant for trial in of_cell(plan_trials(scenario, quick=False), load_)]
    first = order[0]
    pattern = "".join("A" if name == first else "B" for name in order)
    assert pattern == "ABBAABBAAB"


def test_the_trials_of_a_pair_follow_each_other_at_once(scenario: Scenario) -> None:
    plan = [trial for trial in plan_trials(scenario, quick=False) if trial.pass_ == "timing"]
    for a, b in pairwise(plan):
        if (a.load, a.pair) == (b.load, b.pair):
            assert b.id == a.id + 1
            assert {a.variant, b.variant} == {"one", "many"}
    assert Counter((t.load, t.pair, t.variant) for t in plan).most_common(1)[0][1] == 1


def test_the_pairs_of_a_cell_are_spread_over_the_run(scenario: Scenario) -> None:
    plan = [trial for trial in plan_trials(scenario, quick=False) if trial.pass_ == "timing"]
    assert [trial.pair for trial in plan] == sorted(trial.pair for trial in plan)
    assert {trial.load for trial in plan[:4]} == {"low", "max"}


def test_three_variants_share_the_baseline_of_their_repetition(tmp_path: Path) -> None:
    plan = plan_trials(load(THREE + "repeats: 2\n", tmp_path), quick=False)
    assert [trial.variant for trial in of_cell(plan, "low")] == [
        "one", "many", "other", "other", "many", "one",
    ]  # fmt: skip


def test_a_timing_trial_always_has_a_fresh_node(scenario: Scenario) -> None:
    assert all(t.fresh for t in plan_trials(scenario, quick=False) if t.pass_ == "timing")


def test_the_counting_pass_keeps_one_life_of_the_node_for_a_variant(scenario: Scenario) -> None:
    counting = [t for t in plan_trials(scenario, quick=False) if t.pass_ == "counting"]
    assert [(t.variant, t.pair, t.fresh) for t in counting] == [
        (name, pair, pair == 0)
        for name in ("one", "many", "counted-1", "counted-8")
        for pair in range(3)
    ]
    assert {(t.load, t.duration_s) for t in counting} == {("max", 0.5)}


def test_trials_are_numbered_in_order_and_the_plan_is_the_same_each_time(
    scenario: Scenario,
) -> None:
    plan = plan_trials(scenario, quick=False)
    assert [trial.id for trial in plan] == list(range(len(plan)))
    assert plan == plan_trials(scenario, quick=False)


def test_the_estimate_adds_up_trials_warm_ups_and_restarts(scenario: Scenario) -> None:
    plan = plan_trials(scenario, quick=False)
    # 20 timing trials of 10 s and 12 stretches of 0.5 s; 20 + 4 fresh nodes.
    assert estimated_s(plan, warm_up_s=1.0, restart_s=0.5) == pytest.approx(206 + 24 * 1.5)


def timing(scenario: Scenario) -> list[PlannedTrial]:
    return [trial for trial in plan_trials(scenario, quick=False) if trial.pass_ == "timing"]


def test_a_spoiled_trial_costs_its_pair_and_its_cell_gets_another(scenario: Scenario) -> None:
    made = timing(scenario)
    spoiled = next(trial for trial in made if trial.load == "max")
    more = replacements(scenario, made, {spoiled.id}, pairs=5)
    assert [(t.load, t.variant, t.pair, t.fresh) for t in more] == [
        ("max", "many", 5, True),
        ("max", "one", 5, True),
    ]


def test_a_replacement_that_is_spoiled_too_is_replaced_in_the_other_order(
    scenario: Scenario,
) -> None:
    made = timing(scenario)
    first = replacements(scenario, made, {made[0].id}, pairs=5)
    numbered = [replace(trial, id=1000 + number) for number, trial in enumerate(first)]
    again = replacements(scenario, [*made, *numbered], {made[0].id, 1000}, pairs=5)
    assert [(trial.variant, trial.pair) for trial in again] == [("one", 6), ("many", 6)]


def test_enough_good_pairs_need_no_replacement(scenario: Scenario) -> None:
    made = timing(scenario)
    assert replacements(scenario, made, set(), pairs=5) == ()
    assert replacements(scenario, made, {made[0].id}, pairs=4) == ()
