"""Lossless rates: compared pair by pair, and never against what the tester could not offer."""

from __future__ import annotations

import pytest
from made_results import pairs, result

from testbed.measure.statistics import (
    Cell,
    SearchedPlace,
    assess,
    compare,
    compare_searches,
    searches_of,
    typical_bound,
)
from testbed.report.markdown import render_markdown
from testbed.results import Bound, Result, Search
from testbed.results.store import dump_result, parse_result

CELL = Cell(point="obu-relay", load="max", frame_bytes=256)
PLACE = SearchedPlace(point="obu-relay", frame_bytes=256)


def search(
    variant: str, pair: int, ndr: float | None, *, number: int = 0, open_: bool = False,
    ended: str = "converged", frame_bytes: int | str = 256,
) -> Search:  # fmt: skip
    return Search.model_validate(
        {
            "id": number, "point": "obu-relay", "frame_bytes": frame_bytes, "variant": variant,
            "pair": pair, "started_s": 1.0, "elapsed_s": 9.0, "ended": ended,
            "why": None if ended == "converged" else "it took longer than 9 s",
            "bounds": [
                Bound(
                    goal=goal, loss_ratio=loss, lower_pps=ndr and ndr * more,
                    upper_pps=None if open_ else 1.05 * (ndr or 500) * more,
                    lower_trials=3, upper_trials=2, tester_limited=open_,
                )
                for goal, loss, more in (("ndr", 0.0, 1.0), ("pdr", 0.005, 1.1))
            ],
        }
    )  # fmt: skip


def made(*searches: Search) -> Result:
    numbered = [one.model_copy(update={"id": number}) for number, one in enumerate(searches)]
    return result(pairs(load="max"), searches=numbered)


def test_rates_are_compared_pair_by_pair() -> None:
    there = made(
        *(search("per-packet", pair, 80_000 + 500 * pair) for pair in range(5)),
        *(search("batched", pair, 160_000 + 1_000 * pair) for pair in range(5)),
    )
    for quantity in ("ndr_pps", "pdr_pps"):
        ratio = compare(there, CELL, quantity, "batched")
        assert (ratio.pairs, ratio.left_out) == (5, ())
        assert ratio.ratio == pytest.approx(2.0)
        assert ratio.low is not None
    assert len(searches_of(there, PLACE, "batched")) == 5
    assert parse_result(dump_result(there), file="x") == there


def test_only_searches_of_the_same_frames_are() -> None:
    there = made(search("per-packet", 0, 80_000), search("batched", 0, 160_000, frame_bytes="imix"))
    assert compare(there, CELL, "ndr_pps", "batched").ratio is None


def test_what_the_tester_limited_makes_a_lower_bound_or_nothing() -> None:
    candidate_open = made(
        *(search("per-packet", pair, 80_000) for pair in range(5)),
        *(search("batched", pair, 160_000, open_=True) for pair in range(5)),
    )
    assert typical_bound(candidate_open, PLACE, "batched", "ndr") == (160_000, None, True)
    assert typical_bound(candidate_open, PLACE, "per-packet", "ndr") == (80_000, 84_000, False)
    ratio, at_least = compare_searches(candidate_open, PLACE, "ndr", "batched")
    assert ratio.ratio == pytest.approx(2.0)
    assert at_least
    assert compare(candidate_open, CELL, "ndr_pps", "batched") == ratio
    both_open = made(
        search("per-packet", 0, 80_000, open_=True), search("batched", 0, 160_000, open_=True)
    )
    none = compare(both_open, CELL, "ndr_pps", "batched")
    assert none.ratio is None
    assert none.left_out == ("pair 1: the baseline is faster than the tester",)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ([], "pair 1: one of the two has no NDR"),
        ([search("batched", 0, 9e4, ended="failed")], "pair 1: one of the two has no NDR"),
        ([search("batched", 0, 9e4, ended="time")], "pair 1: batched took too long"),
    ],
)
def test_a_search_without_a_rate_leaves_its_pair_out(other: list[Search], why: str) -> None:
    ratio = compare(made(search("per-packet", 0, 80_000), *other), CELL, "ndr_pps", "batched")
    assert ratio.ratio is None
    assert ratio.left_out == (why,)


def test_they_stand_beside_the_delivered_rate_at_maximum_load() -> None:
    there = made(
        *(search("per-packet", pair, 80_000) for pair in range(5)),
        *(search("batched", pair, 160_000) for pair in range(5)),
    )
    finding = next(one for one in assess(there) if one.target.key == "throughput-high")
    beside = dict(finding.beside)
    assert beside["ndr_pps"].ratio == pytest.approx(2.0)
    assert beside["pdr_pps"].ratio == pytest.approx(2.0)
    (row,) = (
        line
        for line in render_markdown(there).splitlines()
        if line.startswith("| throughput, high load")
    )
    assert "lossless rate (NDR) +100" in row, row
    without = next(one for one in assess(made()) if one.target.key == "throughput-high")
    assert "ndr_pps" not in dict(without.beside)
