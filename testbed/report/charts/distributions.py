"""Distributions: latency as a curve towards its tail, and the sizes of the batches found.

Must not know how it is drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from testbed.measure.statistics import cells, latency_curve
from testbed.report.charts.common import counted, key_of, left_out, place_text, sentence, shown
from testbed.report.charts.model import Axis, BarChart, Bars, LineChart, Series
from testbed.report.wording import percent
from testbed.results import Result, Trial

_TAIL = ((0.0, "0"), (0.5, "50"), (0.9, "90"), (0.99, "99"), (0.999, "99.9"), (0.9999, "99.99"))
_TOLD = (0.5, 0.99, 0.999)


def latency(result: Result) -> Iterator[LineChart]:
    """The cumulative distribution for each place at which the load was paced."""
    for place in cells(result):
        if result.load(place.load).rate_pps is None:
            continue
        series = [
            Series(name=variant.name, tone=tone, points=curve, smooth=True)
            for tone, variant in shown(result, [place])
            if (curve := latency_curve(counted(result, place, variant)))
        ]
        if not series:
            continue
        where = f"{place_text(result, place.point, place.frame_bytes)}, {place.load} load"
        told = " ".join(
            sentence(
                one.name,
                [
                    (f"{percent(share)} of packets", at)
                    for share in _TOLD
                    if (at := next((x for x, y in one.points if y >= share), None)) is not None
                ],
                "µs",
            )
            for one in series
        )
        yield LineChart(
            key=key_of("latency", place.point, place.load, place.frame_bytes),
            title=f"One-way latency: {where}",
            x=Axis(title="latency, µs", scale="log"),
            y=Axis(title="% of packets within", scale="tail", ticks=_TAIL),
            series=tuple(series),
            alt=f"Cumulative distribution of latency, {where}. {told}",
            note="The further left, the better; the scale is stretched towards the tail."
            + left_out(result, [place]),
        )


def batches(result: Result) -> Iterator[BarChart]:
    """In batches of which size packets were received, for each place."""
    for place in cells(result):
        found = {
            (tone, variant.name): sizes
            for tone, variant in shown(result, [place])
            if (sizes := _packets_by_size(counted(result, place, variant)))
        }
        largest = max((max(sizes) for sizes in found.values()), default=1)
        if largest < 2:
            continue
        groups = _groups(largest)
        bars = tuple(
            Bars(
                name=name,
                tone=tone,
                values=tuple(
                    100 * sum(n for size, n in sizes.items() if low <= size <= high)
                    / sizes.total()
                    for low, high in groups
                ),
            )
            for (tone, name), sizes in found.items()
        )  # fmt: skip
        where = f"{place_text(result, place.point, place.frame_bytes)}, {place.load} load"
        texts = tuple(str(low) if low == high else f"{low}–{high}" for low, high in groups)
        told = " ".join(
            sentence(
                one.name,
                [(f"sizes {text}", v) for text, v in zip(texts, one.values, strict=True) if v],
                "%",
            )
            for one in bars
        )
        yield BarChart(
            key=key_of("batches", place.point, place.load, place.frame_bytes),
            title=f"Batches found: {where}",
            axis="% of packets",
            groups=texts,
            group_title="packets that one receiving call returned",
            bars=bars,
            alt=f"Share of packets by the size of the batch they were received in, {where}. {told}",
            note=left_out(result, [place]),
        )


def _packets_by_size(trials: Sequence[Trial]) -> Counter[int]:
    sizes: Counter[int] = Counter()
    for trial in trials:
        for fill in trial.node.fill.values() if trial.node is not None else ():
            for size, times in fill.items():
                sizes[int(size)] += int(size) * times
    del sizes[0]
    return sizes


def _groups(largest: int) -> list[tuple[int, int]]:
    """1, 2, 3–4, 5–8, … up to the largest."""
    groups = [(1, 1)]
    while groups[-1][1] < largest:
        high = groups[-1][1]
        groups.append((high + 1, 2 * high))
    return groups
