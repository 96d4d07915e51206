"""How the figures of `testbed bench` look on stdout.

Must not know how they are made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from testbed import console
from testbed.bench import figures, waiting
from testbed.measure.statistics import Ratio


def caption(document: Mapping[str, Any]) -> str:
    """What was measured, where and when, in one line."""
    machine, extent = document["machine"], document["extent"]
    return (
        f"{extent['frame_bytes']}-byte frames; {machine['cpus']} × {machine['cpu_model']}, "
        f"Linux {machine['kernel']}, {document['started'][:10]}"
    )


def print_engines(document: Mapping[str, Any], rows: Sequence[figures.Row]) -> None:
    """A table for each path, and what has to be said about them."""
    console.print_text(f"Engines at saturation: {caption(document)}")
    for path in dict.fromkeys(row.path for row in rows):
        console.print_text(f"\n{path}")
        console.print_table(
            (
                "engine",
                "batch",
                "kpps",
                "to the floor",
                "µs/packet",
                "work to the floor",
                "calls/packet",
                "delivered %",
                "late %",
            ),
            [
                (
                    row.name,
                    row.batch,
                    _right(row.pps, 6, 1, scale=1e-3, mark="≥" if row.lower_bound else ""),
                    _ratio(row.pps_ratio, row.bound),
                    _right(row.cpu_us, 9, 2),
                    _ratio(row.work_ratio),
                    _right(row.calls, 12, 3),
                    _right(row.delivered_share, 11, 1, scale=100),
                    _right(row.late_share, 6, 1, scale=100),
                )
                for row in rows
                if row.path == path
            ],
        )
    console.print_text("")
    _print_remarks(document, {f"{row.path}, {row.name}": row.failed for row in rows})
    console.print_text(
        "kpps: delivered packets a second; ≥: the tester was the limit.\n"
        "to the floor: rate, and packets for the same CPU time, over those of the C program at\n"
        "the same batch size, measured next to it; –: the tester was the limit of both.\n"
        "late: could have run, and others had its CPU: where that is much, trust no figure."
    )


def print_coalescing(document: Mapping[str, Any], rows: Sequence[waiting.Row]) -> None:
    """A table for each load, and what has to be said about them."""
    bound = document["extent"]["max_wait_us"]
    console.print_text(f"Waiting for up to {bound} µs: {caption(document)}")
    for load in dict.fromkeys(row.load for row in rows):
        console.print_text(f"\n{load}")
        here = [row for row in rows if row.load == load]
        console.print_table(
            (
                "mode",
                "µs/packet",
                "to per-packet",
                "wake-ups/packet",
                "to per-packet",
                "p50 µs",
                "p99 µs",
                "p99.9 µs",
                "added",
                "delivered %",
                "late %",
            ),
            [
                (
                    row.name,
                    _right(row.cpu_us, 9, 2),
                    _ratio(row.cpu_ratio),
                    _right(row.wakeups, 15, 3),
                    _ratio(row.wakeups_ratio),
                    *(_right(row.latency_us.get(key), 8, 0) for key in ("p50", "p99", "p99.9")),
                    _right(row.added_us, 6, 0),
                    _right(row.delivered_share, 11, 1, scale=100),
                    _right(row.late_share, 6, 1, scale=100),
                )
                for row in here
            ],
        )
        for row in here:
            if row.to_better is not None:
                console.print_text(
                    f"{row.name}: {_ratio(row.to_better)} of the CPU time of {row.better}, the "
                    "better of never and always waiting"
                )
            if row.limited:
                console.print_text(
                    f"{row.name}: the generator did not keep the rate in {row.limited} of "
                    f"{row.trials} trials"
                )
    console.print_text("")
    _print_remarks(document, {f"{row.load}, {row.name}": row.failed for row in rows})
    console.print_text(
        "added: what the 99.9th percentile of the latency is above that of per-packet, in µs.\n"
        "late: could have run, and others had its CPU: where that is much, trust no latency."
    )


def _print_remarks(document: Mapping[str, Any], failed: Mapping[str, str | None]) -> None:
    for name, why in document["unavailable"].items():
        console.print_text(f"{name}: not measured: {why}")
    for name, why in failed.items():
        if why is not None:
            console.print_text(f"{name}: {why}")
    for note in document["notes"]:
        console.print_text(note)


def _right(
    value: float | None, width: int, digits: int, *, scale: float = 1.0, mark: str = ""
) -> str:
    text = "–" if value is None else f"{mark}{value * scale:.{digits}f}"
    return text.rjust(width)


def _ratio(ratio: Ratio | None, mark: str = "") -> str | None:
    if ratio is None or ratio.ratio is None:
        return None
    shown = f"{mark}{ratio.ratio:.2f}"
    if ratio.low is not None and ratio.high is not None:
        shown += f" ({ratio.low:.2f}–{ratio.high:.2f})"
    return shown
