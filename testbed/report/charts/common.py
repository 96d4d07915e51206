"""What several plots have in common: which variants they show, and how they name what they show.

Must not know what is plotted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from testbed.measure.statistics import Cell as Place
from testbed.measure.statistics import cells, trials_of
from testbed.report.charts.model import TONES
from testbed.report.summary import point_text
from testbed.report.wording import SPACE, number
from testbed.results import FrameSize, Result, Trial, Variant, in_words


def places_by_point(result: Result) -> dict[tuple[str, FrameSize], list[Place]]:
    """The measured cells by point and frame size, loads in the order of the scenario."""
    found: dict[tuple[str, FrameSize], list[Place]] = {}
    for place in cells(result):
        found.setdefault((place.point, place.frame_bytes), []).append(place)
    return found


def place_text(result: Result, point: str, frame_bytes: FrameSize) -> str:
    """A point in words; with the frame size where there are several."""
    text = point_text(result.point(point))
    if len(result.scenario.frame_bytes) > 1:
        text += f", {in_words(frame_bytes)}"
    return text


def shown(result: Result, places: Sequence[Place]) -> list[tuple[int, Variant]]:
    """The variants that were timed there with the tone of each; as many as can be told apart."""
    timed = [
        variant
        for variant in result.scenario.variants
        if any(counted(result, place, variant) for place in places)
    ]
    others = [variant for variant in timed if not variant.baseline]
    baseline = [(0, variant) for variant in timed if variant.baseline]
    return baseline + list(enumerate(others[: TONES - 1], start=1))


def left_out(result: Result, places: Sequence[Place]) -> str:
    """That some variants are not shown; empty where all are."""
    timed = sum(
        any(counted(result, place, variant) for place in places)
        for variant in result.scenario.variants
    )
    more = timed - len(shown(result, places))
    return f" {more} more variants are in the tables." if more else ""


def counted(result: Result, place: Place, variant: Variant) -> list[Trial]:
    """The timing trials that count."""
    return [trial for trial in trials_of(result, place, variant.name) if trial.counts]


def key_of(*parts: str | int) -> str:
    """A name that may stand in an `id`, made from names of users."""
    return re.sub(r"[^a-zA-Z0-9]+", "-", "-".join(map(str, parts))).strip("-").lower()


def short(value: float) -> str:
    """A number as a tick: 500, 5 k, 1.2 M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{SPACE}{unit}"
    return f"{value:.3g}"


def sentence(name: str, pairs: Sequence[tuple[str, float]], unit: str) -> str:
    """A series in words: its name, and its values with what each belongs to."""
    said = ", ".join(f"{number(value)} {unit} at {at}".replace("  ", " ") for at, value in pairs)
    return f"{name}: {said}."
