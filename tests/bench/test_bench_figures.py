"""What the counts of a benchmark come to, from documents made by hand."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from testbed.bench import figures, plot, waiting
from testbed.bench.entries import FLOOR, KERNEL


def trial(number: int, name: str, **given: Any) -> dict[str, Any]:
    """A trial of one second: 1000 packets offered and delivered unless said otherwise."""
    return {
        "number": number,
        "round": 0,
        "path": "relay",
        "name": name,
        "batch": 8,
        "pair": None,
        "offered": 1000,
        "delivered": 1000,
        "duration_ns": 10**9,
        "cpu_ns": 10**6,
        "run_delay_ns": 10**7,
        "calls": {"recvmmsg": 125, "sendmmsg": 125},
        "extra": {},
        "lower_bound": False,
        "generator_limited": None,
        "spoiled": None,
    } | given


def rows_of(*trials: dict[str, Any]) -> dict[str, figures.Row]:
    return {row.name: row for row in figures.rows({"trials": list(trials)})}


def test_a_row_has_rate_cpu_calls_and_share() -> None:
    row = rows_of(trial(0, "mmsg", offered=2000))["mmsg"]
    assert (row.pps, row.cpu_us, row.calls) == (1000.0, 1.0, 0.25)
    assert (row.delivered_share, row.late_share) == (0.5, 0.01)
    assert row.pps_ratio is None


def test_ratios_are_to_the_floor_of_the_same_pair() -> None:
    row = rows_of(
        trial(0, "mmsg", delivered=500, cpu_ns=10**6, pair=1),
        trial(1, FLOOR),
        trial(2, "mmsg", delivered=1000, cpu_ns=10**6, pair=3),
        trial(3, FLOOR, delivered=2000, offered=2000, cpu_ns=10**6),
    )["mmsg"]
    assert row.pps_ratio is not None
    assert row.work_ratio is not None
    assert row.pps_ratio.ratio == pytest.approx(0.5)
    assert row.work_ratio.ratio == pytest.approx(0.5)
    assert row.bound == ""


def test_rates_that_the_tester_limited_are_no_ratio_but_work_is() -> None:
    row = rows_of(
        trial(0, "mmsg", pair=1, lower_bound=True),
        trial(1, FLOOR, lower_bound=True, cpu_ns=500_000),
    )["mmsg"]
    assert row.lower_bound
    assert row.pps_ratio is None
    assert row.work_ratio is not None
    assert row.work_ratio.ratio == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("entry", "floor", "bound"), [(True, False, "≥"), (False, True, "≤"), (False, False, "")]
)
def test_a_ratio_says_in_which_direction_the_tester_bounds_it(
    entry: bool, floor: bool, bound: str
) -> None:
    row = rows_of(trial(0, "mmsg", pair=1, lower_bound=entry), trial(1, FLOOR, lower_bound=floor))[
        "mmsg"
    ]
    assert row.bound == bound


def test_no_data_is_not_zero() -> None:
    row = rows_of(trial(0, "writev", delivered=0, pair=1), trial(1, FLOOR))["writev"]
    assert row.pps == 0.0
    assert row.cpu_us is None
    assert row.calls is None
    assert row.pps_ratio is None
    kernel = rows_of(trial(0, KERNEL, cpu_ns=None, batch=None))[KERNEL]
    assert kernel.cpu_us is None


def test_a_trial_that_failed_or_was_spoiled_gives_no_figure_but_its_reason() -> None:
    found = rows_of(
        {"number": 0, "path": "relay", "name": "xsk", "batch": 8, "pair": 1, "failed": "no XDP"},
        trial(1, FLOOR, spoiled="had no room for 5 frames"),
        trial(2, "mmsg", pair=1),
    )
    assert found["xsk"].failed == "no XDP"
    assert found["xsk"].pps is None
    assert found[FLOOR].failed == "had no room for 5 frames"
    assert found["mmsg"].pps_ratio is None


def test_the_floor_comes_first_and_sizes_ascend() -> None:
    trials = [trial(0, "mmsg", batch=32), trial(1, "mmsg", batch=8), trial(2, FLOOR, batch=32)]
    rows = figures.rows({"trials": trials})
    assert [(row.name, row.batch) for row in rows] == [(FLOOR, 32), ("mmsg", 8), ("mmsg", 32)]


def test_rows_are_json() -> None:
    rows = figures.rows({"trials": [trial(0, "mmsg", pair=1), trial(1, FLOOR)]})
    text = json.dumps([row.to_json() for row in rows], allow_nan=False)
    assert json.loads(text)[1]["pps_ratio"]["ratio"] == 1.0


def test_the_picture_is_an_svg_that_names_every_entry_and_is_the_same_each_time() -> None:
    trials = [
        trial(0, "mmsg", batch=8, pair=1),
        trial(1, FLOOR, batch=8),
        trial(2, "mmsg", batch=32, lower_bound=True),
        trial(3, KERNEL, batch=None, cpu_ns=None),
        trial(4, "mmsg/uring", path="tap-to-wire"),
    ]
    rows = figures.rows({"trials": trials})
    text = plot.draw(rows, caption="where & when")
    words = {"".join(one.itertext()) for one in ET.fromstring(text).iter() if one.text}
    assert {"mmsg", "mmsg/uring", FLOOR, KERNEL, "where & when", "tap-to-wire"} <= words
    assert plot.draw(rows, caption="where & when") == text


def waited(mode: str, number: int, **given: Any) -> dict[str, Any]:
    return (
        trial(0, mode, load="500 pps")
        | {
            "round": number,
            "extra": {"wakeups": 1000},
            "latency_ns": {"p50": 50_000, "p99": 90_000, "p99.9": 100_000},
        }
        | given
    )


def test_waiting_is_compared_within_a_round() -> None:
    rows = waiting.rows(
        {
            "trials": [
                waited("per-packet", 0),
                waited(
                    "fixed",
                    0,
                    cpu_ns=500_000,
                    extra={"wakeups": 250, "decision:waited": 7},
                    latency_ns={"p50": 1, "p99": 180_000, "p99.9": 900_000},
                ),
            ]
        }
    )
    fixed = rows[1]
    assert fixed.cpu_ratio is not None
    assert fixed.wakeups_ratio is not None
    assert fixed.p99_ratio is not None
    assert fixed.cpu_ratio.ratio == pytest.approx(0.5)
    assert fixed.wakeups_ratio.ratio == pytest.approx(0.25)
    assert fixed.p99_ratio.ratio == pytest.approx(2.0)
    assert fixed.added_us == 800.0
    assert fixed.decisions == {"waited": 7}


@pytest.mark.parametrize(("off_ns", "better"), [(400_000, "off"), (900_000, "fixed")])
def test_adaptive_is_held_against_the_better_of_never_and_always(off_ns: int, better: str) -> None:
    rows = waiting.rows(
        {
            "trials": [
                waited("off", 0, cpu_ns=off_ns),
                waited("fixed", 0, cpu_ns=500_000),
                waited("adaptive", 0, cpu_ns=400_000),
            ]
        }
    )
    adaptive = rows[2]
    assert adaptive.better == better
    assert adaptive.to_better is not None
    assert adaptive.to_better.ratio == pytest.approx(400_000 / min(off_ns, 500_000))
    assert rows[0].better is None


def test_a_mode_that_failed_has_its_reason_and_no_figures() -> None:
    failed = {"load": "max", "name": "fixed", "round": 0, "failed": "died"}
    (row,) = waiting.rows({"trials": [failed]})
    assert row.failed == "died"
    assert row.cpu_us is None
    assert row.latency_us == {}
