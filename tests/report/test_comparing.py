"""Two runs against each other: what is worse or better is said, what cannot be told is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from made_results import ENVIRONMENT, RATES, pairs, result

from testbed.errors import InputError
from testbed.measure.statistics import (
    WATCHED,
    Comparison,
    Outcome,
    compare_runs,
    holm,
    unpaired_ratio,
)
from testbed.report.comparison import comparison, comparison_json
from testbed.report.markdown import render_sections
from testbed.results import Check, Load, Point, Result, Trial

TOPOLOGY = {"name": "pair", "nodes": [{"name": "rsu1"}, {"name": "obu1"}]}


def run(seed: int = 1, *, baseline: Any = None, candidate: Any = None, **changes: Any) -> Result:
    """Five pairs at medium load, with 2 % of noise on the CPU time."""
    trials = pairs(load="medium", seed=seed, baseline=baseline, candidate=candidate)
    return result(trials, **{"topology": TOPOLOGY, **changes})


def outcomes(found: Comparison, variant: str = "batched") -> dict[str, Outcome]:
    return {one.quantity: one.outcome for one in found.compared if one.variant == variant}


def waiting(whole: Result, share: float) -> Result:
    """The same, on a machine with other work: nodes waited that share of the time."""
    trials = []
    for one in whole.trials:
        values = one.model_dump()
        cpu = values["node"]["cpu"]
        cpu["run_delay_ns"] = round(share * cpu["window_ns"])
        trials.append(Trial.model_validate(values))
    return whole.model_copy(update={"trials": trials})


def test_the_same_program_is_the_same() -> None:
    found = compare_runs(run(1), run(2))
    assert set(outcomes(found).values()) == {Outcome.SAME}
    assert not found.regressions
    assert "0 worse" not in render_sections(comparison(run(1), run(2), found))


def test_more_cpu_for_a_packet_is_worse_and_less_is_better() -> None:
    slower = run(2, candidate={"cpu_us": 30.0})
    found = compare_runs(run(1), slower)
    assert outcomes(found)["cpu_us_per_packet"] is Outcome.WORSE
    assert outcomes(found, "per-packet")["cpu_us_per_packet"] is Outcome.SAME
    (one,) = found.regressions
    assert one.change.ratio == pytest.approx(1.5, rel=0.05)
    back = compare_runs(slower, run(1))
    assert outcomes(back)["cpu_us_per_packet"] is Outcome.BETTER
    assert not back.regressions


def test_fewer_delivered_packets_are_worse() -> None:
    found = compare_runs(run(1), run(2, candidate={"delivered": 900}))
    assert outcomes(found)["delivered_pps"] is Outcome.WORSE


def test_a_change_within_the_threshold_is_none_however_sure_it_is() -> None:
    found = compare_runs(run(1), run(2, candidate={"p50_us": 110.0}))
    assert outcomes(found)["latency_p50_us"] is Outcome.SAME
    found = compare_runs(run(1), run(2, candidate={"p50_us": 110.0}), threshold=1.05)
    assert outcomes(found)["latency_p50_us"] is Outcome.WORSE


def test_few_trials_decide_nothing() -> None:
    two = result(pairs(2, load="medium", candidate={"cpu_us": 90.0}), topology=TOPOLOGY)
    found = compare_runs(run(1), two)
    assert set(outcomes(found).values()) == {Outcome.UNDECIDED}
    assert "5 trials before and 2 now are too few" in found.compared[0].reason


def test_other_work_on_the_machine_is_no_change_of_the_program() -> None:
    disturbed = waiting(run(2, candidate={"cpu_us": 30.0, "p50_us": 400.0}), 0.3)
    found = compare_runs(run(1), disturbed)
    assert outcomes(found)["cpu_us_per_packet"] is Outcome.UNDECIDED
    assert outcomes(found)["latency_p50_us"] is Outcome.UNDECIDED
    assert outcomes(found)["pss_bytes"] is Outcome.SAME
    text = render_sections(comparison(run(1), disturbed, found))
    assert "disturbed, 30 %" in text
    assert "Disturbed: the node waited that share of the time for its CPU" in text


def test_what_costs_three_times_as_much_is_seen_on_a_busy_machine_too() -> None:
    found = compare_runs(run(1), waiting(run(2, candidate={"cpu_us": 60.0}), 0.3))
    assert outcomes(found)["cpu_us_per_packet"] is Outcome.WORSE


def elsewhere(whole: Result, **features: Any) -> Result:
    environment = ENVIRONMENT.model_copy(update={"cpu_model": "Another CPU", **features})
    return whole.model_copy(update={"environment": environment})


def test_figures_of_different_machines_are_never_compared_ratios_are() -> None:
    fast = {"cpu_us": 5.0}
    found = compare_runs(run(1), elsewhere(run(2, baseline=fast, candidate=fast)))
    assert found.relative
    assert {one.variant for one in found.compared} == {"batched"}
    assert outcomes(found)["cpu_us_per_packet"] is Outcome.SAME
    text = render_sections(comparison(run(1), elsewhere(run(2)), found))
    assert "The machine is another one (CPU: Example CPU and Another CPU)" in text
    slower = elsewhere(run(2, baseline=fast, candidate={"cpu_us": 7.5}))
    assert outcomes(compare_runs(run(1), slower))["cpu_us_per_packet"] is Outcome.WORSE


def test_a_little_memory_more_is_the_same_machine() -> None:
    more = ENVIRONMENT.memory_total_bytes + (8 << 20)
    assert not compare_runs(
        run(1), elsewhere(run(2), cpu_model="Example CPU", memory_total_bytes=more)
    ).relative


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "path"}, "the kind of measurement differs"),
        ({"flows": 4}, "the number of flows differs"),
        ({"topology": {"name": "cell"}}, "the topology differs"),
        ({"topology": {**TOPOLOGY, "nodes": [{"name": "rsu1"}]}}, "the set of nodes differs"),
    ],
)
def test_another_scenario_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        compare_runs(run(1), run(2, **changes))


def test_another_load_of_the_same_name_is_left_out() -> None:
    loads = [
        Load(name=n, rate_pps=7_000 if n == "medium" else rate, duration_s=2.0)
        for n, rate in RATES.items()
    ]
    with pytest.raises(InputError, match=r"another load \(5000 pps and 7000 pps\)"):
        compare_runs(run(1), run(2, loads=loads))
    both = pairs(load="high", first=50)
    old, new = run(1), run(2, loads=loads)
    old = old.model_copy(update={"trials": [*old.trials, *both]})
    new = new.model_copy(update={"trials": [*new.trials, *both]})
    found = compare_runs(old, new)
    assert {one.cell.load for one in found.compared} == {"high"}
    assert "another load" in found.left_out[0]


def test_another_node_of_the_same_name_is_left_out() -> None:
    point = Point(name="obu-relay", nodes=["obu2"], node_kind="obu", path="relay")
    with pytest.raises(InputError, match="another node or another way through it"):
        compare_runs(run(1), run(2, points=[point]))


def test_what_else_differs_is_told() -> None:
    new = elsewhere(run(2), cpu_model="Example CPU", kernel="6.19.0")
    settings = {**new.scenario.variants[1].settings, "batch": 64}
    variants = list(new.scenario.variants)
    variants[1] = variants[1].model_copy(update={"settings": settings})
    scenario = new.scenario.model_copy(update={"variants": variants, "form": "full"})
    found = compare_runs(
        run(1), new.model_copy(update={"scenario": scenario, "notes": ["it was late"]})
    )
    assert found.cautions == (
        "The kernel differs: 6.18.0 and 6.19.0.",
        "The old run is the quick form, the new one the full form.",
        "The variant batched was told other things: batch 32 and 64.",
        "In the new run: it was late.",
    )


def test_what_breaks_is_a_regression_whatever_the_figures() -> None:
    def checked(passed: bool) -> Check:
        return Check(
            variant="batched", kind="group", topology="cell", passed=passed,
            why=None if passed else "1 of 3 OBUs got a copy",
        )  # fmt: skip

    old, new = run(1, checks=[checked(True)]), run(2, checks=[checked(False)])
    found = compare_runs(old, new)
    assert found.broken == ("batched: group in cell (1 of 3 OBUs got a copy)",)
    assert compare_runs(new, old).mended == found.broken
    damaged = run(2, candidate={"corrupted": 3})
    assert compare_runs(run(1), damaged).broken == ("batched: delivers damaged packets",)
    assert compare_runs(damaged, damaged).broken == ()


def test_the_answer_as_values_says_the_same() -> None:
    old, new = run(1), run(2, candidate={"cpu_us": 30.0})
    found = compare_runs(old, new)
    values = comparison_json(old, new, found)
    assert values["regressions"] == 1
    (worse,) = [one for one in values["compared"] if one["outcome"] == "worse"]
    assert (worse["variant"], worse["quantity"]) == ("batched", "cpu_us_per_packet")
    assert worse["low"] > 1.15
    assert compare_runs(old, new) == found


def test_holm_adjusts_for_how_many_there_are() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_unpaired_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    runs, hits = 300, 0
    for seed in range(runs):
        a, b = np.exp(rng.normal(0, 0.1, (2, 5)))
        made = unpaired_ratio(list(a), list(1.25 * b), seed=seed)
        assert made.low is not None
        assert made.high is not None
        hits += made.low <= 1.25 <= made.high
    assert hits / runs >= 0.95 - 0.038


def test_one_family_of_identical_runs_in_twenty_has_a_false_alarm_at_most() -> None:
    """Eight quantities of five trials each, of which none has changed, without any threshold."""
    rng = np.random.default_rng(5)
    families, alarms = 200, 0
    for _ in range(families):
        chances = []
        for _ in WATCHED:
            a, b = np.exp(rng.normal(0, 0.1, (2, 5)))
            chance = _quick(a, b)
            chances.append(chance)
        alarms += min(holm(chances)) < 0.05
    assert alarms <= families / 20


def _quick(a: Any, b: Any) -> float:
    """The probability alone; the interval plays no part in it."""
    from testbed.measure.statistics.unpaired import Change

    a, b = np.log(a), np.log(b)
    parts = [float(x.var(ddof=1)) / len(x) for x in (a, b)]
    chance = Change(
        ratio=1.0, low=0.5, high=2.0, values=(len(a), len(b)),
        shift=float(b.mean() - a.mean()), error=sum(parts) ** 0.5,
        freedom=sum(parts) ** 2 / sum(p**2 / (len(a) - 1) for p in parts),
    ).probability(1.0)  # fmt: skip
    assert chance is not None
    return chance
