"""Draws a plot as SVG that stands inside a page, through matplotlib.

The only module that knows matplotlib. Colours are names of the page's (`var(--…)`), so that one
drawing serves light and dark; text stays text, in the page's font. Must not know what is plotted,
nor the page.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from testbed.report.charts.common import short
from testbed.report.charts.model import TONES, Axis, BarChart, Chart, LineChart, Series

# Before it is imported: a home that cannot be written to, and fonts that are looked for the first
# time, cost it a moment, and are nothing to talk about.
logging.getLogger("matplotlib").setLevel(logging.ERROR)

import matplotlib  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.axis import Axis as MplAxis  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import (  # noqa: E402
    FixedLocator,
    FuncFormatter,
    LogLocator,
    NullLocator,
)

_INK, _FAINT, _GRID, _PAPER = "#010203", "#010204", "#010205", "#010206"
_TONES: Final = tuple(f"#0102{0x10 + tone:02x}" for tone in range(TONES))
"""Colours that nothing else has: each stands for one of the page's, and is replaced by its name."""
_NAMES: Final[Mapping[str, str]] = {
    _INK: "var(--ink)",
    _FAINT: "var(--faint)",
    _GRID: "var(--grid)",
    _PAPER: "var(--paper)",
    **{colour: f"var(--tone-{tone})" for tone, colour in enumerate(_TONES)},
}
_MARKS: Final = ("o", "s", "^", "D", "v", "P", "X", "*")
_HATCHES: Final = ("", "", "//", "", "..", "", "xx", "\\\\")
_WIDTH_IN, _HEIGHT_IN, _BAR_IN = 5.0, 3.1, 0.3
_SETTINGS: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "testbed",
    "text.parse_math": False,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": _FAINT,
    "xtick.labelcolor": _INK,
    "ytick.color": _FAINT,
    "ytick.labelcolor": _INK,
    "grid.color": _GRID,
    "text.color": _INK,
    "hatch.color": _PAPER,
    "hatch.linewidth": 0.8,
}
_SVG: Final = "http://www.w3.org/2000/svg"
_LINK: Final = "{http://www.w3.org/1999/xlink}href"
_FONT: Final = re.compile(r"font: ([\d.]+)px [^;\"]*")
_FAMILY: Final = re.compile(r"font-family: [^;\"]*;? ?")


def draw(chart: Chart) -> str:
    """The plot as an `svg` element with its title and what it shows in words."""
    with warnings.catch_warnings(), matplotlib.rc_context(_SETTINGS):
        # A name may have characters that the font for measuring lacks; the page has another.
        warnings.simplefilter("ignore")
        tall = _HEIGHT_IN
        if isinstance(chart, BarChart) and chart.stacked:
            tall = 0.7 + _BAR_IN * len(chart.groups)
        figure = Figure(figsize=(_WIDTH_IN, tall), layout="constrained")
        figure.patch.set_visible(False)
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        if isinstance(chart, LineChart):
            _lines(axes, chart)
        elif chart.stacked:
            _stacked(axes, chart)
        else:
            _side_by_side(axes, chart)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _in_a_page(buffer.getvalue(), chart)


def _lines(axes: Axes, chart: LineChart) -> None:
    for series in chart.series:
        _line(axes, series)
    _scale(axes, "x", chart.x)
    _scale(axes, "y", chart.y)
    axes.grid(visible=True, linewidth=0.6)


def _line(axes: Axes, series: Series) -> None:
    colour = _FAINT if series.reference else _TONES[series.tone]
    dashes = (0, (4, 3)) if series.reference or series.dashed else "solid"
    if series.dots:
        xs, ys = zip(*series.dots, strict=True)
        axes.scatter(xs, ys, s=9, color=colour, alpha=0.35, linewidths=0)
    xs, ys = zip(*series.points, strict=True)
    axes.plot(
        xs,
        ys,
        color=colour,
        linewidth=1.0 if series.reference else 1.7,
        linestyle=dashes,
        marker=None if series.smooth else _MARKS[series.tone],
        markersize=5,
        markeredgecolor=_PAPER,
        markeredgewidth=0.6,
        drawstyle="default",
    )


def _scale(axes: Axes, which: str, wanted: Axis) -> None:
    axis: MplAxis = axes.xaxis if which == "x" else axes.yaxis
    set_scale = axes.set_xscale if which == "x" else axes.set_yscale
    set_limits = axes.set_xlim if which == "x" else axes.set_ylim
    (axes.set_xlabel if which == "x" else axes.set_ylabel)(wanted.title)
    low, high = sorted(axes.get_xlim() if which == "x" else axes.get_ylim())
    if wanted.scale in ("log", "log2"):
        set_scale("log", base=2 if wanted.scale == "log2" else 10)
        low, high = sorted(axes.get_xlim() if which == "x" else axes.get_ylim())
        if wanted.scale == "log":
            # Where less than two decades are shown, powers of ten alone would be too few.
            subs = (1.0, 2.0, 5.0) if high / low < 300 else (1.0,)
            axis.set_major_locator(LogLocator(base=10, subs=subs))
            axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        axis.set_minor_locator(NullLocator())
    elif wanted.scale == "tail":
        set_scale("function", functions=(_towards_one, _from_one))
        highest = max(y for line in axes.get_lines() for y in np.asarray(line.get_ydata()))
        set_limits(0, min(float(highest) + (1 - float(highest)) / 2, 1 - 1e-6))
    elif wanted.scale == "category":
        set_limits(-0.3, max(at for at, _ in wanted.ticks) + 0.3)
    else:
        set_limits(0, high * 1.05)
        axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    if wanted.ticks:
        low, high = sorted(axes.get_xlim() if which == "x" else axes.get_ylim())
        ticks = [(at, text) for at, text in wanted.ticks if low <= at <= high]
        texts = dict(ticks)
        axis.set_major_locator(FixedLocator([at for at, _ in ticks]))
        axis.set_major_formatter(FuncFormatter(lambda value, _: texts.get(value, "")))
        axis.set_minor_locator(NullLocator())


def _towards_one(share: Any) -> Any:
    return -np.log10(np.clip(1 - np.asarray(share, dtype=float), 1e-9, None))


def _from_one(stretched: Any) -> Any:
    return 1 - 10.0 ** -np.asarray(stretched, dtype=float)


def _side_by_side(axes: Axes, chart: BarChart) -> None:
    width = 0.84 / len(chart.bars)
    for index, bars in enumerate(chart.bars):
        heights = [value or 0.0 for value in bars.values]
        at = [group + (index - (len(chart.bars) - 1) / 2) * width for group in range(len(heights))]
        axes.bar(at, heights, width=width * 0.92, color=_TONES[bars.tone])
    axes.set_xticks(range(len(chart.groups)), chart.groups)
    axes.set_xlabel(chart.group_title)
    axes.set_ylabel(chart.axis)
    axes.grid(visible=True, axis="y", linewidth=0.6)


def _stacked(axes: Axes, chart: BarChart) -> None:
    left = np.zeros(len(chart.groups))
    for bars in chart.bars:
        widths = np.array([value or 0.0 for value in bars.values])
        axes.barh(
            range(len(widths)), widths, left=left, height=0.62, color=_TONES[bars.tone],
            hatch=_HATCHES[bars.tone], linewidth=0,
        )  # fmt: skip
        left += widths
    axes.set_yticks(range(len(chart.groups)), chart.groups)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel(chart.axis)
    axes.grid(visible=True, axis="x", linewidth=0.6)


def _in_a_page(text: str, chart: Chart) -> str:
    """The drawing without what is meant for a file of its own, its names made the page's."""
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(text)
    for child in list(root):
        if child.tag == f"{{{_SVG}}}metadata":
            root.remove(child)
        for style in child.findall(f"{{{_SVG}}}style"):
            # Its rule for every element would be one for the whole page.
            child.remove(style)
    referred = set(_references(root))
    for element in root.iter():
        name = element.attrib.pop("id", None)
        if name in referred:
            element.set("id", f"{chart.key}-{name}")
        for key, value in element.attrib.items():
            if key == _LINK and value.startswith("#"):
                element.set(key, f"#{chart.key}-{value[1:]}")
            elif "url(#" in value:
                element.set(key, value.replace("url(#", f"url(#{chart.key}-"))
            elif key == "style":
                element.set(key, _style(value))
    for unwanted in ("width", "height", "version"):
        root.attrib.pop(unwanted, None)
    root.set("class", "chart")
    root.set("role", "img")
    root.set("aria-labelledby", f"{chart.key}-title {chart.key}-desc")
    for place, (tag, words) in enumerate((("title", chart.title), ("desc", chart.alt))):
        told = ElementTree.Element(f"{{{_SVG}}}{tag}", {"id": f"{chart.key}-{tag}"})
        told.text = words
        root.insert(place, told)
    return ElementTree.tostring(root, encoding="unicode")


def _references(root: ElementTree.Element) -> Iterator[str]:
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == _LINK:
                yield value.removeprefix("#")
            yield from re.findall(r"url\(#([^)]+)\)", value)


def _style(text: str) -> str:
    for colour, name in _NAMES.items():
        text = text.replace(colour, name)
    return _FAMILY.sub("", _FONT.sub(r"font-size: \1px", text))
