"""What is plotted, as values: only what there is data for, and what the tables have."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from made_results import pairs, result, trial, variant

from testbed.measure.statistics import latency_curve
from testbed.report.charts import BarChart, Chart, LineChart, charts
from testbed.results import Load, Result, Trial

HISTOGRAM = [(100, 900), (200, 90), (400, 9), (800, 1)]
"""Bins below 2048 are 1 ns wide."""


def changed(one: Trial, **changes: Any) -> Trial:
    """A trial with other values; `latency__histogram` is a value of its traffic's latency."""
    values = one.model_dump()
    for path, value in changes.items():
        *above, last = path.split("__")
        part = values
        for key in above:
            part = part[key]
        part[last] = value
    return Trial.model_validate(values)


def only(run: Result, section: str, kind: str = "") -> Any:
    (chart,) = [one for one in charts(run)[section] if one.key.startswith(kind)]
    return chart


def of(chart: Chart, name: str) -> Any:
    parts = chart.series if isinstance(chart, LineChart) else chart.bars
    return next(part for part in parts if part.name.replace("\u00a0", " ") == name)


def test_an_empty_result_has_no_plots() -> None:
    assert charts(result([])) == {}


def test_one_load_is_no_curve() -> None:
    found = charts(result(pairs(load="low")))
    assert "throughput" not in found
    assert "cpu" not in found


def test_curves_over_the_load_are_the_medians_of_the_tables() -> None:
    run = result(
        [
            *pairs(load="low", factor=lambda _: 1.0, candidate={"cpu_us": 30.0}),
            *pairs(
                load="medium", first=10, factor=lambda _: 1.0,
                baseline={"offered": 10_000}, candidate={"offered": 10_000, "delivered": 9_000},
            ),
        ]
    )  # fmt: skip
    delivered = only(run, "throughput")
    assert of(delivered, "batched").points == ((500.0, 500.0), (5000.0, 4500.0))
    assert len(of(delivered, "batched").dots) == 10
    assert of(delivered, "all that was offered").reference
    assert of(only(run, "cpu"), "batched").points[0] == (500.0, 30.0)
    assert "batched: 500" in delivered.alt


def test_nothing_delivered_has_no_place_in_the_plot_and_is_said() -> None:
    run = result([*pairs(load="low"), *pairs(load="medium", first=10, candidate={"delivered": 0})])
    delivered = only(run, "throughput")
    assert len(of(delivered, "batched").points) == 1
    assert "None at all: batched at medium load." in delivered.note


def test_calls_stand_against_the_arithmetic_of_full_batches() -> None:
    trials = [
        trial(name, load="max", phase="counting", number=n, calls={"recvmmsg": c, "sendmmsg": c})
        for n, (name, c) in enumerate(
            {"per-packet": 1000, "batched": 40, "batched-of-8": 125, "batched-of-16": 63}.items()
        )
    ]
    chart = only(result(trials), "calls")
    assert of(chart, "arithmetic: 1/N of the baseline").points == (
        (1, 2.0), (8, 0.25), (16, 0.125), (32, 0.0625),
    )  # fmt: skip
    assert of(chart, "mmsg").points == ((8, 0.25), (16, 0.126), (32, 0.08))


def test_a_latency_curve_ends_before_its_last_packet() -> None:
    one = changed(trial(), traffic__latency__histogram=HISTOGRAM)
    curve = latency_curve([one])
    assert curve[0] == (0.1, 0.0)
    assert all(a[1] < b[1] for a, b in pairwise(curve))
    assert curve[-1] == (0.4, 0.999)
    assert latency_curve([trial()]) == ()
    spoiled = trial(marks={"sink-limited": "full"})
    assert latency_curve([changed(spoiled, traffic__latency__histogram=HISTOGRAM)]) == ()


def test_latency_is_plotted_where_the_load_was_paced() -> None:
    trials = [
        changed(one, traffic__latency__histogram=HISTOGRAM)
        for one in (*pairs(1, load="low"), *pairs(1, load="max", first=2))
    ]
    chart = only(result(trials), "latency")
    assert chart.title == "One-way latency: obu1, wire → wire, low load"
    assert [series.name for series in chart.series] == ["per-packet", "batched"]


def test_batches_are_shares_of_packets_by_powers_of_two() -> None:
    filled = changed(trial(load="max"), node__fill={"wire": {"0": 5, "1": 20, "4": 5, "30": 2}})
    chart = only(result([filled]), "wakeups", "batches")
    assert isinstance(chart, BarChart)
    assert chart.groups == ("1", "2", "3–4", "5–8", "9–16", "17–32")
    assert of(chart, "batched").values == (20.0, 0.0, 20.0, 0.0, 0.0, 60.0)


def test_nothing_is_plotted_of_batches_of_one() -> None:
    assert "wakeups" not in charts(result(pairs(load="low")))


def test_the_ledger_is_plotted_where_something_was_lost() -> None:
    assert "ledger" not in charts(result(pairs(load="low")))
    lost = trial(load="max", delivered=700, dropped={"buffer full": 200})
    chart = only(result([*pairs(load="low"), lost]), "ledger")
    assert chart.groups == ("max, batched",)
    assert {bars.name: bars.values for bars in chart.bars} == {
        "delivered": (70.0,),
        "obu1 wire: buffer full": (20.0,),
        "unexplained": (10.0,),
    }


def test_the_trade_off_has_a_curve_for_each_load() -> None:
    waits = {"batched": 0, "w1": 1000, "w3": 3000, "clever": 3000}
    variants = [variant("per-packet", batch=1, baseline=True)]
    for name, wait in waits.items():
        how = "adaptive" if name == "clever" else "fixed" if wait else "off"
        made = variant(name, batch=32)
        settings = {**made.settings, "max_wait_us": wait, "coalesce": how}
        variants.append(made.model_copy(update={"settings": settings}))
    trials = [
        trial(name, load=load, number=10 * i + j, cpu_us=20.0 / (1 + wait / 1000))
        for i, load in enumerate(("low", "medium"))
        for j, (name, wait) in enumerate(waits.items())
    ]
    run = result(trials, variants=variants, loads=[
        Load(name="low", rate_pps=500, duration_s=1), Load(name="medium", rate_pps=5000,
                                                           duration_s=1)
    ])  # fmt: skip
    chart = only(run, "cpu", "waiting-cpu")
    assert [text for _, text in chart.x.ticks] == ["0", "1", "3"]
    assert of(chart, "500 pps").points == ((0.0, 20.0), (1.0, 10.0), (2.0, 5.0))
    assert of(chart, "5 k pps, adaptive").dashed
    assert of(chart, "5 k pps, adaptive").points == ((0.0, 20.0), (2.0, 5.0))
    kinds = [one.key for one in charts(run)["cpu"] if one.key.startswith("waiting")]
    assert len(kinds) == 3


def test_more_variants_than_can_be_told_apart_are_said_to_be_elsewhere() -> None:
    names = [f"v{n}" for n in range(12)]
    variants = [variant("per-packet", batch=1, baseline=True)]
    variants += [variant(name, batch=32) for name in names]
    trials = [
        trial(name, load=load, number=n + 100 * k)
        for k, load in enumerate(("low", "medium"))
        for n, name in enumerate(["per-packet", *names])
    ]
    chart = only(result(trials, variants=variants), "throughput")
    assert len(chart.series) == 9
    assert chart.note.endswith("5 more variants are in the tables.")
