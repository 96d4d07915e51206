"""Real descriptors of a node, what stands on the far end of them, and numbered frames."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from agent.linux import netif, packet, tap

WIRE, WIRE_PEER, TAP = "tbt-w", "tbt-p", "tbt-t"
MTU_FRAME = 1514
GROUP = b"\xff" * 6
SENDER = b"\x02\x00\x00\x00\x00\x99"
SIZES = (*range(14, 80), 255, 256, 257, 1000, 1500, 1513, MTU_FRAME)
_MANY_BYTES = 64 << 20


def ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
    return done.stdout


def frame_of(number: int, size: int, *, to: bytes = GROUP) -> bytes:
    """A data frame of the protocol of `size` bytes, told from others from 20 bytes on."""
    head = to + SENDER + b"\x30\x30\x01\x00" + number.to_bytes(4, "big")
    filler = bytes((number * 7 + i) & 0xFF for i in range(64)) * (size // 64 + 1)
    return (head + filler)[:size]


def frames_of(count: int, sizes: Sequence[int] = (64,)) -> list[bytes]:
    return [frame_of(number, sizes[number % len(sizes)]) for number in range(count)]


def rows_of(frames: Sequence[bytes], *, start: int = 0) -> npt.NDArray[np.uint8]:
    """Frames as rows of an array, each from column `start` on."""
    rows = np.zeros((len(frames), 2048), np.uint8)
    for row, frame in zip(rows, frames, strict=True):
        row[start : start + len(frame)] = np.frombuffer(frame, np.uint8)
    return rows


def addresses_of(rows: npt.NDArray[np.uint8], *, start: int = 0) -> npt.NDArray[np.uint64]:
    count = np.arange(len(rows), dtype=np.uint64)
    return np.uint64(rows.ctypes.data + start) + count * np.uint64(rows.strides[0])


def lengths_of(frames: Sequence[bytes]) -> npt.NDArray[np.uint32]:
    return np.array([len(frame) for frame in frames], np.uint32)


def quiet_up(name: str) -> None:
    """Set an interface up so that nothing of the kernel's own goes over it."""
    netif.set_ipv6_option(name, "disable_ipv6", 1)
    netif.set_up(name)


def wire_up() -> None:
    """Set both ends of the veth pair up, and wait until they carry frames."""
    for name in (WIRE, WIRE_PEER):
        quiet_up(name)
    carries(WIRE, WIRE_PEER)


def carries(*names: str) -> None:
    """Wait until these devices really carry frames.

    A device that gets its carrier only after it was set up gets its queue a moment later, from a
    work queue; until then it drops what is sent and reports success.
    """
    for name in names:
        until(lambda name=name: "noop" not in ip("-o", "link", "show", "dev", name))


def listen(ifname: str, *, protocol: int = packet.ETHERTYPE) -> socket.socket:
    return packet.open_packet_socket(ifname, protocol=protocol, rcvbuf_bytes=_MANY_BYTES)


def speak(ifname: str) -> socket.socket:
    """A socket that only sends."""
    sock = packet.open_packet_socket(ifname, protocol=0)
    packet.set_send_buffer(sock, _MANY_BYTES)
    return sock


def hear(sock: socket.socket, count: int, *, patience_s: float = 5.0) -> list[bytes]:
    """`count` frames, and then proof that no other came with them."""
    frames: list[bytes] = []
    deadline = time.monotonic() + patience_s
    while len(frames) < count and time.monotonic() < deadline:
        if select.select([sock], [], [], 0.1)[0]:
            try:
                frames.append(sock.recv(1 << 16))
            except OSError:  # the socket's own word on a link that was down
                continue
    try:
        extra = sock.recv(1 << 16)
    except BlockingIOError:
        return frames
    pytest.fail(f"after {len(frames)} frames an unexpected one of {len(extra)} bytes")


def until(condition: Callable[[], bool], *, patience_s: float = 5.0) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail("the condition was not met in time")
        time.sleep(0.001)


@dataclass
class Side:
    """A node's descriptor on interface `ifname`, and a socket for what is on the far end."""

    kind: str
    ifname: str
    fd: int
    far: socket.socket
    _keep: socket.socket | None = None

    def offer(self, frames: Sequence[bytes]) -> None:
        for frame in frames:
            self.far.send(frame)

    def link(self, state: str) -> None:
        ip("link", "set", "dev", self.ifname, state)

    def close(self) -> None:
        self.far.close()
        if self._keep is not None:
            self._keep.close()
        else:
            os.close(self.fd)


def open_side(kind: str) -> Side:
    if kind == "wire":
        ip("link", "add", "name", WIRE, "type", "veth", "peer", "name", WIRE_PEER)
        wire_up()
        sock = listen(WIRE)
        packet.set_send_buffer(sock, _MANY_BYTES)
        return Side(kind, WIRE, sock.fileno(), _far(WIRE_PEER), sock)
    fd, name = tap.open_tap(TAP)
    ip("link", "set", "dev", name, "txqueuelen", "8192")
    quiet_up(name)
    return Side(kind, name, fd, _far(name))


def _far(ifname: str) -> socket.socket:
    far = listen(ifname)
    packet.set_send_buffer(far, _MANY_BYTES)
    return far
