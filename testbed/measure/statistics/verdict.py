"""Sets what was found against what was claimed, one finding per claim, load and candidate.

Must not know how a finding is printed. Every finding carries its reason in plain words.

The rules: beyond the ambitious end of a claim with the whole interval is *exceeded*, beyond its
modest end is *met*, short of it with the whole interval is *missed*, and an interval on both sides
of the modest end is *inconclusive*. Fewer than five pairs decide nothing. What has no trials is
*not measured*. What failed its checks before, or is compared with a baseline that did, can be no
success, whatever the figure: then that is the verdict.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from testbed.measure.statistics.comparison import (
    Cell,
    bounded,
    cells,
    compare,
    trials_of,
    typical,
)
from testbed.measure.statistics.correctness import why_broken
from testbed.measure.statistics.interval import Ratio, pairs_to_decide
from testbed.measure.statistics.quantities import QUANTITIES, SEARCHED
from testbed.results import Point, Result, Variant
from testbed.targets import TARGETS, Band, Better, Target

FEWEST_PAIRS: Final = 5
PARTIAL_DROP: Final = 0.005
"""The partial-drop bound (0.5 %): a paced load that loses more was not carried."""


class Verdict(enum.StrEnum):
    EXCEEDED = "exceeded"
    MET = "met"
    MISSED = "missed"
    INCONCLUSIVE = "inconclusive"
    NOT_MEASURED = "not measured"
    FAILED_CHECKS = "failed its checks"


WORST_FIRST: Final = (
    Verdict.FAILED_CHECKS,
    Verdict.MISSED,
    Verdict.INCONCLUSIVE,
    Verdict.NOT_MEASURED,
    Verdict.MET,
    Verdict.EXCEEDED,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One claim at one load for one candidate.

    `band` is the load that is claimed about, `cell` where it was measured, if it was. `quantity`
    is what decided, which may be the target's second choice; then `reason` says why.
    `at_least` means that the ratio is a lower bound.
    """

    target: Target
    band: Band
    candidate: str | None
    cell: Cell | None
    quantity: str
    estimate: Ratio | None
    verdict: Verdict
    reason: str
    at_least: bool = False
    pairs_needed: int | None = None
    plain: bool = False
    """Whether figure, interval and claim alone explain the verdict."""
    beside: tuple[tuple[str, Ratio], ...] = ()


def assess(result: Result) -> tuple[Finding, ...]:
    """Every wanted claim against the result, in the documented order.

    Claims that the scenario did not ask for are left out; those that it asked for and could not
    measure are there as "not measured".
    """
    wanted = set(result.scenario.targets)
    return tuple(
        finding
        for target in TARGETS
        if target.key in wanted
        for finding in _findings(result, target)
    )


def worst_verdicts(result: Result) -> tuple[Verdict, ...]:
    """The verdicts that occur in the result, worst first, each once. Potentials do not count."""
    found = {finding.verdict for finding in assess(result) if not finding.target.potential}
    return tuple(verdict for verdict in WORST_FIRST if verdict in found)


def judge(
    estimate: Ratio, target: Target, *, at_least: bool = False
) -> tuple[Verdict, str, int | None]:
    """Verdict, reason and, where undecided, the number of pairs that would decide it.

    With `at_least` the ratio is a lower bound: it can show that a claim of more is met, and cannot
    show that it is missed.
    """
    if estimate.ratio is None:
        why = "no pair of trials has a value"
        if estimate.left_out:
            why = f"no pair counts: {estimate.left_out[0]}"
        return Verdict.NOT_MEASURED, why, None
    low, high = estimate.low, estimate.high
    if low is None or high is None or estimate.pairs < FEWEST_PAIRS:
        needed = max(FEWEST_PAIRS, pairs_to_decide(estimate, target.least) or 0)
        return (
            Verdict.INCONCLUSIVE,
            f"only {_pairs(estimate.pairs)}: at least {FEWEST_PAIRS} are needed",
            needed,
        )
    # One picture for both directions: more is better, in logarithms.
    sign = 1.0 if target.better is Better.HIGHER else -1.0
    worst, best = sorted((sign * math.log(low), sign * math.log(high)))
    least = sign * math.log(target.least)
    if target.most is None:
        most, end = math.inf, "the 5 % that count as none"
    else:
        most, end = sign * math.log(target.most), "the modest end of the claim"
    if worst > most:
        return Verdict.EXCEEDED, "the whole interval lies beyond the claim", None
    if worst >= least:
        if target.most is None:
            where = f"within {end}"
        else:
            where = "within the claim" if best <= most else f"beyond {end}"
        return Verdict.MET, f"the whole interval lies {where}", None
    if at_least:
        return Verdict.INCONCLUSIVE, "a lower bound that does not reach the claim", None
    if best < least:
        if target.most is None:
            return Verdict.MISSED, f"the whole interval lies beyond {end}", None
        backwards = " and the change goes the other way" if best < 0 < least else ""
        return Verdict.MISSED, f"the whole interval falls short of {end}{backwards}", None
    needed_pairs = pairs_to_decide(estimate, target.least)
    close = "" if needed_pairs else ", so close that no number of pairs would tell"
    return (
        Verdict.INCONCLUSIVE,
        f"the interval lies on both sides of {end}{close}",
        needed_pairs,
    )


def _pairs(count: int) -> str:
    return "1 pair" if count == 1 else f"{count} pairs"


def _findings(result: Result, target: Target) -> Iterator[Finding]:
    first = target.bands[0]

    def unmeasured(
        reason: str, band: Band = first, cell: Cell | None = None, name: str | None = None
    ) -> Finding:
        return Finding(
            target=target,
            band=band,
            candidate=name,
            cell=cell,
            quantity=target.quantity,
            estimate=None,
            verdict=Verdict.NOT_MEASURED,
            reason=reason,
        )

    point = _point(result, target)
    if point is None:
        assert target.node is not None
        yield unmeasured(f"no {target.node.upper()} was under test by itself in this run")
        return
    candidates = _candidates(result, target)
    if not candidates:
        yield unmeasured(
            f"no variant has a batch of {target.batch}"
            if target.batch is not None
            else "no variant is set against the baseline"
        )
        return
    for band in target.bands:
        cell = _cell(result, point, band, target)
        if cell is None:
            yield unmeasured(f"no trials at {band} load in this run", band)
            continue
        for candidate in candidates:
            if trials_of(result, cell, candidate.name) or trials_of(
                result, cell, candidate.name, "counting"
            ):
                yield _finding(result, target, band, cell, candidate)
            else:
                yield unmeasured("it has no trials at this load", band, cell, candidate.name)


def _point(result: Result, target: Target) -> Point | None:
    for point in result.scenario.points:
        if target.node is None or point.node_kind == target.node:
            return point
    return None


def _candidates(result: Result, target: Target) -> list[Variant]:
    variants = [variant for variant in result.scenario.variants if not variant.baseline]
    if target.batch is not None:
        return [v for v in variants if v.settings.get("batch") == target.batch]
    return [variant for variant in variants if "timing" in variant.passes]


def _cell(result: Result, point: Point, band: Band, target: Target) -> Cell | None:
    """The cell of a band; None if it was not measured.

    Paced high load and maximum load never stand in for each other: below saturation a batch is
    nearly empty, at saturation it is full.
    """
    fitting = [
        cell
        for cell in cells(result)
        if cell.point == point.name
        and Band.of(result.load(cell.load).rate_pps) is band
        # A claim about a batch size is about system calls, which have a pass of their own.
        and (target.batch is not None or trials_of(result, cell, result.baseline.name))
    ]
    named = [cell for cell in fitting if cell.load == band]
    return next(iter(named or fitting), None)


def _finding(result: Result, target: Target, band: Band, cell: Cell, candidate: Variant) -> Finding:
    quantity, at_least, why = target.quantity, False, ""
    if target.when_bounded is not None:
        if bounded(result, cell, result.baseline.name):
            quantity = target.when_bounded
            why = f"the tester was the limit, so {QUANTITIES[quantity].label} decide; "
        else:
            at_least = bounded(result, cell, candidate.name)
    estimate = compare(result, cell, quantity, candidate.name)
    verdict, reason, pairs_needed = judge(estimate, target, at_least=at_least)
    if at_least and verdict is Verdict.INCONCLUSIVE and target.when_bounded is not None:
        quantity, at_least = target.when_bounded, False
        why = f"the tester was the limit of the candidate, so {QUANTITIES[quantity].label} decide; "
        estimate = compare(result, cell, quantity, candidate.name)
        verdict, reason, pairs_needed = judge(estimate, target)
    beside = {*target.beside, target.quantity} - {quantity}
    if target.quantity == "delivered_pps" and result.searches:
        beside |= SEARCHED.keys()
    finding = Finding(
        target=target,
        band=band,
        candidate=candidate.name,
        cell=cell,
        quantity=quantity,
        estimate=estimate,
        verdict=verdict,
        reason=why + reason,
        at_least=at_least,
        pairs_needed=pairs_needed,
        plain=not why and verdict in (Verdict.EXCEEDED, Verdict.MET, Verdict.MISSED),
        beside=tuple((key, compare(result, cell, key, candidate.name)) for key in sorted(beside)),
    )
    return _correct_first(result, finding)


def _correct_first(result: Result, finding: Finding) -> Finding:
    """A variant that harms packets gets no success: takes it away, and says so."""
    if finding.verdict not in (Verdict.MET, Verdict.EXCEEDED, Verdict.INCONCLUSIVE):
        return finding
    assert finding.cell is not None
    assert finding.candidate is not None
    cell, candidate = finding.cell, finding.candidate
    why = "no figure of it counts as a success"
    broken = why_broken(result, candidate)
    if broken is None:
        why = "better than a broken baseline is no success"
        broken = why_broken(result, result.baseline.name)
    if broken is not None:
        return replace(
            finding,
            verdict=Verdict.FAILED_CHECKS,
            plain=False,
            pairs_needed=None,
            reason=f"{broken}: {why} (the figure alone: {finding.verdict})",
        )
    if finding.verdict is Verdict.INCONCLUSIVE:
        return finding
    corrupted = sum(
        trial.traffic.corrupted
        for load in {cell.load for cell in cells(result)}
        for trial in trials_of(result, replace(cell, load=load), candidate)
        if trial.traffic is not None
    )
    if corrupted:
        return replace(
            finding,
            verdict=Verdict.MISSED,
            plain=False,
            reason=f"{candidate} delivered {corrupted} damaged packets: no figure of it counts "
            f"as a success (the figure alone: {finding.verdict})",
        )
    if result.load(cell.load).rate_pps is None:
        return finding
    loss = typical(trials_of(result, cell, candidate), "loss_ratio") or 0.0
    usual = typical(trials_of(result, cell, result.baseline.name), "loss_ratio") or 0.0
    if loss > max(PARTIAL_DROP, usual):
        return replace(
            finding,
            verdict=Verdict.MISSED,
            plain=False,
            reason=f"{candidate} lost {100 * loss:.2g} % of a load of which the baseline lost "
            f"{100 * usual:.2g} %: it did not carry it (the figure alone: {finding.verdict})",
        )
    return finding
