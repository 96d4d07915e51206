"""What came of each step of a load that comes in steps: losses and latency.

Must not know how a load is cut into steps, nor how a table looks.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from testbed.measure.statistics import cells, trials_of
from testbed.report.blocks import Block, Rows, Section
from testbed.report.summary import point_text
from testbed.report.wording import NOTHING, count, number, percent
from testbed.results import Latency, Result, Step, Trial, in_words


def steps(result: Result) -> Section:
    """A table for each point, frame size and load in steps; rows by step and variant."""
    blocks: list[Block] = []
    several = len(result.scenario.frame_bytes) > 1
    for place in cells(result):
        rates = result.load(place.load).steps_pps
        rows = Rows()
        for index, rate in enumerate(rates):
            rows.group()
            for variant in result.scenario.variants:
                trials = trials_of(result, place, variant.name)
                if found := _of(trials, index):
                    offered = sum(step.offered for step in found)
                    lost = offered - sum(step.delivered for step in found)
                    rows.add(
                        f"{index + 1}: {count(rate)} pps",
                        variant.name,
                        percent(lost / offered) if offered else NOTHING,
                        number(_typical_us(found, lambda latency: latency.p50_ns)),
                        number(_typical_us(found, lambda latency: latency.p99_ns)),
                        number(_typical_us(found, lambda latency: latency.max_ns)),
                    )
        if len(rows):
            size = f", {in_words(place.frame_bytes)}" if several else ""
            blocks.append(
                rows.table(
                    ("<step", "<variant", "lost", "p50", "p99", "max"),
                    title=f"{point_text(result.point(place.point))}{size}, {place.load}",
                    note="Medians over the trials; a packet belongs to the step in which it was "
                    "sent. Steps follow each other without a pause, for equal times.",
                )
            )
    return Section(title="One-way latency under load steps, µs", blocks=tuple(blocks))


def _of(trials: Sequence[Trial], index: int) -> list[Step]:
    """That step of every trial that counts."""
    return [
        trial.traffic.steps[index]
        for trial in trials
        if trial.counts and trial.traffic is not None and index < len(trial.traffic.steps)
    ]


def _typical_us(found: Sequence[Step], of: Callable[[Latency], int]) -> float | None:
    values = [of(step.latency) for step in found if step.latency is not None]
    return statistics.median(values) / 1000 if values else None
