"""What counts as exceeded, met, missed, inconclusive and not measured, and why."""

from __future__ import annotations

import pytest
from made_results import pairs, result, trial

from testbed.measure.statistics import Finding, Ratio, Verdict, assess, judge, worst_verdicts
from testbed.results import Point, Result
from testbed.targets import BY_KEY, TARGETS, Band, select


def ratio(low: float | None, high: float | None, *, count: int = 5) -> Ratio:
    middle = 1.0 if low is None or high is None else (low * high) ** 0.5
    return Ratio(ratio=middle, low=low, high=high, pairs=count, spread=0.02, method="made")


@pytest.mark.parametrize(
    ("key", "low", "high", "verdict"),
    [
        # Claimed: +10…15 %, more is better.
        ("throughput-low", 1.16, 1.20, Verdict.EXCEEDED),
        ("throughput-low", 1.11, 1.14, Verdict.MET),
        ("throughput-low", 1.10, 1.30, Verdict.MET),
        ("throughput-low", 1.05, 1.09, Verdict.MISSED),
        ("throughput-low", 0.80, 0.90, Verdict.MISSED),
        ("throughput-low", 1.05, 1.20, Verdict.INCONCLUSIVE),
        # Claimed: −15…30 %, less is better.
        ("cpu-high", 0.50, 0.60, Verdict.EXCEEDED),
        ("cpu-high", 0.72, 0.84, Verdict.MET),
        ("cpu-high", 0.60, 0.80, Verdict.MET),
        ("cpu-high", 0.90, 0.95, Verdict.MISSED),
        ("cpu-high", 1.10, 1.20, Verdict.MISSED),
        ("cpu-high", 0.80, 0.90, Verdict.INCONCLUSIVE),
        # Claimed: 2–3 times fewer.
        ("switches", 0.20, 0.30, Verdict.EXCEEDED),
        ("switches", 0.40, 0.45, Verdict.MET),
        ("switches", 0.60, 0.70, Verdict.MISSED),
        # Claimed: none added; nothing is better than none.
        ("memory", 0.50, 0.60, Verdict.MET),
        ("memory", 0.99, 1.04, Verdict.MET),
        ("memory", 0.99, 1.10, Verdict.INCONCLUSIVE),
        ("memory", 1.06, 1.10, Verdict.MISSED),
        # Claimed: exactly 1 − 1/N, to half a unit of the last place in which it is written.
        ("syscalls-32", 1 / 32, 1 / 32, Verdict.MET),
        ("syscalls-32", 0.0316, 0.0317, Verdict.MET),
        ("syscalls-32", 0.04, 0.05, Verdict.MISSED),
        ("syscalls-32", 0.02, 0.03, Verdict.EXCEEDED),
        ("syscalls-16", 1 / 16, 1 / 16, Verdict.MET),
        ("syscalls-1", 1.0, 1.0, Verdict.MET),
        ("syscalls-1", 1.02, 1.03, Verdict.MISSED),
    ],
)
def test_the_interval_against_the_claim(
    key: str, low: float, high: float, verdict: Verdict
) -> None:
    assert judge(ratio(low, high), BY_KEY[key])[0] is verdict


@pytest.mark.parametrize("count", [3, 4])
def test_fewer_than_five_pairs_decide_nothing_and_say_how_many_would(count: int) -> None:
    verdict, reason, needed = judge(ratio(2.0, 2.1, count=count), BY_KEY["throughput-low"])
    assert verdict is Verdict.INCONCLUSIVE
    assert reason == f"only {count} pairs: at least 5 are needed"
    assert needed == 5


def test_an_undecided_claim_tells_how_many_pairs_would_decide_it() -> None:
    estimate = Ratio(ratio=1.12, low=1.05, high=1.20, pairs=5, spread=0.05, method="made")
    verdict, reason, needed = judge(estimate, BY_KEY["throughput-low"])
    assert verdict is Verdict.INCONCLUSIVE
    assert needed is not None
    assert needed > 5
    assert reason == "the interval lies on both sides of the modest end of the claim"


def test_a_lower_bound_can_show_that_a_claim_is_met_but_not_that_it_is_missed() -> None:
    target = BY_KEY["throughput-high-times"]
    assert judge(ratio(2.1, 2.2), target, at_least=True)[0] is Verdict.MET
    assert judge(ratio(1.1, 1.2), target, at_least=True)[0] is Verdict.INCONCLUSIVE


def test_no_value_is_not_measured() -> None:
    none = Ratio(ratio=None, low=None, high=None, pairs=0, spread=None, method="no data")
    assert judge(none, BY_KEY["memory"])[0] is Verdict.NOT_MEASURED


def finding(run: Result, key: str, load: str | None = None) -> Finding:
    found = [
        f
        for f in assess(run)
        if f.target.key == key and (load is None or (f.cell and f.cell.load == load))
    ]
    assert len(found) == 1
    return found[0]


def test_below_saturation_capacity_decides_and_the_delivered_rate_stands_beside_it() -> None:
    found = finding(result(pairs(candidate={"cpu_us": 10.0})), "throughput-low")
    assert found.quantity == "packets_per_cpu_s"
    assert [key for key, _ in found.beside] == ["delivered_pps"]
    assert found.beside[0][1].ratio == 1.0
    assert found.verdict is Verdict.EXCEEDED


def test_at_maximum_load_the_delivered_rate_decides() -> None:
    run = result(
        pairs(
            load="max",
            baseline={"offered": 1000, "delivered": 300},
            candidate={"offered": 1000, "delivered": 700},
        )
    )
    found = finding(run, "throughput-high-times")
    assert found.quantity == "delivered_pps"
    assert found.verdict is Verdict.MET
    assert found.plain


def test_where_the_tester_limits_both_capacity_decides_and_it_is_said() -> None:
    bound = {"marks": {"lower-bound": "all that was offered arrived"}}
    run = result(pairs(load="max", baseline=bound, candidate={**bound, "cpu_us": 8.0}))
    found = finding(run, "throughput-high-times")
    assert found.quantity == "packets_per_cpu_s"
    assert found.verdict is Verdict.MET
    assert found.reason.startswith("the tester was the limit, so packets per CPU-second decide")
    assert not found.plain


def test_a_candidate_faster_than_the_tester_has_a_lower_bound() -> None:
    run = result(
        pairs(
            load="max",
            baseline={"offered": 1000, "delivered": 300},
            candidate={"marks": {"lower-bound": "all that was offered arrived"}},
        )
    )
    found = finding(run, "throughput-high-times")
    assert found.at_least
    assert found.quantity == "delivered_pps"
    assert found.verdict is Verdict.EXCEEDED


def test_high_load_and_maximum_load_do_not_stand_in_for_each_other() -> None:
    paced = result(pairs(load="high", candidate={"cpu_us": 5.0}))
    assert finding(paced, "throughput-high").verdict is Verdict.NOT_MEASURED
    assert finding(paced, "cpu-high").verdict is Verdict.EXCEEDED
    full = result(pairs(load="max", candidate={"cpu_us": 5.0}))
    assert finding(full, "cpu-high").verdict is Verdict.NOT_MEASURED
    assert finding(full, "cpu-high").reason == "no trials at high load in this run"


def test_a_load_that_was_not_offered_is_not_measured() -> None:
    found = [f for f in assess(result(pairs(load="low"))) if f.target.key == "throughput-medium"]
    assert [(f.verdict, f.reason) for f in found] == [
        (Verdict.NOT_MEASURED, "no trials at medium load in this run")
    ]


def test_a_node_kind_that_was_not_under_test_is_not_measured() -> None:
    found = finding(result(pairs()), "rsu-cpu")
    assert found.verdict is Verdict.NOT_MEASURED
    assert found.reason == "no RSU was under test by itself in this run"


def test_an_rsu_row_is_decided_at_the_first_point_of_an_rsu() -> None:
    points = [
        Point(name="obu-relay", nodes=["obu1"], node_kind="obu", path="relay"),
        Point(name="rsu-down", nodes=["rsu1"], node_kind="rsu", path="wire-to-tap"),
    ]
    trials = pairs(load="high", candidate={"point": "rsu-down"}, baseline={"point": "rsu-down"})
    found = finding(result(trials, points=points), "rsu-cpu")
    assert found.cell is not None
    assert found.cell.point == "rsu-down"
    assert found.verdict is Verdict.MISSED


def test_system_calls_are_decided_by_the_counting_phaseand_the_batch_size() -> None:
    trials = [
        trial(name, number=n, pair=pair, load="max", phase="counting", calls={"recvmmsg": calls})
        for pair in range(5)
        for n, (name, calls) in enumerate(
            (("per-packet", 2000), ("batched", 63), ("batched-of-8", 250), ("batched-of-16", 400))
        )
    ]
    run = result(trials)
    assert finding(run, "syscalls-32").verdict is Verdict.MET
    assert finding(run, "syscalls-8").verdict is Verdict.MET
    assert finding(run, "syscalls-16").verdict is Verdict.MISSED
    assert finding(run, "syscalls-1").verdict is Verdict.NOT_MEASURED


def test_a_trial_that_the_tester_spoiled_gives_no_verdict() -> None:
    spoiled = {"marks": {"generator-limited": "it offered 400 of 500 packets per second"}}
    trials = [*pairs(4), *pairs(1, candidate=spoiled, first=8)]
    for index, made in enumerate(trials):
        trials[index] = made.model_copy(update={"pair": index // 2})
    found = finding(result(trials), "throughput-low")
    assert found.estimate is not None
    assert found.estimate.pairs == 4
    assert found.estimate.left_out == ("pair 5: batched generator-limited",)
    assert found.verdict is Verdict.INCONCLUSIVE


def test_damaged_packets_take_every_success_away() -> None:
    found = finding(result(pairs(candidate={"cpu_us": 5.0, "corrupted": 1})), "throughput-low")
    assert found.verdict is Verdict.MISSED
    assert found.reason.startswith("batched delivered 5 damaged packets")
    assert found.reason.endswith("(the figure alone: exceeded)")


def test_a_paced_load_that_was_not_carried_is_no_success() -> None:
    found = finding(result(pairs(candidate={"cpu_us": 5.0, "delivered": 900})), "throughput-low")
    assert found.verdict is Verdict.MISSED
    assert "lost 10 % of a load" in found.reason


def test_the_worst_verdicts_come_first_and_potentials_do_not_count() -> None:
    run = result(pairs(candidate={"cpu_us": 5.0}), targets=["throughput-low", "rsu-cpu", "extreme"])
    assert worst_verdicts(run) == (Verdict.NOT_MEASURED, Verdict.EXCEEDED)


def test_only_the_wanted_claims_are_checked() -> None:
    run = result(pairs(), targets=["memory"])
    assert {f.target.key for f in assess(run)} == {"memory"}


def test_claims_are_written_as_the_source_writes_them() -> None:
    assert {target.key: target.claimed for target in TARGETS} == {
        "throughput-low": "+10…15 %",
        "throughput-medium": "+50…100 %",
        "throughput-high": "+200…300 %",
        "throughput-high-times": "2–3×",
        "syscalls-1": "−0 %",
        "syscalls-8": "−87.5 %",
        "syscalls-16": "−93.8 %",
        "syscalls-32": "−96.9 %",
        "cpu-high": "−15…30 %",
        "switches": "2–3× fewer",
        "latency-median": "none added",
        "latency-p99": "none added",
        "memory": "none added",
        "obu-normal": "+15…20 %",
        "obu-high": "+200…300 %",
        "obu-cpu": "−15…25 %",
        "rsu-normal": "+15…20 %",
        "rsu-high": "+200…300 %",
        "rsu-cpu": "−15…25 %",
        "extreme": "5–10×",
    }


@pytest.mark.parametrize(
    ("rate_pps", "band"),
    [
        (1, Band.LOW),
        (999, Band.LOW),
        (1_000, Band.MEDIUM),
        (10_000, Band.MEDIUM),
        (10_001, Band.HIGH),
        (None, Band.MAX),
    ],
)
def test_a_rate_belongs_to_a_documented_band(rate_pps: float | None, band: Band) -> None:
    assert Band.of(rate_pps) is band


def test_targets_are_chosen_in_the_documented_order() -> None:
    assert [target.key for target in select(["memory", "cpu-high"])] == ["cpu-high", "memory"]
    assert select(["all"]) == TARGETS
