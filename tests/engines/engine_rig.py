"""An engine under test and what stands on the other end of its descriptor."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from agent.engines.base import Engine, Port, Side
from agent.linux import packet

MTU = 1500
GROUP = b"\xff" * 6
PEER = "tbt-p"
OTHER = b"\x02\x00\x00\x00\x00\x99"


def frame_of(number: int, size: int = 64, *, to: bytes = GROUP) -> bytes:
    """A frame of the protocol's EtherType, `size` bytes long, that carries its number."""
    head = to + OTHER + b"\x30\x30" + b"\x01\x00"
    text = head + number.to_bytes(4, "big")
    return (text + bytes((number + i) & 0xFF for i in range(size)))[:size]


_LAST = GROUP + OTHER + b"\x30\x30" + b"the last frame"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def wait_carries(send: Callable[[bytes], object], ifname: str) -> None:
    """Until a frame sent arrives at `ifname`: a link that came up drops what it is given first."""
    probe = GROUP + OTHER + b"\x88\xb6" + bytes(46)
    with packet.open_packet_socket(ifname, protocol=0x88B6) as heard:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                send(probe)
                if select.select([heard], [], [], 0.01)[0] and heard.recv(100) == probe:
                    return
            except OSError:  # not up yet
                time.sleep(0.001)
    pytest.fail(f"nothing arrives at {ifname}")


@dataclass
class Rig:
    """An engine, and what stands on the other end of its descriptor."""

    side: Side
    ifname: str
    peer: socket.socket
    port: Port
    engine_class: type[Engine]
    _opened: list[Engine] = field(default_factory=list)

    def open(self, batch_size: int = 32, *, frame_limit: int | None = None) -> Engine:
        port = self.port
        if frame_limit is not None:
            port = Port(side=port.side, fd=port.fd, ifname=port.ifname, frame_limit=frame_limit)
        engine = self.engine_class(port, batch_size)
        self._opened.append(engine)
        return engine

    def offer(self, *frames: bytes) -> None:
        """Let frames arrive at the engine's side."""
        for frame in frames:
            self.peer.send(frame)

    def taken(self) -> list[bytes]:
        """What the engine sent since the last call, all of it: a last frame is sent behind it."""
        with packet.open_packet_socket(self.ifname) as last:
            if self.side is Side.WIRE:
                last.send(_LAST)
            else:
                os.write(self.port.fd, _LAST)
        frames = []
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            if not select.select([self.peer], [], [], 1)[0]:
                continue
            try:
                frame = self.peer.recv(1 << 17)
            except OSError:  # the peer's own word on a link that was down
                continue
            if frame == _LAST:
                return frames
            frames.append(frame)
        pytest.fail(f"the last frame did not arrive behind {len(frames)} others")

    def received(self, engine: Engine, count: int) -> list[bytes]:
        """`count` frames that have been offered, through the engine's batch call, and no more."""
        batch = engine.new_batch()
        frames: list[bytes] = []
        deadline = time.monotonic() + 5
        while len(frames) < count and time.monotonic() < deadline:
            if select.select([engine.fileno()], [], [], 1)[0] and engine.recv_batch(batch):
                frames.extend(bytes(view) for view in batch)
        assert engine.recv_batch(batch) == 0
        return frames

    def run(self, *command: str) -> None:
        subprocess.run(command, check=True, capture_output=True)

    def link(self, state: str) -> None:
        ip("link", "set", "dev", self.ifname, state)
        if state == "up":
            self.wait_up()

    def wait_up(self) -> None:
        """Until both directions carry frames."""
        if self.side is Side.TAP:
            wait_carries(lambda frame: os.write(self.port.fd, frame), self.ifname)
            with packet.open_packet_socket(self.ifname, protocol=0) as sock:
                while not select.select([self.port.fd], [], [], 0.01)[0]:
                    sock.send(frame_of(0))
            while select.select([self.port.fd], [], [], 0)[0]:
                os.read(self.port.fd, 1 << 17)
            return
        for one, other in ((self.ifname, PEER), (PEER, self.ifname)):
            with packet.open_packet_socket(one, protocol=0) as sock:
                wait_carries(sock.send, other)

    def close(self) -> None:
        for engine in self._opened:
            engine.close()
