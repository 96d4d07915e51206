"""The picture of `bench engines`: rate and CPU time over batch size, for each path.

Knows matplotlib. Must not know how figures are made.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from testbed.bench.entries import FLOOR, KERNEL
from testbed.bench.figures import Row

_COLOURS: Final[Mapping[str, str]] = {
    FLOOR: "#000000",
    KERNEL: "#7f7f7f",
    "per-packet": "#d62728",
    "writev": "#e7969c",
    "aggregate": "#bcbd22",
    "mmsg": "#1f77b4",
    "uring": "#2ca02c",
    "ring": "#9467bd",
    "xsk": "#ff7f0e",
    "xsk-tx": "#8c564b",
}
"""By the engine on the wire."""
_TOO_FEW: Final = 0.01
"""Where a smaller share arrived, CPU time per delivered packet says nothing about the others."""
_PANEL: Final = (4.6, 3.1)


def draw(rows: Sequence[Row], *, caption: str) -> str:
    """An SVG, the same for the same rows. An entry without a batch size is a horizontal line."""
    paths = list(dict.fromkeys(row.path for row in rows))
    width, height = _PANEL
    # What is drawn shall depend on the rows alone, and text stay text.
    with matplotlib.rc_context({"svg.hashsalt": "testbed", "svg.fonttype": "none"}):
        figure = Figure(figsize=(width * len(paths), 2 * height + 0.9), layout="constrained")
        panels = figure.subplots(2, len(paths), squeeze=False)
        for column, path in enumerate(paths):
            here = [row for row in rows if row.path == path]
            _panel(panels[0][column], here, "pps", 1e-3)
            _panel(panels[1][column], here, "cpu_us", 1.0)
            panels[0][column].set_title(path)
            panels[1][column].set_xlabel("batch size, packets")
        panels[0][0].set_ylabel("delivered, kpps\n(hollow: the tester was the limit)")
        panels[1][0].set_ylabel("CPU per packet, µs")
        figure.suptitle(caption, fontsize=9)
        known: dict[str, Any] = {}
        for panel in panels[0]:
            handles, labels = panel.get_legend_handles_labels()
            known |= dict(zip(labels, handles, strict=True))
        figure.legend(
            list(known.values()),
            list(known.keys()),
            loc="outside lower center",
            ncols=min(len(known), 6),
            fontsize=8,
            frameon=False,
        )
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _panel(axes: Axes, rows: Sequence[Row], of: str, scale: float) -> None:
    sizes = sorted({row.batch for row in rows if row.batch is not None})
    for name in dict.fromkeys(row.name for row in rows):
        points = [
            (row.batch, value * scale, row.lower_bound)
            for row in rows
            if row.name == name and (value := _value(row, of)) is not None
        ]
        if not points:
            continue
        style: dict[str, Any] = {
            "color": _COLOURS[name if name in _COLOURS else name.partition("/")[0]],
            "label": name,
            "linestyle": "--" if name == FLOOR or name.endswith("/per-packet") else "-",
            "linewidth": 1.8 if name == FLOOR else 1.2,
        }
        if points[0][0] is None:
            axes.axhline(points[0][1], **style | {"linestyle": ":"})
            continue
        batches = [batch for batch, _, _ in points if batch is not None]
        values = [value for _, value, _ in points]
        axes.plot(batches, values, **style)
        for batch, value, limited in zip(batches, values, (p[2] for p in points), strict=True):
            axes.plot(
                [batch],
                [value],
                marker="o",
                markersize=4,
                color=style["color"],
                markerfacecolor="white" if limited and of == "pps" else style["color"],
            )
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)


def _value(row: Row, of: str) -> float | None:
    if of == "cpu_us" and (row.delivered_share or 0.0) < _TOO_FEW:
        return None
    value: float | None = getattr(row, of)
    return value
