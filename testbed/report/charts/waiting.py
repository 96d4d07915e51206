"""The trade-off of waiting: CPU, wake-ups and tail latency over the time that packets may wait.

Must not know how it is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from testbed.measure.statistics import QUANTITIES, typical
from testbed.measure.statistics import Cell as Place
from testbed.report.charts.common import (
    counted,
    key_of,
    place_text,
    places_by_point,
    sentence,
    short,
)
from testbed.report.charts.model import TONES, Axis, LineChart, Series
from testbed.results import Load, Result, Variant

_QUANTITIES = (
    ("cpu_us_per_packet", "CPU per packet", "µs of CPU per packet"),
    ("wakeups_per_packet", "Wake-ups per packet", "wake-ups per packet"),
    ("latency_p99_us", "Latency, p99", "µs, 99th percentile"),
)
_WAIT = "max_wait_us"
_HOW = ("coalesce", _WAIT)


def trade_off(result: Result) -> Iterator[LineChart]:
    """Three charts for each point at which variants that differ in their waiting were timed."""
    for (point, frame_bytes), places in places_by_point(result).items():
        waiting = _waiting(result, places)
        waits = sorted({_wait(variant) for variant in waiting})
        if len(waits) < 2:
            continue
        where = place_text(result, point, frame_bytes)
        ticks = tuple((at, _text(wait)) for at, wait in enumerate(waits))
        for quantity, title, axis in _QUANTITIES:
            series = [
                one
                for tone, place in enumerate(places[: TONES - 1], start=1)
                for adaptive in (False, True)
                if (one := _series(result, quantity, place, waiting, waits, tone, adaptive))
            ]
            if not series:
                continue
            unit = QUANTITIES[quantity].unit
            told = " ".join(
                sentence(one.name, [(f"{ticks[round(x)][1]} ms", y) for x, y in one.points], unit)
                for one in series
            )
            yield LineChart(
                key=key_of("waiting", quantity, point, frame_bytes),
                title=f"{title} over max_wait: {where}",
                x=Axis(title="max_wait, ms", scale="category", ticks=ticks),
                y=Axis(title=axis, scale="log"),
                series=tuple(series),
                alt=f"{title} over the longest time that packets may wait, {where}. {told}",
                note="A curve for each load; dashed where the node decides when to wait.",
            )


def _waiting(result: Result, places: Sequence[Place]) -> list[Variant]:
    """The largest family of timed variants that are alike but for how they wait."""
    families: dict[tuple[tuple[str, object], ...], list[Variant]] = {}
    for variant in result.scenario.variants:
        if any(counted(result, place, variant) for place in places):
            rest = tuple(sorted((k, v) for k, v in variant.settings.items() if k not in _HOW))
            families.setdefault(rest, []).append(variant)
    return max(families.values(), key=lambda one: len({_wait(v) for v in one}), default=[])


def _series(
    result: Result,
    quantity: str,
    place: Place,
    waiting: Sequence[Variant],
    waits: Sequence[int],
    tone: int,
    adaptive: bool,
) -> Series | None:
    points = []
    has_adaptive = False
    for variant in waiting:
        decides = variant.settings.get("coalesce") == "adaptive"
        # Without waiting there is nothing to decide: both curves begin there.
        if decides != adaptive and _wait(variant):
            continue
        has_adaptive = has_adaptive or decides
        value = typical(counted(result, place, variant), quantity)
        if value is not None and value > 0:
            points.append((float(waits.index(_wait(variant))), value))
    if not points or (adaptive and not has_adaptive):
        return None
    name = _load_text(result.load(place.load)) + (", adaptive" if adaptive else "")
    return Series(name=name, tone=tone, points=tuple(sorted(points)), dashed=adaptive)


def _wait(variant: Variant) -> int:
    wait = variant.settings.get(_WAIT)
    return int(wait) if isinstance(wait, int | float) else 0


def _load_text(load: Load) -> str:
    return "as fast as possible" if load.rate_pps is None else f"{short(load.rate_pps)} pps"


def _text(wait_us: int) -> str:
    return f"{wait_us / 1000:g}"
