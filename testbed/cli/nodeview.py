"""One node of `testbed inspect` as a few tables, each about one thing.

Must not know where the values come from: it is given a node as `testbed.running.inspect` shows it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from testbed.running.inspect import NodeView, UpstreamView

Cell = str | int | float | None
Table = tuple[Sequence[str], list[Sequence[Cell]]]
Names = Mapping[str, str]

SIDES = ("wire", "tap")
FILL = ((1, 1), (2, 2), (3, 4), (5, 8), (9, 16), (17, 32), (33, 64), (65, 128), (129, 256))
"""Batch sizes that are counted together: from, to."""


def tables(node: NodeView, names: Names, *, stats: bool) -> Iterable[Table]:
    """What is shown of a node; `names` has the node's name for a MAC. Empty tables are left out."""
    told = node.stats
    shown = [_identity(node), _engines(node)]
    if told is not None:
        shown += [_candidates(told, names), _routes(told, names)]
        if stats:
            shown += [_traffic(told), _fill(told), _calls(told), _waiting(told)]
            shown += [_counts("dropped", told["drops"]), _counts("message", told["messages"])]
            shown.append(_queues(told))
    return (table for table in shown if table[1])


def _identity(node: NodeView) -> Table:
    state = node.state if node.why is None else f"{node.state}: {node.why}"
    rows: list[Sequence[Cell]] = [
        ("kind", node.kind),
        ("state", state),
        ("program", None if node.program is None else shlex.join(node.program)),
        ("upstream", _way(node.upstream)),
        ("first answered", _way(node.answered)),
        ("hears", ", ".join(node.hears)),
        ("ipv4", node.ipv4),
        ("ipv6", node.ipv6),
        ("mac", node.mac),
        ("radio in", node.medium),
        ("namespace", node.netns),
        ("pid", node.pid),
        ("up for", None if node.uptime_s is None else f"{node.uptime_s:.1f} s"),
        ("exit code", node.exit_status),
        ("restarts", node.restarts or None),
    ]
    return ("node", node.name), [row for row in rows if row[1] not in (None, "")]


def _way(upstream: UpstreamView | None) -> str | None:
    if upstream is None:
        return None
    hops = "1 hop" if upstream.hops == 1 else f"{upstream.hops} hops"
    return f"{upstream.node}, {hops} to {upstream.rsu}"


def _engines(node: NodeView) -> Table:
    rows: list[Sequence[Cell]] = [
        (side, engine["requested"], engine["used"], engine["why"])
        for side, engine in (node.engines or {}).items()
    ]
    return ("engine", "requested", "used", "why"), rows


def _candidates(told: Mapping[str, Any], names: Names) -> Table:
    rows: list[Sequence[Cell]] = [
        (
            _name(one["mac"], names),
            _name(one["rsu"], names),
            one["hops"],
            _milliseconds(one["score_us"]),
            "now" if one == told["upstream"] else "in reserve",
        )
        for one in told["candidates"]
    ]
    return ("upstream by", "rsu", "hops", "score ms", "used"), rows


def _routes(told: Mapping[str, Any], names: Names) -> Table:
    rows: list[Sequence[Cell]] = [
        (
            _name(one["node"], names),
            _name(one["next_hop"], names),
            one["hops"],
            _milliseconds(one["score_us"]),
        )
        for one in told["routes"]
    ]
    return ("route to", "next hop", "hops", "score ms"), rows


def _traffic(told: Mapping[str, Any]) -> Table:
    rows: list[Sequence[Cell]] = [
        (
            side,
            told[side]["rx_frames"],
            told[side]["rx_bytes"],
            told[side]["tx_frames"],
            told[side]["tx_bytes"],
            told[side]["kernel_drops"],
            told.get("saved_syscalls", {}).get(side),
        )
        for side in SIDES
    ]
    columns = ("side", "received", "bytes", "sent", "bytes", "dropped by kernel", "calls saved")
    return columns, rows


def _fill(told: Mapping[str, Any]) -> Table:
    """How many batches of which size came in; columns of sizes that never came are left out."""
    counts = {
        side: {int(size): times for size, times in told["fill"][side].items()} for side in SIDES
    }
    spans = [
        span
        for span in FILL
        if any(span[0] <= size <= span[1] for found in counts.values() for size in found)
    ]
    rows: list[Sequence[Cell]] = []
    for side, found in counts.items():
        batches = sum(found.values())
        if batches:
            mean = sum(size * times for size, times in found.items()) / batches
            sizes = (
                sum(n for size, n in found.items() if low <= size <= high) for low, high in spans
            )
            rows.append((side, round(mean, 1), *sizes))
    headings = (str(low) if low == high else f"{low}–{high}" for low, high in spans)
    return ("batches", "mean", *headings), rows


def _calls(told: Mapping[str, Any]) -> Table:
    packets = sum(told[side][f"{way}_frames"] for side in SIDES for way in ("rx", "tx"))
    rows: list[Sequence[Cell]] = [
        (name, count, round(count / packets, 3) if packets else None)
        for name, count in sorted(told["syscalls"].items(), key=lambda one: -one[1])
    ]
    return ("system call", "calls", "per packet"), rows


def _waiting(told: Mapping[str, Any]) -> Table:
    coalescing = told.get("coalescing") or {"mode": "off", "max_wait_us": 0, "decisions": {}}
    decisions = ", ".join(f"{count} {name}" for name, count in coalescing["decisions"].items())
    rows: list[Sequence[Cell]] = [
        (
            told["wakeups"],
            coalescing["mode"],
            coalescing["max_wait_us"] or None,
            coalescing.get("waits"),
            round(told["waited_ns"] / 1e6, 1),
            decisions or None,
        )
    ]
    return ("wake-ups", "coalesce", "at most µs", "waits", "waited ms", "decisions"), rows


def _counts(what: str, counts: Mapping[str, int]) -> Table:
    rows: list[Sequence[Cell]] = [
        (name, count) for name, count in sorted(counts.items(), key=lambda one: -one[1])
    ]
    return (what, "packets"), rows


def _queues(told: Mapping[str, Any]) -> Table:
    rows: list[Sequence[Cell]] = [
        (f"{side} {queue}", depth["bytes"], depth["limit_bytes"])
        for side, queues in told.get("queues", {}).items()
        for queue, depth in (queues or {}).items()
    ]
    return ("queue", "bytes now", "at most"), rows


def _name(mac: str, names: Names) -> str:
    return names.get(mac, mac)


def _milliseconds(score_us: float | None) -> float | None:
    return None if score_us is None else round(score_us / 1000, 3)
