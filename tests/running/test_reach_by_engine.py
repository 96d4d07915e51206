"""Who still reaches whom, by the engine that all nodes of a cell use."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from running_helpers import make_topology

from testbed.kernel import netns
from testbed.reach.reach import reach
from testbed.running import lifecycle
from testbed.running.lifecycle import Running
from testbed.topology.model import TAP_ENGINES, TAP_INTERFACE, WIRE_ENGINES

pytestmark = pytest.mark.usefixtures("root", "run_dir")

OBUS = ["a", "b", "c"]
NAMES = ["rsu", *OBUS]
ETHERTYPE = 0x88B5
WORKING = [engine for engine in WIRE_ENGINES if engine not in ("auto", "writev")]


@contextmanager
def cell_of(name: str, engine: str) -> Iterator[Running]:
    topology = make_topology(name, NAMES, segments=[NAMES], command=None)
    tap = engine if engine in TAP_ENGINES else "auto"
    nodes = tuple(
        replace(
            node,
            settings=replace(node.settings, engine_wire=engine, engine_tap=tap, handler="batched"),
        )
        for node in topology.nodes
    )
    try:
        with lifecycle.up(replace(topology, nodes=nodes)) as running:
            assert running.report is not None
            assert running.report.not_ready == ()
            yield running
    finally:
        lifecycle.down(name)


def tap_socket(running: Running, node: str) -> socket.socket:
    def opened() -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        sock.bind((TAP_INTERFACE, ETHERTYPE))
        return sock

    return netns.run_in(netns.namespace_name(running.topology.name, node), opened)


def hears(sock: socket.socket, timeout: float = 2.0) -> bytes | None:
    return sock.recv(4096) if select.select([sock], [], [], timeout)[0] else None


@pytest.mark.parametrize("engine", WORKING)
def test_everybody_reaches_everybody(engine: str, run_dir: Path, testbed_name: str) -> None:
    with cell_of(testbed_name, engine) as cell:
        used = {name: status.engines["wire"]["used"] for name, status in cell.status().items()}
        assert used == dict.fromkeys(NAMES, engine)
        found = reach(cell.topology, rounds=2)
        assert found.unreached == ()


def test_with_writev_a_cell_loses_its_connectivity(run_dir: Path, testbed_name: str) -> None:
    with cell_of(testbed_name, "writev") as cell, ExitStack() as stack:
        taps = {node: stack.enter_context(tap_socket(cell, node)) for node in NAMES}
        frame = b"\xff" * 6 + b"\x06\x00\x00\x00\x00\x01" + ETHERTYPE.to_bytes(2, "big") + bytes(46)
        # What an RSU sends to all: the OBU whose copy stands first in the frame has it, with the
        # copies for the others as its tail.
        taps["rsu"].send(frame)
        got = hears(taps["a"])
        assert got is not None
        assert got.startswith(frame)
        assert len(got) == 3 * len(frame) + 2 * 28
        assert hears(taps["b"], 0.2) is None
        assert hears(taps["c"], 0.2) is None
        # So others are not found: an address is asked for by such a frame.
        found = reach(cell.topology, rounds=2, timeout_s=0.5)
        assert found.unreached
