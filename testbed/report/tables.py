"""The tables behind the verdicts: one subject each, for every measured point, load and variant.

Figures are medians over the trials that count; the change beside them is the ratio pair by pair.
Must not know how a table will look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from testbed.measure.statistics import (
    CLASSES,
    PHASES,
    bounded,
    calls,
    cells,
    compare,
    handled,
    mean_fill,
    own_count_deviation,
    trials_of,
    typical,
)
from testbed.measure.statistics import (
    Cell as Place,
)
from testbed.report.blocks import Block, Cell, Line, Rows, Section, Table, Tone, line
from testbed.report.summary import point_text
from testbed.report.wording import CHANGE, NOTHING, change, count, found, mib, number, percent
from testbed.results import Result, Trial, Variant, in_words
from testbed.targets import arithmetic_reduction

_MEDIANS = f"Medians over the trials that count; {CHANGE}"

Figures = Callable[[Place, Variant, Sequence[Trial]], Sequence[str | Cell]]


def throughput(result: Result) -> Section:
    """Offered and delivered, and the packets per CPU-second."""

    def figures(place: Place, variant: Variant, trials: Sequence[Trial]) -> Sequence[str | Cell]:
        at_least = result.load(place.load).rate_pps is None and bounded(result, place, variant.name)
        return (
            count(typical(trials, "offered_pps")),
            ("≥" if at_least else "") + count(typical(trials, "delivered_pps")),
            _compared(result, place, variant, "delivered_pps"),
            percent(typical(trials, "loss_ratio")),
            count(typical(trials, "packets_per_cpu_s")),
            _compared(result, place, variant, "packets_per_cpu_s"),
        )

    return Section(
        title="Throughput",
        blocks=tuple(
            _by_point(
                result,
                (
                    "offered\npps",
                    "delivered\npps",
                    "(a) change",
                    "lost",
                    "packets\n/CPU-s",
                    "(b) change",
                ),
                figures,
                note="At “max” the delivered rate is the forwarding rate at maximum offered load "
                "(RFC 2285); what is lost there is what the node could not take.",
            )
        ),
    )


def processor(result: Result) -> Section:
    """CPU time per packet."""

    def figures(place: Place, variant: Variant, trials: Sequence[Trial]) -> Sequence[str | Cell]:
        return (
            number(typical(trials, "cpu_us_per_packet")),
            _compared(result, place, variant, "cpu_us_per_packet"),
            number(typical(trials, "user_us_per_packet")),
            number(typical(trials, "system_us_per_packet")),
            number(typical(trials, "machine_cpu_us_per_packet")),
            _compared(result, place, variant, "machine_cpu_us_per_packet"),
        )

    return Section(
        title="CPU, µs per delivered packet",
        blocks=tuple(
            _by_point(
                result,
                ("node", "change", "user", "system", "machine", "change"),
                figures,
                note="“node” is the task-clock of the node under test, exact; the split into user "
                "and system is sampled by the kernel at its tick. “machine” is all CPUs together, "
                "generator and sink included.",
            )
        ),
    )


def scheduling(result: Result) -> Section:
    """Context switches, wake-ups, and how much a wake-up found."""

    def figures(place: Place, variant: Variant, trials: Sequence[Trial]) -> Sequence[str | Cell]:
        wakeups = typical(trials, "wakeups_per_packet")
        return (
            number(typical(trials, "voluntary_per_1000")),
            number(typical(trials, "involuntary_per_1000")),
            _compared(result, place, variant, "switches_per_packet"),
            count(typical(trials, "switches_per_s")),
            number(None if wakeups is None else 1000 * wakeups),
            _compared(result, place, variant, "wakeups_per_packet"),
            number(typical(trials, "fill")),
        )

    return Section(
        title="Context switches and wake-ups, per 1 000 packets",
        blocks=tuple(
            _by_point(
                result,
                (
                    "voluntary", "involuntary", "change", "switches\n/s", "wake-ups", "change",
                    "batch\nfound",
                ),
                figures,
                note="“batch found” is the mean number of packets that a receiving call returned.",
            )
        ),
    )  # fmt: skip


def latency(result: Result) -> Section:
    """One-way latency."""

    def figures(place: Place, variant: Variant, trials: Sequence[Trial]) -> Sequence[str | Cell]:
        return (
            number(typical(trials, "latency_p50_us")),
            _compared(result, place, variant, "latency_p50_us"),
            number(typical(trials, "latency_p90_us")),
            number(typical(trials, "latency_p99_us")),
            _compared(result, place, variant, "latency_p99_us"),
            number(typical(trials, "latency_p999_us")),
            number(typical(trials, "latency_max_us")),
        )

    return Section(
        title="One-way latency, µs",
        blocks=tuple(
            _by_point(
                result,
                ("p50", "change", "p90", "p99", "change", "p99.9", "max"),
                figures,
                note="From the timestamp in the payload to the kernel's receive timestamp at the "
                "sink, one clock. At “max” it is the time spent in full queues.",
            )
        ),
    )


def memory(result: Result) -> Section:
    """Memory at the end of the trials, and growth."""

    def figures(place: Place, variant: Variant, trials: Sequence[Trial]) -> Sequence[str | Cell]:
        growth = typical(trials, "growth_bytes_per_million")
        packets = _median_handled(trials)
        return (
            mib(typical(trials, "pss_bytes")),
            _compared(result, place, variant, "pss_bytes"),
            mib(typical(trials, "peak_rss_bytes")),
            # Growth over a few thousand packets says nothing about a million.
            NOTHING if packets is None or packets < 50_000 else mib(growth),
        )

    return Section(
        title="Memory of the node, MiB",
        blocks=tuple(
            _by_point(
                result,
                ("PSS", "change", "peak RSS", "growth per\nmillion packets"),
                figures,
                note="Growth is given where a trial carried at least 50 000 packets.",
            )
        ),
    )


def system_calls(result: Result) -> Section:
    """Calls per packet against the arithmetic of full batches, by class, and by name."""
    blocks: list[Block] = []
    for point, places in _points(result):
        totals, classes = Rows(), Rows()
        for place in places:
            totals.group()
            classes.group()
            for variant in result.scenario.variants:
                counted = _counted(result, place, variant)
                if counted:
                    totals.add(place.load, variant.name, *_totals(result, place, variant, counted))
                    classes.add(place.load, variant.name, *_classes(counted))
        if len(totals):
            blocks += [
                totals.table(
                    (
                        "<load", "<variant", "calls per\npacket", "change",
                        "arithmetic\n1−1/N", "batch\nfound", "trials", "<counted\nby",
                    ),
                    title=point,
                ),
                classes.table(
                    ("<load", "<variant", *CLASSES), title=f"{point}: calls per packet by class"
                ),
            ]  # fmt: skip
    if not blocks:
        return Section(title="System calls")
    blocks.insert(1, _counting_note(result))
    names = _by_name(result)
    if names is not None:
        blocks.append(names)
    return Section(title="System calls", blocks=tuple(blocks))


def _totals(
    result: Result, place: Place, variant: Variant, counted: Sequence[Trial]
) -> Iterator[str | Cell]:
    batch = variant.settings.get("batch")
    yield number(typical(counted, "syscalls_per_packet"))
    yield _compared(result, place, variant, "syscalls_per_packet")
    arithmetic = (
        change(1 - arithmetic_reduction(batch))
        if isinstance(batch, int) and not variant.baseline
        else ""
    )
    yield Cell(arithmetic, Tone.FAINT)
    yield number(typical(counted, "fill"))
    yield count(len(counted))
    who = {made.counted_by for trial in counted if (made := calls(trial)) is not None}
    yield ", ".join(sorted(who))


def _classes(counted: Sequence[Trial]) -> Iterator[str]:
    for name in CLASSES:
        yield number(typical(counted, f"{name}_calls_per_packet"))


def _counted(result: Result, place: Place, variant: Variant) -> list[Trial]:
    for phase in reversed(PHASES):
        trials = trials_of(result, place, variant.name, phase)
        counted = [trial for trial in trials if trial.counts and calls(trial) is not None]
        if counted:
            return counted
    return []


def _counting_note(result: Result) -> Line:
    deviations = [
        deviation
        for trial in result.trials
        if (deviation := own_count_deviation(trial)) is not None
    ]
    said = (
        "All calls of the node, per packet that it passed on. “1−1/N” is the arithmetic of full "
        f"batches on both sides. {_MEDIANS}"
    )
    if not deviations:
        return line(said)
    worst = max(deviations)
    agreed = "agreed with" if worst <= 0.01 else "differed from"
    return line(
        said + " ",
        Cell(
            f"The node's own count {agreed} the kernel's in {len(deviations)} trials: "
            f"{percent(worst)} apart at most.",
            Tone.PLAIN if worst <= 0.01 else Tone.BAD,
        ),
    )


def _by_name(result: Result) -> Table | None:
    """Calls by name at the highest load that was counted, variants side by side."""
    for place in reversed(cells(result)):
        counted = {
            variant.name: trials
            for variant in result.scenario.variants
            if (trials := [
                trial
                for trial in trials_of(result, place, variant.name, "counting")
                if trial.counts and calls(trial) is not None
            ])
        }  # fmt: skip
        if not counted:
            continue
        names: dict[str, str] = {}
        for trials in counted.values():
            for trial in trials:
                found = calls(trial)
                for name, calls_made in found.by_name.items() if found else ():
                    if calls_made:
                        names[name] = found.classes.get(name, "other") if found else "other"
        rows = Rows()
        for name, kind in sorted(names.items(), key=lambda item: (CLASSES.index(item[1]), item[0])):
            rows.add(name, kind, *(number(_per_packet(t, name)) for t in counted.values()))
        return rows.table(
            ("<call", "<class", *counted),
            title=f"by name, per packet: {point_text(result.point(place.point))}, "
            f"{place.load} load",
        )
    return None


def _per_packet(trials: Sequence[Trial], name: str) -> float | None:
    packets = sum(handled(trial) or 0 for trial in trials)
    made = sum(found.of(name) for trial in trials if (found := calls(trial)) is not None)
    return made / packets if packets else None


def _by_point(
    result: Result, titles: Sequence[str], figures: Figures, *, note: str
) -> Iterator[Block]:
    """A table for each point: rows by load and variant, the figures after them.

    The note stands below the last of them, and what medians and changes are.
    """
    points = _points(result)
    for index, (point, places) in enumerate(points):
        rows = Rows()
        for place in places:
            rows.group()
            for variant in result.scenario.variants:
                trials = trials_of(result, place, variant.name)
                if trials:
                    rows.add(place.load, variant.name, *figures(place, variant, trials))
        if len(rows):
            last = index == len(points) - 1
            yield rows.table(
                ("<load", "<variant", *titles),
                title=point,
                note=f"{_MEDIANS} {note}" if last else None,
            )


def _points(result: Result) -> list[tuple[str, list[Place]]]:
    """Points in words with their cells; the frame size is named where there are several."""
    several = len(result.scenario.frame_bytes) > 1
    points: dict[str, list[Place]] = {}
    for place in cells(result):
        title = point_text(result.point(place.point))
        if several:
            title += f", {in_words(place.frame_bytes)}"
        points.setdefault(title, []).append(place)
    return list(points.items())


def _compared(result: Result, place: Place, variant: Variant, quantity: str) -> Cell:
    if variant.baseline:
        return Cell("")
    return found(compare(result, place, quantity, variant.name))


def _median_handled(trials: Sequence[Trial]) -> float | None:
    handled_ = sorted(n for trial in trials if trial.counts and (n := handled(trial)) is not None)
    return handled_[len(handled_) // 2] if handled_ else None


__all__ = [
    "latency",
    "mean_fill",
    "memory",
    "processor",
    "scheduling",
    "system_calls",
    "throughput",
]
