"""What the searches for a lossless rate found, and the ratio between variants, search by search.

Must not know how a search goes about it.
"""

from __future__ import annotations

import statistics
import zlib
from dataclasses import dataclass
from typing import Final, Literal

from testbed.measure.statistics.interval import Ratio, paired_ratio
from testbed.results import Bound, FrameSize, Result, Search

Goal = Literal["ndr", "pdr"]
GOALS: Final[tuple[Goal, ...]] = ("ndr", "pdr")


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchedPlace:
    """A measured point and a frame size that were searched."""

    point: str
    frame_bytes: FrameSize


def searched_places(result: Result) -> tuple[SearchedPlace, ...]:
    """What was searched, in the order in which it was."""
    return tuple(
        dict.fromkeys(
            SearchedPlace(point=one.point, frame_bytes=one.frame_bytes) for one in result.searches
        )
    )


def searches_of(result: Result, place: SearchedPlace, variant: str) -> tuple[Search, ...]:
    """The searches of one variant there, by pair."""
    return tuple(
        sorted(
            (
                one
                for one in result.searches
                if (one.point, one.frame_bytes, one.variant)
                == (place.point, place.frame_bytes, variant)
            ),
            key=lambda one: (one.pair if one.pair is not None else -1, one.id),
        )
    )


def bound_of(search: Search, goal: Goal) -> Bound | None:
    """What a search found for a goal; None where it did not look for it, or failed."""
    if search.ended == "failed":
        return None
    return next((bound for bound in search.bounds if bound.goal == goal), None)


def typical_bound(
    result: Result, place: SearchedPlace, variant: str, goal: Goal
) -> tuple[float | None, float | None, bool]:
    """Medians of the lower and the upper bound, and whether any search found no upper one."""
    bounds = [
        bound
        for search in searches_of(result, place, variant)
        if (bound := bound_of(search, goal)) is not None
    ]
    lower = [bound.lower_pps for bound in bounds if bound.lower_pps is not None]
    upper = [bound.upper_pps for bound in bounds if bound.upper_pps is not None]
    return (
        statistics.median(lower) if lower else None,
        statistics.median(upper) if upper else None,
        any(map(open_upwards, bounds)),
    )


def open_upwards(bound: Bound) -> bool:
    """Whether the rate is at least the lower bound: no load was found that does not reach the goal.

    Faster ones the tester could not offer, or the scenario did not want tried.
    """
    return bound.upper_pps is None and bound.lower_pps is not None


def compare_searches(
    result: Result, place: SearchedPlace, goal: Goal, candidate: str
) -> tuple[Ratio, bool]:
    """The ratio candidate / baseline of the lower bounds, and whether it is a lower bound itself.

    A pair whose baseline is open upwards has no ratio: it could be anything. Nor has one of which a
    search did not come to its end: its bounds are where it happened to be.
    """
    base = {one.pair: one for one in searches_of(result, place, result.baseline.name)}
    other = {one.pair: one for one in searches_of(result, place, candidate)}
    values: list[tuple[float | None, float | None]] = []
    left_out: list[str] = []
    at_least = False
    for pair in sorted({*base, *other} - {None}, key=lambda number: number or 0):
        one = bound_of(base[pair], goal) if pair in base else None
        two = bound_of(other[pair], goal) if pair in other else None
        unfinished = [
            side[pair] for side in (base, other) if pair in side and side[pair].ended == "time"
        ]
        if unfinished:
            left_out.append(f"pair {(pair or 0) + 1}: {unfinished[0].variant} took too long")
            continue
        if one is None or two is None:
            left_out.append(f"pair {(pair or 0) + 1}: one of the two has no {goal.upper()}")
            continue
        if open_upwards(one):
            left_out.append(f"pair {(pair or 0) + 1}: the baseline is faster than the tester")
            continue
        at_least = at_least or open_upwards(two)
        values.append((one.lower_pps, two.lower_pps))
    text = f"{result.seed}/{place.point}/{place.frame_bytes}/{goal}/{candidate}"
    ratio = paired_ratio(
        [a for a, _ in values],
        [b for _, b in values],
        seed=zlib.crc32(text.encode()),
        left_out=left_out,
    )
    return ratio, at_least
