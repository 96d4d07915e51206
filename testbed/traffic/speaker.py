"""Speaks just enough of the node protocol to be chosen: fake neighbours of a node under test.

To an OBU it is an RSU that sends heartbeats, and OBUs behind it that answer those; to an RSU it is
OBUs that answer its heartbeats. Every neighbour is one MAC address on one interface. Shares no
code with the node, so that a fault there cannot hide here: frames are made by scapy once, and what
varies is put in place. Must not know the test traffic.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from agent.linux import bpf
from agent.linux.packet import open_packet_socket
from testbed.kernel.netns import run_in
from testbed.traffic.place import Place

_HEARTBEAT_BYTES: Final = 46
_REPLY_BYTES: Final = 52
_BODY: Final = slice(16, 46)
_STEP_S: Final = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeakerSpec:
    """Who speaks to whom, where.

    `heartbeat` is a whole frame, sent every `period_ms` with its number and its duration filled
    in; None if the node under test is itself the RSU. Every one of `replies`, whole frames too, is
    sent when the node's heartbeat is heard, with that heartbeat's fields filled in.
    """

    place: Place
    node_mac: bytes
    heartbeat: bytes | None
    replies: tuple[bytes, ...]
    period_ms: int
    cpus: tuple[int, ...] | None


def speaker_spec(
    place: Place,
    *,
    node_mac: str,
    rsu: str | None,
    obus: tuple[str, ...],
    period_ms: int,
    cpus: tuple[int, ...] | None,
) -> SpeakerSpec:
    """What a speaker needs to be the RSU `rsu` (None: the node is one) and the OBUs `obus`."""
    from testbed.traffic import layer

    source = rsu or node_mac
    replies = tuple(
        bytes(layer.heartbeat_reply(dst=node_mac, src=mac, rsu=source, sender=mac, id=0))
        for mac in obus
    )
    return SpeakerSpec(
        place=place,
        node_mac=bytes.fromhex(node_mac.replace(":", "")),
        heartbeat=None if rsu is None else bytes(layer.heartbeat(src=rsu, rsu=rsu, id=0)),
        replies=replies,
        period_ms=period_ms,
        cpus=cpus,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeakerStatus:
    """What was said and heard so far."""

    heartbeats_sent: int
    replies_sent: int
    heartbeats_heard: int
    """Heartbeats sent by the node under test: its own, or passed on."""
    replies_heard: int
    """Replies by the node under test to the fake RSU's heartbeats."""
    refused: int
    """Sends that the kernel refused."""


class Speaker:
    """The fake neighbours; `step` does what is due."""

    def __init__(self, spec: SpeakerSpec) -> None:
        """Open the socket; raises OSError if there is no such interface or no right to speak."""
        self._node = spec.node_mac
        self._socket: socket.socket = run_in(
            spec.place.netns,
            lambda: open_packet_socket(spec.place.ifname, filter=_control_filter()),
        )
        self._heartbeat = None if spec.heartbeat is None else bytearray(spec.heartbeat)
        self._rsu = spec.node_mac if spec.heartbeat is None else spec.heartbeat[40:46]
        self._replies = [bytearray(reply) for reply in spec.replies]
        self._period_ns = spec.period_ms * 1_000_000
        self._booted_ns = time.monotonic_ns()
        self._next_ns = self._booted_ns
        # Heartbeat numbers of an RSU start at 0; a node that lives on would take smaller ones for
        # an RSU that restarted, which is what a new speaker is.
        self._id = 0
        self._sent = self._answered = self._heard = self._replied = self._refused = 0

    def step(self) -> float:
        """Send what is due, answer what was heard; seconds until it should be called again."""
        now = time.monotonic_ns()
        if self._heartbeat is not None and now >= self._next_ns:
            uptime_ms = (now - self._booted_ns) // 1_000_000
            struct.pack_into("!QQI", self._heartbeat, 16, 0, uptime_ms, self._id)
            self._sent += self._send(self._heartbeat)
            self._id += 1
            self._next_ns = max(self._next_ns + self._period_ns, now)
        while True:
            try:
                frame = self._socket.recv(2048)
            except BlockingIOError:
                break
            except OSError:  # the interface went down: told once
                continue
            for message in _messages(frame):
                self._hear(message)
        return _STEP_S

    def hello(self) -> None:
        """Send a heartbeat now, out of turn; the next ones follow a whole period after it."""
        self._next_ns = time.monotonic_ns()

    def status(self) -> SpeakerStatus:
        """What was said and heard so far."""
        return SpeakerStatus(
            heartbeats_sent=self._sent,
            replies_sent=self._answered,
            heartbeats_heard=self._heard,
            replies_heard=self._replied,
            refused=self._refused,
        )

    def close(self) -> None:
        """Fall silent."""
        self._socket.close()

    def _hear(self, message: bytes) -> None:
        if message[6:12] != self._node:
            return
        if len(message) == _REPLY_BYTES:
            self._replied += message[40:46] == self._rsu and message[46:52] == self._node
            return
        self._heard += 1
        for reply in self._replies:
            reply[_BODY] = message[_BODY]
            self._answered += self._send(reply)

    def _send(self, frame: bytearray) -> bool:
        try:
            self._socket.send(frame)
        except OSError:
            self._refused += 1
            return False
        return True


def _messages(frame: bytes) -> Iterator[bytes]:
    """The control messages at the beginning of a frame."""
    rest = frame
    while len(rest) >= 16 and rest[12:15] == b"\x30\x30\x00" and rest[15] in (0, 1):
        size = _HEARTBEAT_BYTES if rest[15] == 0 else _REPLY_BYTES
        if len(rest) < size:
            return
        yield rest[:size]
        rest = rest[size:]


def _control_filter() -> bytes:
    return bpf.assemble(
        [
            (bpf.LD_B_ABS, 0, 0, 14),
            (bpf.JEQ_K, 0, 1, 0),
            (bpf.RET_K, 0, 0, 0xFFFFFFFF),
            (bpf.RET_K, 0, 0, 0),
        ]
    )
