"""One node in tables: names in place of MACs, sizes together, nothing empty."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from testbed.cli import nodeview
from testbed.running.inspect import NodeView, UpstreamView

RSU, OTHER, STRANGER = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:99"
NAMES = {RSU: "rsu1", OTHER: "obu2"}

CURRENT = {"mac": RSU, "rsu": RSU, "hops": 1, "score_us": 1500.0}
STATS: dict[str, Any] = {
    "wire": {
        "rx_frames": 60,
        "rx_bytes": 6000,
        "tx_frames": 40,
        "tx_bytes": 4000,
        "kernel_drops": 0,
    },
    "tap": {"rx_frames": 0, "rx_bytes": 0, "tx_frames": 0, "tx_bytes": 0, "kernel_drops": 0},
    "saved_syscalls": {"wire": 80, "tap": 0},
    "fill": {"wire": {"1": 4, "20": 1, "32": 1}, "tap": {}},
    "syscalls": {"sendmmsg": 5, "epoll_wait": 50},
    "wakeups": 50,
    "waited_ns": 2_500_000,
    "coalescing": {
        "mode": "adaptive",
        "max_wait_us": 1000,
        "waits": 3,
        "decisions": {"waited": 3, "not_worth": 47},
    },
    "drops": {},
    "messages": {"heartbeat": 2, "upstream": 58},
    "queues": {"wire": {"receive": {"bytes": 10, "limit_bytes": 100}}, "tap": None},
    "upstream": CURRENT,
    "candidates": [CURRENT, {"mac": STRANGER, "rsu": RSU, "hops": 2, "score_us": None}],
    "routes": [],
}
NODE = NodeView(
    name="obu1",
    kind="obu",
    state="ready",
    why=None,
    pid=7,
    exit_status=None,
    uptime_s=1.25,
    netns="tb.x.obu1",
    mac="02:00:00:00:00:03",
    ipv4="10.77.0.3/16",
    ipv6="fd77::3/64",
    medium="p2",
    hears=("obu2", "rsu1"),
    upstream=UpstreamView(node="rsu1", rsu="rsu1", hops=1),
    engines={"wire": {"requested": "auto", "used": "mmsg", "why": "it"}},
    stats=STATS,
)


def shown(node: NodeView, *, stats: bool = True) -> dict[str, list[Any]]:
    """Tables by their first heading; every row as wide as the headings."""
    found = {}
    for columns, rows in nodeview.tables(node, NAMES, stats=stats):
        assert rows
        assert all(len(row) == len(columns) for row in rows)
        found[columns[0]] = [tuple(columns), *map(tuple, rows)]
    return found


def test_neighbours_have_names_where_they_are_of_the_testbed() -> None:
    _, current, reserve = shown(NODE)["upstream by"]
    assert current == ("rsu1", "rsu1", 1, 1.5, "now")
    assert reserve == (STRANGER, "rsu1", 2, None, "in reserve")
    assert ("upstream", "rsu1, 1 hop to rsu1") in shown(NODE)["node"]


def test_batches_are_grouped_by_size() -> None:
    assert shown(NODE)["batches"] == [
        ("batches", "mean", "1", "17–32"),
        ("wire", 9.3, 4, 2),
    ]


def test_calls_are_told_per_packet_the_most_frequent_first() -> None:
    assert shown(NODE)["system call"][1:] == [("epoll_wait", 50, 0.5), ("sendmmsg", 5, 0.05)]
    idle = replace(NODE, stats={**STATS, "wire": STATS["tap"]})
    assert shown(idle)["system call"][1:] == [("epoll_wait", 50, None), ("sendmmsg", 5, None)]


def test_waiting_is_one_line() -> None:
    assert shown(NODE)["wake-ups"][1:] == [(50, "adaptive", 1000, 3, 2.5, "3 waited, 47 not_worth")]


def test_what_is_empty_is_not_there() -> None:
    tables = shown(NODE)
    assert "dropped" not in tables
    assert "route to" not in tables
    assert next(iter(tables)) == "node"


def test_counts_only_when_asked_for() -> None:
    assert set(shown(NODE, stats=False)) == {"node", "engine", "upstream by"}


def test_a_node_that_tells_nothing() -> None:
    dead = replace(
        NODE,
        state="exited",
        why="killed by SIGKILL",
        pid=None,
        uptime_s=None,
        exit_status=-9,
        upstream=None,
        engines=None,
        stats=None,
    )
    tables = shown(dead)
    assert set(tables) == {"node"}
    assert ("state", "exited: killed by SIGKILL") in tables["node"]
    assert ("exit code", -9) in tables["node"]
