"""A network namespace of its own for each test, with a veth pair or a TAP in it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator

import pytest
from linux_rig import TAP, WIRE, WIRE_PEER, Side, ip, open_side, wire_up

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """The test stays on one CPU: frames handed from one CPU to another may overtake each other."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.fixture
def namespace(root: None, one_cpu: None) -> Iterator[None]:
    """The test's thread runs in a network namespace that ends with it; no descriptor is left."""
    open_before = set(os.listdir("/proc/self/fd"))
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.unshare(_CLONE_NEWNET):
            pytest.fail(f"unshare: {os.strerror(ctypes.get_errno())}")
        yield
    finally:
        assert _libc.setns(before, _CLONE_NEWNET) == 0
        os.close(before)
    left = {
        name: os.readlink(f"/proc/self/fd/{name}")
        for name in set(os.listdir("/proc/self/fd")) - open_before
        if os.path.islink(f"/proc/self/fd/{name}")
    }
    assert not left


@pytest.fixture
def veth(namespace: None) -> None:
    """A veth pair, up, without IPv6: WIRE is the node's end, WIRE_PEER the other."""
    ip("link", "add", "name", WIRE, "type", "veth", "peer", "name", WIRE_PEER)
    wire_up()


@pytest.fixture(params=["wire", "tap"])
def side(request: pytest.FixtureRequest, namespace: None) -> Iterator[Side]:
    """A descriptor of a node, wire or TAP, and a socket on the far end of it."""
    opened = open_side(request.param)
    yield opened
    opened.close()


@pytest.fixture
def tap_side(namespace: None) -> Iterator[Side]:
    """The TAP alone."""
    opened = open_side("tap")
    assert opened.ifname == TAP
    yield opened
    opened.close()


@pytest.fixture
def wire_side(namespace: None) -> Iterator[Side]:
    """The wire alone."""
    opened = open_side("wire")
    yield opened
    opened.close()
