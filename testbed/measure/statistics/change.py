"""What has changed between two runs of a scenario: better, worse, the same, or not to be told.

For each quantity of each variant in each cell that both runs have. On the same machine figures are
compared as they are; on different machines only the ratios candidate / baseline, pair by pair,
since figures of different machines are never compared. Must not know how a change is printed.

The rules: a change is *worse* or *better* where Welch's test against the quantity's threshold stays
below 5 % after Holm's adjustment for all comparisons made, and the interval lies beyond the
threshold as a whole. It is the *same* where the interval lies within the threshold as a whole. All
else is *undecided*. Where a node waited for its CPU, other work was on the machine: there only a
factor of two counts, and only of what such work moves little.
"""

from __future__ import annotations

import enum
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from testbed.errors import InputError
from testbed.measure.statistics.comparison import Cell, Phase, cells, phase_of, trials_of
from testbed.measure.statistics.correctness import failed_checks
from testbed.measure.statistics.quantities import QUANTITIES
from testbed.measure.statistics.sameness import (
    DISTURBED,
    cautions,
    different_machine,
    refuse_different_scenario,
    tester_us_per_packet,
    waited_share,
)
from testbed.measure.statistics.unpaired import Change, holm, unpaired_ratio
from testbed.results import Result, Trial
from testbed.targets import Better

SIGNIFICANT: Final = 0.05
DISTURBED_THRESHOLD: Final = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """A quantity, from which ratio on a change of it counts, and how far other work can move it.

    Such work leaves the size of a program alone; it moves what a node spends on a packet, though
    not by much; it moves anything that is about time.
    """

    quantity: str
    threshold: float
    moved: Literal["not", "little", "much"]


WATCHED: Final[tuple[Watched, ...]] = (
    Watched(quantity="delivered_pps", threshold=1.05, moved="much"),
    Watched(quantity="cpu_us_per_packet", threshold=1.15, moved="little"),
    Watched(quantity="syscalls_per_packet", threshold=1.10, moved="little"),
    Watched(quantity="switches_per_packet", threshold=1.25, moved="much"),
    Watched(quantity="wakeups_per_packet", threshold=1.25, moved="much"),
    Watched(quantity="latency_p50_us", threshold=1.25, moved="much"),
    Watched(quantity="latency_p99_us", threshold=2.00, moved="much"),
    Watched(quantity="pss_bytes", threshold=1.10, moved="not"),
)
"""What is compared. `testbed compare --threshold` sets another threshold for all of them."""


class Outcome(enum.StrEnum):
    WORSE = "worse"
    BETTER = "better"
    SAME = "same"
    UNDECIDED = "undecided"


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """One quantity of one variant in one cell.

    `threshold` is from which ratio on it is a change, None where none would be believed. `within`
    is up to which it is the same, which other work on the machine does not widen.
    """

    cell: Cell
    variant: str
    quantity: str
    change: Change
    threshold: float | None
    within: float
    probability: float | None
    outcome: Outcome
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Two runs side by side.

    `broken` are checks that passed before and do not now, packets that are damaged and were not,
    nodes that die and did not; `mended` the other way round. `relative` means that ratios to the
    baseline were compared, since the machine is another one, as `machine` says.
    """

    compared: tuple[Compared, ...]
    broken: tuple[str, ...]
    mended: tuple[str, ...]
    left_out: tuple[str, ...]
    cautions: tuple[str, ...]
    relative: bool
    machine: tuple[str, ...]
    yardstick: Change

    @property
    def regressions(self) -> tuple[Compared, ...]:
        return tuple(one for one in self.compared if one.outcome is Outcome.WORSE)


def compare_runs(old: Result, new: Result, *, threshold: float | None = None) -> Comparison:
    """What has changed from `old` to `new`; `threshold` replaces that of every quantity.

    Raises InputError where the two have nothing in common that may be compared.
    """
    refuse_different_scenario(old, new)
    machine = different_machine(old, new)
    relative = bool(machine)
    left_out: list[str] = []
    shared = [cell for cell in cells(old) if _in_both(old, new, cell, left_out)]
    found = [
        one
        for cell in shared
        for variant in old.scenario.variants
        if not (relative and variant.baseline)
        for one in _compared(old, new, cell, variant.name, relative, threshold)
    ]
    if not found and not (old.checks and new.checks):
        raise InputError(
            "the two results have nothing that can be compared"
            + (f": {left_out[0]}" if left_out else ""),
            expected="the same scenario in both",
        )
    broken, mended = _correctness(old, new)
    return Comparison(
        compared=_judged(found),
        broken=broken,
        mended=mended,
        left_out=tuple(left_out),
        cautions=tuple(cautions(old, new)),
        relative=relative,
        machine=machine,
        yardstick=_yardstick(old, new, shared),
    )


def _in_both(old: Result, new: Result, cell: Cell, left_out: list[str]) -> bool:
    """Whether the new run has that cell, and means the same by it."""
    name = f"{cell.point} at {cell.load} load, {cell.frame_bytes} bytes"
    if cell not in cells(new):
        left_out.append(f"{name}: not in the new run")
        return False
    a, b = old.load(cell.load), new.load(cell.load)
    if (a.rate_pps, a.burst) != (b.rate_pps, b.burst):
        left_out.append(f"{name}: another load ({_rate(a.rate_pps)} and {_rate(b.rate_pps)})")
        return False
    one, other = old.point(cell.point), new.point(cell.point)
    if (one.nodes, one.path, one.ends) != (other.nodes, other.path, other.ends):
        left_out.append(f"{name}: another node or another way through it")
        return False
    return True


def _rate(rate_pps: float | None) -> str:
    return "as fast as possible" if rate_pps is None else f"{rate_pps:g} pps"


def _compared(
    old: Result, new: Result, cell: Cell, variant: str, relative: bool, threshold: float | None
) -> Iterator[Compared]:
    if variant not in {one.name for one in new.scenario.variants}:
        return
    for watched in WATCHED:
        phase = phase_of(old, watched.quantity, cell, variant)
        one, other = (_values(run, cell, variant, watched, phase, relative) for run in (old, new))
        if not any(one) or not any(other):
            continue
        text = f"{old.seed}/{new.seed}/{cell.point}/{cell.load}/{variant}/{watched.quantity}"
        within = watched.threshold if threshold is None else threshold
        limit: float | None = within
        reason = ""
        waited = max(
            waited_share(trials_of(run, cell, variant, phase)) or 0.0 for run in (old, new)
        )
        if waited > DISTURBED and not relative and watched.moved != "not":
            reason = f"disturbed, {100 * waited:.0f} %"
            limit = max(within, DISTURBED_THRESHOLD) if watched.moved == "little" else None
        yield Compared(
            cell=cell,
            variant=variant,
            quantity=watched.quantity,
            change=unpaired_ratio(one, other, seed=zlib.crc32(text.encode())),
            threshold=limit,
            within=within,
            probability=None,
            outcome=Outcome.UNDECIDED,
            reason=reason,
        )


def _values(
    run: Result, cell: Cell, variant: str, watched: Watched, phase: Phase, relative: bool
) -> list[float | None]:
    """The quantity of each trial that counts, or its ratio to the baseline in each pair."""
    of = QUANTITIES[watched.quantity].of
    own = [trial for trial in trials_of(run, cell, variant, phase) if trial.counts]
    if not relative:
        return [of(trial) for trial in own]
    base = {t.pair: t for t in trials_of(run, cell, run.baseline.name, phase) if t.counts}
    return [_ratio(of(t), of(base[t.pair])) for t in own if t.pair in base]


def _ratio(value: float | None, of: float | None) -> float | None:
    return None if value is None or not of else value / of


def _judged(found: Sequence[Compared]) -> tuple[Compared, ...]:
    """Outcomes, with all comparisons that could have had one taken into account."""
    chances = [
        None if one.threshold is None else one.change.probability(one.threshold) for one in found
    ]
    adjusted = iter(holm([chance for chance in chances if chance is not None]))
    return tuple(
        _outcome(one, None if chance is None else next(adjusted))
        for one, chance in zip(found, chances, strict=True)
    )


def _outcome(one: Compared, probability: float | None) -> Compared:
    low, high = one.change.low, one.change.high
    if low is None or high is None:
        few = f"{one.change.values[0]} trials before and {one.change.values[1]} now are too few"
        return replace(one, reason=few)
    higher_is_better = QUANTITIES[one.quantity].better is Better.HIGHER
    beyond = one.threshold is not None and (low > one.threshold or high < 1 / one.threshold)
    if beyond and probability is not None and probability < SIGNIFICANT:
        outcome = Outcome.BETTER if (low > 1) is higher_is_better else Outcome.WORSE
        return replace(one, outcome=outcome, probability=probability, reason="")
    if low >= 1 / one.within and high <= one.within:
        return replace(one, outcome=Outcome.SAME, probability=probability, reason="")
    reason = one.reason or (
        "not sure enough among so many comparisons" if beyond else "the interval is too wide"
    )
    return replace(one, probability=probability, reason=reason)


def _correctness(old: Result, new: Result) -> tuple[tuple[str, ...], tuple[str, ...]]:
    theirs = {variant.name for variant in new.scenario.variants}
    names = [variant.name for variant in old.scenario.variants if variant.name in theirs]
    broken: list[str] = []
    mended: list[str] = []
    for name in names:
        for said, one, other in ((broken, old, new), (mended, new, old)):
            had = {(c.kind, c.topology) for c in one.checks if c.variant == name and c.passed}
            said += [
                f"{name}: {c.kind} in {c.topology}" + (f" ({c.why})" if c.why else "")
                for c in failed_checks(other, name)
                if (c.kind, c.topology) in had
            ]
            for what, count in (("delivers damaged packets", _damaged), ("dies", _died)):
                if count(other, name) and not count(one, name) and _trials(one, name):
                    said.append(f"{name}: {what}")
    return tuple(broken), tuple(mended)


def _trials(run: Result, variant: str) -> list[Trial]:
    return [trial for trial in run.trials if trial.variant == variant]


def _damaged(run: Result, variant: str) -> int:
    return sum(t.traffic.corrupted for t in _trials(run, variant) if t.traffic is not None)


def _died(run: Result, variant: str) -> int:
    return sum(trial.marked("node-died") for trial in _trials(run, variant))


def _yardstick(old: Result, new: Result, shared: Sequence[Cell]) -> Change:
    """How much the same work of the tester cost in the new run, of all paced trials."""
    both = [
        [
            value
            for cell in shared
            if run.load(cell.load).rate_pps is not None
            for variant in run.scenario.variants
            for value in tester_us_per_packet(trials_of(run, cell, variant.name))
        ]
        for run in (old, new)
    ]
    return unpaired_ratio(both[0], both[1], seed=old.seed)
