"""A plot as values: what is on its axes, which curves or bars it has, and what it shows in words.

Must not know where the figures come from, nor how a plot is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scale = Literal["linear", "log", "log2", "category", "tail"]
"""`category` puts 0, 1, 2, … at equal distances; `tail` spreads shares towards 1: 0, 90, 99 %, …"""

TONES = 8
"""So many series can be told apart; tone 0 is the baseline's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """`ticks` are (position, text); without them they follow from the scale."""

    title: str
    scale: Scale = "linear"
    ticks: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """A curve through `points`, which are (x, y); `dots` are the single trials behind it.

    A `reference` is arithmetic and not a measurement.
    """

    name: str
    tone: int
    points: tuple[tuple[float, float], ...]
    dots: tuple[tuple[float, float], ...] = ()
    reference: bool = False
    dashed: bool = False
    smooth: bool = False
    """Whether the points are so many that they need no marks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LineChart:
    """`alt` says in words what a reader sees; `note` what it needs beside the title."""

    key: str
    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    alt: str
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bars:
    """The bars of one name, one for each group of the chart; None is no bar."""

    name: str
    tone: int
    values: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class BarChart:
    """Bars side by side, standing; or `stacked`, lying, where all of a group come to the whole."""

    key: str
    title: str
    axis: str
    groups: tuple[str, ...]
    group_title: str
    bars: tuple[Bars, ...]
    alt: str
    note: str = ""
    stacked: bool = False


Chart = LineChart | BarChart
