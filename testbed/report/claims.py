"""The page of the documented claims: each with what was measured, the verdict, and why.

Made from one result or several: a claim is decided by the first that has measured it. Why a claim
holds or does not is said by the figures behind it, which both variants have at the same load: how
many packets a call found, how often the node woke, what it spent. Must not know how it will look.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from testbed.measure.statistics import (
    QUANTITIES,
    Finding,
    Verdict,
    assess,
    cells,
    phase_of,
    trials_of,
    typical,
)
from testbed.measure.statistics import (
    Cell as Place,
)
from testbed.report.blocks import Block, Bullets, Cell, Rows, Section, Table, Tone, line
from testbed.report.checked import checks
from testbed.report.summary import claim_text, found_text, point_text
from testbed.report.wording import NOTHING, TONES, count, mib, number, percent, seconds
from testbed.results import Result, Trial
from testbed.targets import TARGETS

FULL: Final = 0.9
"""Batches filled to so much count as full; what was found below two packets is nearly none."""
NEARLY_EMPTY: Final = 2.0

_EVIDENCE: Final = (
    "offered_pps", "delivered_pps", "loss_ratio", "cpu_us_per_packet", "user_us_per_packet",
    "system_us_per_packet", "syscalls_per_packet", "wakeups_per_packet", "fill",
    "switches_per_packet", "latency_p50_us", "latency_p99_us", "pss_bytes",
)  # fmt: skip

_COUNTED: Final = ("wakeups_per_packet", "fill")


@dataclass(frozen=True, kw_only=True, slots=True)
class Decided:
    """A finding and the result that it comes from."""

    finding: Finding
    result: Result


def claims(results: Sequence[Result], commands: Sequence[str]) -> tuple[Section, ...]:
    """The whole page; raises ValueError without results.

    `commands` are the command lines that made the results, in their order, and then the page.
    """
    if not results:
        raise ValueError("no results")
    decided = _decided(results)
    sections = [
        Section(
            title="The documented claims, checked",
            blocks=(
                *_about(results, commands),
                _table(decided),
            ),
        ),
        *_places(decided),
        Section(title="Not measured", blocks=tuple(_not_measured(decided))),
    ]
    for result in results:
        sections += _writev(result)
    sections += [_shortfalls(result) for result in results]
    return tuple(section for section in sections if section.blocks)


def _decided(results: Sequence[Result]) -> list[Decided]:
    """Every claim at every load, from the first result that has measured it."""
    found = [[Decided(finding=one, result=r) for one in assess(r)] for r in results]
    decided: list[Decided] = []
    for target in TARGETS:
        for band in target.bands:
            of_each = [
                [d for d in one if d.finding.target is target and d.finding.band is band]
                for one in found
            ]
            measured = [
                one
                for one in of_each
                if any(d.finding.verdict is not Verdict.NOT_MEASURED for d in one)
            ]
            decided += next(iter([*measured, *filter(None, of_each)]), [])
    return decided


def _about(results: Sequence[Result], commands: Sequence[str]) -> Iterator[Block]:
    yield line(
        "Made by commands that anyone can repeat, of which the last makes this page. How each "
        "figure is taken, and when a claim holds, is in method.md. A missed claim is a result."
    )
    rows = Rows()
    *runs, page = commands
    for result, command in zip(results, runs, strict=True):
        about = result.environment
        stopped = ", stopped before its end" if result.interrupted else ""
        rows.add(
            Cell(command, Tone.CODE),
            f"{result.started[:10]}, {result.scenario.pairs} pair"
            f"{'' if result.scenario.pairs == 1 else 's'}, {seconds(result.elapsed_s)}{stopped}",
            f"{about.cpus} × {about.cpu_model}, Linux {about.kernel}",
        )
    rows.add(Cell(page, Tone.CODE), "", "")
    yield rows.table(("<<command", "<<when", "<<where"))


def _table(decided: Sequence[Decided]) -> Table:
    rows = Rows()
    before: str | None = None
    for one in decided:
        finding = one.finding
        family = finding.target.key.split("-")[0]
        if family != before:
            rows.group()
        before = family
        several = _several([d.finding for d in decided if d.finding.target is finding.target])
        rows.add(
            claim_text(finding, several=several),
            finding.cell.load if finding.cell else finding.band,
            finding.target.claimed,
            found_text(finding),
            Cell(finding.verdict, TONES[finding.verdict]),
        )
    return rows.table(
        ("<claim", "<load", "<claimed", "<found", "<verdict"),
        note="Found: the ratio to the per-packet baseline, pair by pair, with its 95 % interval. "
        "(a) is the delivered rate, (b) packets per CPU-second; the one that stands first decides. "
        "≥ is a lower bound: the tester was the limit.",
    )


def _several(findings: Sequence[Finding]) -> bool:
    return len({finding.candidate for finding in findings if finding.candidate}) > 1


def _places(decided: Sequence[Decided]) -> Iterator[Section]:
    """A section for each variant at each load that decided something: claims, why, and figures."""
    places: dict[tuple[int, Place, str], list[Decided]] = {}
    for one in decided:
        finding = one.finding
        if finding.cell is None or finding.candidate is None:
            continue
        if finding.verdict is not Verdict.NOT_MEASURED:
            key = (id(one.result), finding.cell, finding.candidate)
            places.setdefault(key, []).append(one)
    for (_, place, candidate), here in places.items():
        result = here[0].result
        yield Section(
            title=f"{point_text(result.point(place.point))}, {place.load} load: {candidate} "
            f"against {result.baseline.name}",
            blocks=(
                *(_verdict(one) for one in here),
                line(" ".join(_because(here[0]))),
                _evidence(here[0]),
            ),
        )


def _verdict(one: Decided) -> Block:
    finding = one.finding
    return line(
        Cell(f"{finding.target.claim}: {finding.verdict}", TONES[finding.verdict]),
        f" — claimed {finding.target.claimed}, found {found_text(finding)}: "
        f"{finding.reason}{_needed(finding)}.",
    )


def _not_measured(decided: Sequence[Decided]) -> Iterator[Block]:
    said: dict[str, dict[str, None]] = {}
    for one in decided:
        if one.finding.verdict is Verdict.NOT_MEASURED:
            claim = f"{one.finding.target.claim} ({one.finding.band} load)"
            said.setdefault(one.finding.reason, {})[claim] = None
    if said:
        yield Bullets(items=tuple(f"{why}: {'; '.join(names)}." for why, names in said.items()))


def _needed(finding: Finding) -> str:
    if not finding.pairs_needed:
        return ""
    return f"; about {finding.pairs_needed} pairs would decide it"


def _because(one: Decided) -> Iterator[str]:
    """What explains the figures: the batches found, the wake-ups, and where the CPU time went."""
    base, mine = _figures(one, baseline=True), _figures(one, baseline=False)
    batch = one.result.variant(one.finding.candidate or "").settings.get("batch")
    fill = mine.get("fill")
    if fill is not None:
        said = f"A receiving call found {number(fill)} packets on average"
        if isinstance(batch, int) and batch > 1:
            if fill >= FULL * batch:
                said += f": full batches, since it asks for {batch} at most"
            elif fill < NEARLY_EMPTY:
                said += f": {_why_empty(mine.get('wakeups_per_packet'))}"
        yield said + "."
    yield from _against(base, mine, "wakeups_per_packet", "Wake-ups per packet")
    yield from _against(base, mine, "syscalls_per_packet", "System calls per packet, all of them")
    single = base.get("syscalls_per_packet")
    if single is not None and isinstance(batch, int) and batch > 1:
        yield f"Full batches of {batch} on both sides would make {number(single / batch)} of them."
    yield from _spent(base, mine)


def _why_empty(wakeups_per_packet: float | None) -> str:
    """Calls that find hardly more than one: nothing else was there, or it was left for the next."""
    if wakeups_per_packet is None or wakeups_per_packet > 1 / NEARLY_EMPTY:
        return (
            "the node is woken for almost each packet at this load, and there is nothing to put "
            "together"
        )
    return (
        f"the node wakes up to about {1 / wakeups_per_packet:.2g} at this load, and takes so "
        "few one by one, each as soon as it can go"
    )


def _against(
    base: Mapping[str, float | None], mine: Mapping[str, float | None], key: str, name: str
) -> Iterator[str]:
    if base.get(key) is not None and mine.get(key) is not None:
        yield f"{name}: {number(base[key])} with the baseline, {number(mine[key])} here."


def _spent(base: Mapping[str, float | None], mine: Mapping[str, float | None]) -> Iterator[str]:
    keys = ("cpu_us_per_packet", "user_us_per_packet", "system_us_per_packet")
    values = [(base.get(key), mine.get(key)) for key in keys]
    if any(a is None or b is None for a, b in values):
        return
    whole, user, system = (f"{number(a)} → {number(b)}" for a, b in values)
    yield (
        f"CPU of the node for a delivered packet, µs: {whole}; in the program {user}, in the "
        f"kernel {system}. What is saved of system calls shows in the kernel's part, what is saved "
        "of the interpreter's work in the program's."
    )


def _figures(one: Decided, *, baseline: bool) -> dict[str, float | None]:
    """Medians at the cell of a finding."""
    assert one.finding.cell is not None
    name = one.result.baseline.name if baseline else one.finding.candidate or ""
    return {key: _typical(one.result, one.finding.cell, name, key) for key in _EVIDENCE}


def _typical(result: Result, place: Place, variant: str, quantity: str) -> float | None:
    """The median; of a variant that was only counted, what counting does not slow down."""
    phase = phase_of(result, quantity, place, variant)
    trials = trials_of(result, place, variant, phase)
    if not trials and quantity in _COUNTED:
        trials = trials_of(result, place, variant, "counting")
    return typical(trials, quantity)


def _evidence(one: Decided) -> Table:
    """Medians of both variants at the place of a finding."""
    base, mine = _figures(one, baseline=True), _figures(one, baseline=False)
    rows = Rows()
    for key in _EVIDENCE:
        if base[key] is None and mine[key] is None:
            continue
        unit = "MiB" if key == "pss_bytes" else QUANTITIES[key].unit
        unit = f", {unit}" if unit and unit not in ("calls", "packets") else ""
        rows.add(f"{QUANTITIES[key].label}{unit}", _value(key, base[key]), _value(key, mine[key]))
    candidate = one.finding.candidate or NOTHING
    return rows.table(("<median of the trials", one.result.baseline.name, candidate))


def _value(key: str, value: float | None) -> str:
    if key == "pss_bytes":
        return mib(value)
    if key == "loss_ratio":
        return percent(value)
    return count(value) if key.endswith("_pps") else number(value)


def _writev(result: Result) -> list[Section]:
    """What one writev for a batch does to packets, where a result has it beside others."""
    using = [v for v in result.scenario.variants if v.settings.get("engine_wire") == "writev"]
    if not using:
        return []
    rows = Rows()
    for place in cells(result):
        rows.group()
        for variant in result.scenario.variants:
            trials = trials_of(result, place, variant.name)
            if trials:
                rows.add(
                    f"{point_text(result.point(place.point))}, {place.frame_bytes} bytes",
                    place.load,
                    variant.name,
                    *_arrived(trials),
                )
    blocks: list[Block] = [
        line(
            "The design says that all packets of a batch go out in one writev. On a packet socket "
            "and on a TAP one writev is one frame, gathered from its buffers: of N packets the "
            "first arrives, with the others as its tail, and past the MTU the call fails and none "
            "does. Copies for several OBUs reach the first of them. So the mechanism saves system "
            "calls by not sending packets; the calls that do send a batch are sendmmsg and "
            "io_uring."
        ),
        rows.table(
            ("<measured", "<load", "<variant", "offered", "arrived whole", "share",
             "with a tail\nor damaged", "<said of the trials"),
            title="What arrived",
            note="All timing trials together, those that count for no verdict included.",
        ),
    ]  # fmt: skip
    checked = checks(result)
    blocks += checked.blocks
    name = f"What one writev for a batch does to packets ({result.scenario.name})"
    return [Section(title=name, blocks=tuple(blocks))]


def _arrived(trials: Sequence[Trial]) -> Iterator[str | Cell]:
    traffic = [trial.traffic for trial in trials if trial.traffic is not None]
    offered = sum(one.offered for one in traffic)
    delivered = sum(one.delivered for one in traffic)
    marks = dict.fromkeys(m.mark for t in trials for m in t.marks if m.mark != "lower-bound")
    yield count(offered) if traffic else NOTHING
    yield count(delivered) if traffic else NOTHING
    yield percent(delivered / offered, 1) if offered else NOTHING
    yield count(sum(one.corrupted for one in traffic)) if traffic else NOTHING
    yield ", ".join(marks)


def _shortfalls(result: Result) -> Section:
    said = [f"{one[0].upper()}{one[1:]}." for one in (*result.scenario.shortfalls, *result.notes)]
    return Section(
        title=f"What the {result.scenario.form} run of {result.scenario.name} falls short of",
        blocks=(Bullets(items=tuple(said)),) if said else (),
    )
