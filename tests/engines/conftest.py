"""A network namespace of its own for each test, and both sides of a node in it.

The test's own thread moves into the namespace and back; nothing gets a name that outlives it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator

import pytest
from engine_rig import MTU, PEER, Rig, ip
from writev_contract import BROKEN_BY_WRITEV

from agent.engines.base import Port, Side
from agent.engines.registry import ENGINES
from agent.linux import netif, packet, tap

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


@pytest.fixture
def namespace(root: None) -> Iterator[None]:
    """The test runs in a network namespace that ends with it."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.unshare(_CLONE_NEWNET):
            pytest.fail(f"unshare: {os.strerror(ctypes.get_errno())}")
        yield
    finally:
        assert _libc.setns(before, _CLONE_NEWNET) == 0
        os.close(before)


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """The test stays on one CPU: frames handed from one CPU to another may overtake each other."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    yield
    os.sched_setaffinity(0, before)


PAIRS = [
    pytest.param((name, side), id=f"{name}-{side}")
    for name, engine in ENGINES.items()
    for side in sorted(engine.sides)
]


@pytest.fixture
def make_rig(namespace: None, one_cpu: None) -> Iterator[Callable[[str, Side], Rig]]:
    """Builds a rig for an engine by name and side."""
    closers: list[Callable[[], None]] = []

    def make(name: str, side: Side) -> Rig:
        if side is Side.WIRE:
            ip("link", "add", "name", "tbt-w", "type", "veth", "peer", "name", PEER)
            for one in ("tbt-w", PEER):
                netif.set_ipv6_option(one, "disable_ipv6", 1)
                netif.set_up(one)
            own = packet.open_packet_socket("tbt-w")
            peer = packet.open_packet_socket(PEER, rcvbuf_bytes=64 << 20)
            fd, ifname = own.fileno(), "tbt-w"
            closers.append(own.close)
        else:
            fd, ifname = tap.open_tap("tbt-t")
            closers.append(lambda: os.close(fd))
            netif.set_ipv6_option(ifname, "disable_ipv6", 1)
            netif.set_mtu(ifname, MTU)
            netif.set_up(ifname)
            peer = packet.open_packet_socket(ifname, rcvbuf_bytes=64 << 20)
        closers.append(peer.close)
        rig = Rig(
            side=side,
            ifname=ifname,
            peer=peer,
            port=Port(side=side, fd=fd, ifname=ifname, frame_limit=MTU + 18),
            engine_class=ENGINES[name],
        )
        closers.append(rig.close)
        rig.wait_up()
        return rig

    yield make
    for close in reversed(closers):
        close()


@pytest.fixture(params=PAIRS)
def rig(request: pytest.FixtureRequest, make_rig: Callable[[str, Side], Rig]) -> Rig:
    """Every engine on every side that it serves; the raw parameters are (name, side).

    What writev cannot keep must fail with it, or the mechanism is not the documented one.
    """
    name, side = request.param
    several = request.node.callspec.params.get("batch_size") != 1
    if name == "writev" and several and request.node.originalname in BROKEN_BY_WRITEV:
        reason = "one writev is one frame"
        request.applymarker(pytest.mark.xfail(raises=AssertionError, strict=True, reason=reason))
    return make_rig(name, side)
