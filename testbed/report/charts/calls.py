"""System calls per packet over the batch size, against the arithmetic of full batches.

Must not know how it is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator

from testbed.measure.statistics import PHASES, cells, trials_of, typical
from testbed.measure.statistics import Cell as Place
from testbed.report.charts.common import key_of, place_text, sentence
from testbed.report.charts.model import TONES, Axis, LineChart, Series
from testbed.results import Result, Variant

_FEWEST_SIZES = 3


def calls_by_batch(result: Result) -> Iterator[LineChart]:
    """A chart for each place where at least three batch sizes were counted."""
    for place in cells(result):
        curves: dict[str, dict[int, float]] = {}
        for variant in result.scenario.variants:
            batch, value = variant.settings.get("batch"), _calls(result, place, variant)
            if isinstance(batch, int) and value and not variant.baseline:
                curves.setdefault(_family(variant), {})[batch] = value
        curves = {name: at for name, at in curves.items() if len(at) >= _FEWEST_SIZES}
        single = _calls(result, place, result.baseline)
        if not curves or not single:
            continue
        sizes = sorted({batch for at in curves.values() for batch in at} | {1})
        series = [
            Series(
                name="arithmetic: 1/N of the baseline",
                tone=0,
                points=tuple((size, single / size) for size in sizes),
                reference=True,
                smooth=True,
            ),
            Series(name=result.baseline.name, tone=0, points=((1, single),)),
            *(
                Series(name=name, tone=tone, points=tuple(sorted(at.items())))
                for tone, (name, at) in enumerate(list(curves.items())[: TONES - 1], start=1)
            ),
        ]
        where = f"{place_text(result, place.point, place.frame_bytes)}, {place.load} load"
        told = " ".join(
            sentence(name, [(f"batch {size}", value) for size, value in sorted(at.items())], "")
            for name, at in curves.items()
        )
        yield LineChart(
            key=key_of("calls", place.point, place.load, place.frame_bytes),
            title=f"System calls per packet: {where}",
            x=Axis(
                title="batch size N",
                scale="log2",
                ticks=tuple((size, str(size)) for size in sizes),
            ),
            y=Axis(title="calls per packet", scale="log"),
            series=tuple(series),
            alt=f"System calls per packet over the batch size, {where}. The baseline makes "
            f"{single:.3g}; full batches would make {single:.3g}/N. {told}",
            note="On the dashed line both sides find full batches.",
        )


def _calls(result: Result, place: Place, variant: Variant) -> float | None:
    for phase in reversed(PHASES):
        trials = trials_of(result, place, variant.name, phase)
        value = typical(trials, "syscalls_per_packet")
        if value is not None:
            return value
    return None


def _family(variant: Variant) -> str:
    """What a variant is apart from its batch size: its engines, and how it waits."""
    said = variant.settings
    wire, tap = said.get("engine_wire"), said.get("engine_tap")
    name = f"{wire}" if wire == tap or tap is None else f"{wire} (wire), {tap} (TAP)"
    return f"{name}, waiting {wait} µs" if (wait := said.get("max_wait_us")) else name
