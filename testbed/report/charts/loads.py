"""A quantity over the offered load, a curve for each variant: throughput, CPU, wake-ups.

Must not know how it is drawn.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from testbed.measure.statistics import QUANTITIES, typical
from testbed.measure.statistics import Cell as Place
from testbed.report.charts.common import (
    counted,
    key_of,
    left_out,
    place_text,
    places_by_point,
    sentence,
    short,
    shown,
)
from testbed.report.charts.model import Axis, LineChart, Series
from testbed.results import Result, Variant

_OFFERED = "offered, packets per second"


def throughput(result: Result) -> Iterator[LineChart]:
    """Delivered over offered, against the line on which everything arrives."""
    for chart in _over_load(result, "delivered_pps", "Delivered", "delivered, packets/s"):
        xs = sorted(x for series in chart.series for x, _ in series.points)
        ideal = Series(
            name="all that was offered",
            tone=0,
            points=((xs[0], xs[0]), (xs[-1], xs[-1])),
            reference=True,
            smooth=True,
        )
        yield LineChart(
            key=chart.key,
            title=chart.title,
            x=chart.x,
            y=chart.y,
            series=(ideal, *chart.series),
            alt=chart.alt,
            note="Below the dashed line packets are lost." + chart.note,
        )


def cpu(result: Result) -> Iterator[LineChart]:
    """CPU time of the node for a delivered packet."""
    return _over_load(result, "cpu_us_per_packet", "CPU per packet", "µs of CPU per packet")


def wakeups(result: Result) -> Iterator[LineChart]:
    """How often the node was woken for a delivered packet."""
    return _over_load(result, "wakeups_per_packet", "Wake-ups per packet", "wake-ups per packet")


def _over_load(result: Result, quantity: str, title: str, axis: str) -> Iterator[LineChart]:
    """A chart for each point that was measured at two loads or more."""
    for (point, frame_bytes), places in places_by_point(result).items():
        series = [
            made
            for tone, variant in shown(result, places)
            if (made := _series(result, quantity, places, variant, tone)) is not None
        ]
        if max((len(one.points) for one in series), default=0) < 2:
            continue
        where = place_text(result, point, frame_bytes)
        unit = QUANTITIES[quantity].unit
        told = " ".join(
            sentence(one.name, [(f"{short(x)} pps", y) for x, y in one.points], unit)
            for one in series
        )
        yield LineChart(
            key=key_of(quantity, point, frame_bytes),
            title=f"{title}: {where}",
            x=Axis(title=_OFFERED, scale="log"),
            y=Axis(title=axis, scale="log"),
            series=tuple(series),
            alt=f"{title} over the offered load, {where}. {told}",
            note=_nothing(result, quantity, places) + left_out(result, places),
        )


def _nothing(result: Result, quantity: str, places: list[Place]) -> str:
    """What is zero, which has no place on a logarithmic scale; empty where nothing is."""
    zero = [
        f"{variant.name} at {place.load} load"
        for place in places
        for _, variant in shown(result, places)
        if typical(counted(result, place, variant), quantity) == 0
    ]
    return f" None at all: {', '.join(zero)}." if zero else ""


def _series(
    result: Result, quantity: str, places: list[Place], variant: Variant, tone: int
) -> Series | None:
    of = QUANTITIES[quantity].of
    offered = QUANTITIES["offered_pps"].of
    points: list[tuple[float, float]] = []
    dots: list[tuple[float, float]] = []
    for place in places:
        trials = counted(result, place, variant)
        at = [x for trial in trials if (x := offered(trial))]
        value = typical(trials, quantity)
        if at and value is not None and value > 0:
            points.append((statistics.median(at), value))
            dots += [
                (x, y)
                for trial in trials
                if (x := offered(trial)) and (y := of(trial)) is not None and y > 0
            ]
    if not points:
        return None
    return Series(name=variant.name, tone=tone, points=tuple(sorted(points)), dots=tuple(dots))
