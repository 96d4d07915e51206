"""The first screen: what was measured, what was claimed, what was found, and the verdicts.

Must not know how it will look.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from testbed.measure.statistics import (
    FEWEST_PAIRS,
    QUANTITIES,
    Finding,
    Verdict,
    assess,
    failed_checks,
)
from testbed.report import checked
from testbed.report.blocks import (
    Block,
    Bullets,
    Cell,
    Line,
    Rows,
    Section,
    Table,
    Tone,
    line,
    tally,
)
from testbed.report.wording import NOTHING, PATHS, TONES, listed, ratio_text, seconds
from testbed.results import Point, Result
from testbed.targets import Form

_NAMED = {
    "delivered_pps": "(a) ",
    "packets_per_cpu_s": "(b) ",
    "machine_cpu_us_per_packet": "machine ",
    "io_calls_per_packet": "I/O ",
}
"""Readings that stand beside each other in a row, by the mark that tells them apart."""

_LEGEND = (
    "Found: the ratio to the baseline pair by pair with its 95 % interval. Throughput has two "
    "readings, (a) the delivered rate and (b) packets per CPU-second; the one that stands first "
    "decides. “machine” is the CPU time of all CPUs, tester included; "
    "“I/O” leaves waiting out. “≥” is a lower bound: the "
    "tester was the limit. Exceeded: the whole interval lies beyond the claim; met: not below its "
    "modest end; missed: short of it; inconclusive: on both sides."
)


def summary(result: Result) -> Section:
    """What was claimed, what was found, and the verdict."""
    findings = assess(result)
    blocks: list[Block] = [_about(result)]
    only_checks = result.scenario.kind == "checks"
    if result.interrupted:
        blocks.append(line(Cell("The run was stopped before its end.", Tone.BAD)))
    if result.checks:
        blocks.append(_checked(result))
        troubles = tuple(checked.troubles(result.checks, seen=False))
        if troubles and not only_checks:
            blocks.append(Bullets(items=troubles))
    if findings:
        blocks += [_headline(findings), _verdicts(findings)]
        reasons = _reasons(findings)
        if reasons.items:
            blocks.append(reasons)
    found = "checked and found" if only_checks else "claimed and found"
    return Section(title=f"{result.scenario.name}: {found}", blocks=tuple(blocks))


def point_text(point: Point) -> str:
    """A measured point in words: obu1, wire → wire; or obu3 → rsu1 of a path."""
    if point.ends is not None:
        arrow = {"forth": "→", "back": "←", "both": "↔"}.get(point.path, point.path)
        return f"{point.ends[0]} {arrow} {point.ends[1]}{_held_back(point)}"
    return f"{point.nodes[0]}, {PATHS.get(point.path, point.path)}{_held_back(point)}"


def _held_back(point: Point) -> str:
    return "" if point.node_cpu == 1 else f" with {point.node_cpu:.0%} of a CPU"


def _about(result: Result) -> Line:
    scenario, environment = result.scenario, result.environment
    where = (
        f"{scenario.form} form, {seconds(result.elapsed_s)} in all, on "
        f"{environment.cpus} × {environment.cpu_model}, Linux {environment.kernel}, "
        f"{result.started[:10]}."
    )
    if scenario.kind == "checks":
        names = ", ".join(variant.name for variant in scenario.variants)
        return line(Cell(names, Tone.STRONG), f" — checked, nothing timed; {where}")
    candidates = [v.name for v in scenario.variants if not v.baseline and "timing" in v.passes]
    points: dict[str, list[str]] = {}
    for point in scenario.points:
        node, _, way = point_text(point).partition(", ")
        points.setdefault(node, []).append(way)
    under_test = "; ".join(
        f"{node} ({', '.join(ways)})" if any(ways) else f"the path {node}"
        for node, ways in points.items()
    )
    return line(
        Cell(f"{' and '.join(candidates) or NOTHING} against {result.baseline.name}", Tone.STRONG),
        f" — under test: {under_test}. {scenario.pairs} pair"
        f"{'s' if scenario.pairs > 1 else ''} of trials in the {where}",
    )


def _headline(findings: tuple[Finding, ...]) -> Line:
    counted = Counter(f.verdict for f in findings if not f.target.potential)
    pieces = [f"Of {counted.total()} claims checked: ", *tally(counted, TONES)]
    return replace(line(*pieces, "."), tally=True)


def _checked(result: Result) -> Line:
    broken = {
        variant.name: kinds
        for variant in result.scenario.variants
        if (kinds := dict.fromkeys(one.kind for one in failed_checks(result, variant.name)))
    }
    variants = dict.fromkeys(check.variant for check in result.checks)
    if not broken:
        many = "all" if len(variants) > 1 else "the"
        return line(
            f"Correct before fast: {many} {_number_of(len(variants), 'variant')} ",
            Cell("passed", Tone.GOOD),
            f" {_number_of(len(result.checks), 'check')} of what arrives and who is reached.",
        )
    if result.scenario.kind == "checks":
        return line(Cell(f"{listed(tuple(broken))} failed.", Tone.BAD))
    return line(
        Cell("No figure counts as a success", Tone.BAD),
        " of "
        + "; ".join(f"{name}, which failed {', '.join(kinds)}" for name, kinds in broken.items())
        + ".",
    )


def _number_of(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _verdicts(findings: tuple[Finding, ...]) -> Table:
    rows = Rows()
    before: str | None = None
    for finding in findings:
        target = finding.target
        family = target.key.split("-")[0]
        if family != before:
            rows.group()
        before = family
        tone = Tone.FAINT if finding.verdict is Verdict.NOT_MEASURED else Tone.PLAIN
        rows.add(
            Cell(claim_text(finding, several=several_candidates(findings)), tone),
            Cell(finding.cell.load if finding.cell else finding.band, tone),
            Cell(target.claimed, tone),
            Cell(found_text(finding), tone),
            Cell(finding.verdict, TONES[finding.verdict]),
        )
    table = rows.table(("<claim", "<load", "<claimed", "<found", "<verdict"), note=_LEGEND)
    return replace(table, claims=True)


def several_candidates(findings: Sequence[Finding]) -> bool:
    """Whether a claim needs the name of the candidate to be told from others."""
    return len({f.candidate for f in findings if f.candidate and f.target.batch is None}) > 1


def claim_text(finding: Finding, *, several: bool) -> str:
    """A claim by its name, with the candidate's where there are `several`."""
    target = finding.target
    text = target.claim + (" (potential)" if target.potential else "")
    if several and finding.candidate is not None and target.batch is None:
        text += f", {finding.candidate}"
    return text


def found_text(finding: Finding) -> str:
    """What decides, with its interval, and what stands beside it."""
    text = ratio_text(finding.estimate, finding.target.form, at_least=finding.at_least)
    if text == NOTHING:
        return text
    parts = [(_NAMED.get(finding.quantity, "") if finding.beside else "") + text]
    for quantity, estimate in finding.beside:
        name = _NAMED.get(quantity, QUANTITIES[quantity].label + " ")
        parts.append(name + ratio_text(estimate, Form.GAIN, interval=False))
    return "; ".join(parts)


def _reasons(findings: tuple[Finding, ...]) -> Bullets:
    """Reasons that the table does not show by itself; claims with the same one stand together."""
    said: dict[tuple[str, str], list[str]] = {}
    for finding in findings:
        if finding.plain:
            continue
        claim = finding.target.claim
        if len(finding.target.bands) > 1:
            claim += f" at {finding.cell.load if finding.cell else finding.band} load"
        reason = finding.reason
        if (finding.pairs_needed or 0) > FEWEST_PAIRS:
            claim += f" ({finding.pairs_needed})"
            reason += "; in brackets about how many pairs would decide it"
        said.setdefault((finding.verdict, reason), []).append(claim)
    order = [str(verdict) for verdict in Verdict]
    return Bullets(
        items=tuple(
            f"{verdict}, {reason}: {'; '.join(dict.fromkeys(claims))}."
            for (verdict, reason), claims in sorted(
                said.items(), key=lambda item: order.index(item[0][0])
            )
        )
    )
