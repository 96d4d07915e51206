"""Which trials are set against which: cells, pairs, and the ratio of a quantity between variants.

Must not know what was claimed. A *cell* is one measured point at one load with one frame size;
within a cell the trials of a pair number belong together, one of each variant.
"""

from __future__ import annotations

import statistics
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from testbed.measure.statistics.interval import Ratio, paired_ratio
from testbed.measure.statistics.quantities import QUANTITIES, SEARCHED, Quantity
from testbed.measure.statistics.searched import SearchedPlace, compare_searches
from testbed.results import EXCLUDING, FrameSize, Result, Trial

Phase = Literal["timing", "counting"]
PHASES: Final[tuple[Phase, ...]] = ("timing", "counting")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One measured point at one load with one frame size."""

    point: str
    load: str
    frame_bytes: FrameSize


def cells(result: Result) -> tuple[Cell, ...]:
    """The cells that have trials, in the order of the scenario."""
    found = {Cell(point=t.point, load=t.load, frame_bytes=t.frame_bytes) for t in result.trials}
    points = [point.name for point in result.scenario.points]
    loads = [load.name for load in result.scenario.loads]

    def place(cell: Cell) -> tuple[int, bool, int, int]:
        # The Internet mix after all frames of one size.
        size = 0 if cell.frame_bytes == "imix" else cell.frame_bytes
        return points.index(cell.point), not size, size, loads.index(cell.load)

    return tuple(sorted(found, key=place))


def trials_of(
    result: Result, cell: Cell, variant: str, phase: Phase = "timing"
) -> tuple[Trial, ...]:
    """The trials of one variant in a cell, by pair number, marked ones included."""
    return tuple(
        sorted(
            (
                trial
                for trial in result.trials
                if trial.phase == phase
                and trial.variant == variant
                and (trial.point, trial.load, trial.frame_bytes)
                == (cell.point, cell.load, cell.frame_bytes)
            ),
            key=lambda trial: (trial.pair if trial.pair is not None else -1, trial.id),
        )
    )


def phase_of(result: Result, quantity: str, cell: Cell, variant: str) -> Phase:
    """Where a quantity is taken from: system calls from the counting pass, if there was one."""
    if "calls_per_packet" in quantity and trials_of(result, cell, variant, "counting"):
        return "counting"
    return "timing"


def typical(trials: Sequence[Trial], quantity: str) -> float | None:
    """The median of a quantity over the trials that count; None where there is no data."""
    of = QUANTITIES[quantity].of
    values = [value for trial in trials if trial.counts and (value := of(trial)) is not None]
    return statistics.median(values) if values else None


def compare(
    result: Result, cell: Cell, quantity: str, candidate: str, baseline: str | None = None
) -> Ratio:
    """The ratio candidate / baseline of a quantity in a cell, over the pairs in which both count.

    System calls are compared within the counting pass if both variants have one there, lossless
    rates within the searches, whatever the load.
    """
    base = result.baseline.name if baseline is None else baseline
    if quantity in SEARCHED:
        place = SearchedPlace(point=cell.point, frame_bytes=cell.frame_bytes)
        return compare_searches(result, place, SEARCHED[quantity], candidate)[0]
    phase: Phase = phase_of(result, quantity, cell, candidate)
    if phase == "counting" and not trials_of(result, cell, base, "counting"):
        phase = "timing"
    one = _by_pair(trials_of(result, cell, base, phase))
    other = _by_pair(trials_of(result, cell, candidate, phase))
    values: list[tuple[float | None, float | None]] = []
    left_out: list[str] = []
    of: Quantity = QUANTITIES[quantity]
    for pair in sorted(set(one) | set(other)):
        a, b = one.get(pair), other.get(pair)
        if a is None or b is None:
            left_out.append(f"pair {pair + 1}: {base if a is None else candidate} has no trial")
            continue
        excluded = [trial for trial in (a, b) if not trial.counts]
        if excluded:
            left_out.append(f"pair {pair + 1}: {excluded[0].variant} {_why_excluded(excluded[0])}")
            continue
        values.append((of.of(a), of.of(b)))
    return paired_ratio(
        [a for a, _ in values],
        [b for _, b in values],
        seed=_seed(result.seed, cell, quantity, candidate),
        left_out=left_out,
    )


def bounded(result: Result, cell: Cell, variant: str) -> bool:
    """Whether the tester, not the node, was the limit in most trials of a variant in a cell."""
    trials = [trial for trial in trials_of(result, cell, variant) if trial.counts]
    return bool(trials) and 2 * sum(t.marked("lower-bound") for t in trials) > len(trials)


def _by_pair(trials: Sequence[Trial]) -> dict[int, Trial]:
    return {trial.pair: trial for trial in trials if trial.pair is not None}


def _why_excluded(trial: Trial) -> str:
    for marked in trial.marks:
        if marked.mark in EXCLUDING:
            return marked.mark
    return "has no traffic counts"


def _seed(seed: int, cell: Cell, quantity: str, candidate: str) -> int:
    """A seed of its own for every ratio, the same each time the report is made."""
    text = f"{seed}/{cell.point}/{cell.load}/{cell.frame_bytes}/{quantity}/{candidate}"
    return zlib.crc32(text.encode())
