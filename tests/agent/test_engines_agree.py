"""On every engine both handlers give what the node decides frame by frame: on real devices."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from agent_net import Namespace
from hypothesis import HealthCheck, given, settings
from test_pipeline import MAX_FRAME, OWN, Record, nodes_like, scripts

from agent import driver as driver_module
from agent.driver import Driver
from agent.engines.base import Engine, Port, Side
from agent.engines.registry import ENGINES
from agent.handlers import PerPacketHandler
from agent.linux import bpf, netif, packet, tap

WIRE, FAR, TAP = "tbt-w", "tbt-p", "tbt-t"
ALL = 0x0003
# writev loses packets, and aggregate joins them: what they promise is tested elsewhere.
EXACT = [name for name in ENGINES if name not in ("writev", "aggregate")]
PAIRS = [
    pytest.param((wire, tap), id=f"{wire}-{tap}")
    for wire in EXACT
    for tap in EXACT
    if Side.TAP in ENGINES[tap].sides and (tap == "uring" or wire == tap)
]


@dataclass
class Rig:
    """Both engines of a node, and what is at their far ends."""

    wire: Engine
    tap: Engine
    radio: socket.socket
    applications: socket.socket
    wake: int

    def step(self, node: Any, *, batched: bool) -> None:
        """Let a driver take all that waits, once."""
        driver = Driver(node, self.wire, self.tap, batched=batched)
        driver.watch(self.wake, driver.stop)
        try:
            driver.run()
        finally:
            driver.close()

    def send(self, node: Any, frames: Any) -> None:
        """Send what a node says of its own accord."""
        driver = Driver(node, self.wire, self.tap, batched=True)
        driver.send(frames)
        driver.close()


@pytest.fixture(params=PAIRS)
def rig(root: None, request: pytest.FixtureRequest) -> Iterator[Rig]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    namespace = Namespace()
    try:
        with ExitStack() as stack:
            stack.callback(namespace.close)
            stack.enter_context(namespace.entered())
            yield _open(namespace, stack, *request.param)
    finally:
        os.sched_setaffinity(0, before)


def _open(namespace: Namespace, stack: ExitStack, wire: str, tap_engine: str) -> Rig:
    namespace.ip("link", "add", "name", WIRE, "address", OWN.hex(":"), "type", "veth",
                 "peer", "name", FAR)  # fmt: skip
    fd, _ = tap.open_tap(TAP)
    stack.callback(os.close, fd)
    for name in (WIRE, FAR, TAP):
        netif.set_ipv6_option(name, "disable_ipv6", 1)
        netif.set_up(name)
    own = stack.enter_context(
        packet.open_packet_socket(WIRE, filter=bpf.own_or_group_filter(), protocol=0x3030)
    )
    radio = stack.enter_context(packet.open_packet_socket(FAR))
    applications = stack.enter_context(packet.open_packet_socket(TAP, protocol=ALL))
    engines = []
    for side, name, port_fd, ifname in (
        (Side.WIRE, wire, own.fileno(), WIRE),
        (Side.TAP, tap_engine, fd, TAP),
    ):
        port = Port(side=side, fd=port_fd, ifname=ifname, frame_limit=MAX_FRAME)
        engines.append(ENGINES[name](port, 8))
        stack.callback(engines[-1].close)
    wake = os.eventfd(1)
    stack.callback(os.close, wake)
    rig = Rig(*engines, radio=radio, applications=applications, wake=wake)
    _until_both_carry(rig, fd)
    return rig


def _until_both_carry(rig: Rig, fd: int) -> None:
    """A link that has come up drops what it is given first."""
    probe = b"\xff" * 6 + OWN + b"\x30\x30\xff\xff" + bytes(50)
    deadline = time.monotonic() + 10
    ways = (
        (rig.radio.send, rig.wire.fileno()),
        (rig.wire.send_one, rig.radio.fileno()),
        (rig.applications.send, fd),
        (rig.tap.send_one, rig.applications.fileno()),
    )
    for send, there in ways:
        while True:
            assert time.monotonic() < deadline
            try:
                send(probe)
            except OSError:
                continue
            if select.select([there], [], [], 0.01)[0]:
                break
    for engine in (rig.wire, rig.tap):
        batch = engine.new_batch()
        while select.select([engine.fileno()], [], [], 0.05)[0]:
            engine.recv_batch(batch)
            engine.release()
    _taken(rig.radio, 0)
    _taken(rig.applications, 0)


def _taken(sock: socket.socket, count: int) -> list[bytes]:
    """`count` frames that came from the node, and whatever came besides."""
    frames: list[bytes] = []
    deadline = time.monotonic() + 5
    while True:
        try:
            frame, address = sock.recvfrom(2048)
        except BlockingIOError:
            if len(frames) >= count or time.monotonic() > deadline:
                return frames
            select.select([sock], [], [], 0.05)
            continue
        if address[2] != socket.PACKET_OUTGOING:
            frames.append(frame)


def _hears(frame: bytes) -> bool:
    """Whether the radio brings it to the node: what nobody sends so is tested elsewhere."""
    return frame[12:14] == b"\x30\x30" and bool(frame[0] & 1 or frame[:6] == OWN)


@pytest.mark.parametrize("batched", [True, False], ids=["batched", "per-packet"])
@pytest.mark.parametrize("kind", ["obu", "rsu"])
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(script=scripts())
def test_what_goes_out_is_what_the_node_decided(
    rig: Rig, kind: str, batched: bool, script: list[tuple[str, Any]]
) -> None:
    single, driven = nodes_like(kind, "reference"), nodes_like(kind, "reference")
    by_frame = PerPacketHandler(single)
    clock = SimpleNamespace(monotonic_ns=lambda: now_ns)
    now_ns = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver_module, "time", clock)
        for what, argument in script:
            now_ns += 1_000_000
            wire, inner = Record(), Record()
            if what == "timer":
                now_ns += argument
                wire.send_frames([reply.frame for reply in single.on_timer(now_ns)])  # type: ignore[union-attr]
                rig.send(driven, driven.on_timer(now_ns))
            elif what == "failed":
                single.on_send_failed(argument, now_ns)
                driven.on_send_failed(argument, now_ns)
            else:
                due_ns = single.next_timer_ns()
                from_wire = what == "wire"
                handle = by_frame.handle_wire if from_wire else by_frame.handle_tap
                for frame in argument:
                    if len(frame) < 14 or (from_wire and not _hears(frame)):
                        continue
                    (rig.radio if from_wire else rig.applications).send(frame)
                    out = handle([frame], now_ns)
                    wire.send_frames(out.wire)
                    inner.send_frames(out.tap)
                if due_ns is not None and now_ns >= due_ns:
                    wire.send_frames([reply.frame for reply in single.on_timer(now_ns)])  # type: ignore[union-attr]
                rig.step(driven, batched=batched)
            # A TAP takes no frame without a whole header.
            expected = [frame for frame in inner.frames if len(frame) >= 14]
            assert _taken(rig.applications, len(expected)) == expected
            sent = Record(_taken(rig.radio, len(wire.frames)))
            assert sent.by_next_hop() == wire.by_next_hop()
    assert driven.drops == single.drops
    assert driven.messages == single.messages
