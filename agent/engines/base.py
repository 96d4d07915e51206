"""What every I/O engine offers: frames in, frames out, on one side of a node.

An engine moves whole Ethernet frames between memory and one descriptor, and counts what it did.
It must not know what a frame means, beyond its first six bytes: the address of the next hop.
"""

from __future__ import annotations

import select
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from errno import (
    EAGAIN,
    EHOSTUNREACH,
    EMSGSIZE,
    ENETDOWN,
    ENETUNREACH,
    ENOBUFS,
    ENODEV,
    ENXIO,
    errorcode,
)
from functools import cached_property
from typing import ClassVar, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from agent.batch import FrameBatch

Buffer = bytes | bytearray | memoryview
Rows = slice | npt.NDArray[np.intp]

RETRIED: Final = frozenset({EAGAIN, ENOBUFS})
UNREACHABLE: Final = frozenset({ENETDOWN, ENETUNREACH, EHOSTUNREACH, ENXIO, ENODEV})

PATIENCE_NS: Final = 2_000_000
"""Longest time that one call of send waits, in all, for room in queues."""
_PAUSE_S: Final = 50e-6


class Side(StrEnum):
    """Which of a node's two sides an engine serves."""

    WIRE = "wire"
    TAP = "tap"


@dataclass(frozen=True, kw_only=True, slots=True)
class Port:
    """An open descriptor and what an engine must know about it.

    `frame_limit` is the size in bytes of the largest frame that the side may carry; a larger one
    that arrives is handed on one byte longer than the limit, so that it is seen to be too long.
    """

    side: Side
    fd: int
    ifname: str
    frame_limit: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """Whether an engine can work here and, if not, why; `note` is what to know of one that can."""

    available: bool
    why_not: str | None = None
    note: str | None = None


class SendResult(NamedTuple):
    """What became of frames: `sent` + `dropped` is how many were given.

    `failed` names each next hop (six bytes) that could not be reached, once.
    """

    sent: int
    dropped: int = 0
    failed: tuple[bytes, ...] = ()


@dataclass(kw_only=True, slots=True)
class EngineCounters:
    """What an engine did since it was opened.

    `fill[n]` is how often a received batch held n frames, `carried[n]` how often n > 1 of the
    frames that were given left as a single one, which counts once in `tx_frames`.
    """

    rx_frames: int = 0
    rx_bytes: int = 0
    tx_frames: int = 0
    tx_bytes: int = 0
    fill: list[int] = field(default_factory=list)
    carried: Counter[int] = field(default_factory=Counter)
    drops: Counter[str] = field(default_factory=Counter)
    syscalls: Counter[str] = field(default_factory=Counter)


class Patience:
    """How long one call may still wait for room; shared by all frames of the call."""

    __slots__ = ("_deadline_ns", "_fd", "_poll", "polls")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._deadline_ns = 0
        self._poll: select.poll | None = None
        self.polls = 0

    def wait(self, error_number: int) -> bool:
        """Wait a little for the cause of `error_number` to pass; False when time is up."""
        now = time.monotonic_ns()
        if not self._deadline_ns:
            self._deadline_ns = now + PATIENCE_NS
        if now >= self._deadline_ns:
            return False
        if error_number == EAGAIN:
            if self._poll is None:
                self._poll = select.poll()
                self._poll.register(self._fd, select.POLLOUT)
            self.polls += 1
            self._poll.poll(PATIENCE_NS // 1_000_000)
        else:
            # ENOBUFS: a queue beyond the socket is full, and poll knows nothing about that.
            time.sleep(_PAUSE_S)
        return True


class Engine(ABC):
    """One side's frames. All calls return at once, whatever the descriptor does."""

    name: ClassVar[str]
    sides: ClassVar[frozenset[Side]]
    batches: ClassVar[bool]
    """Whether several frames go with one system call."""
    joins: ClassVar[bool] = False
    """Whether frames given in one call may leave as one: so none that could go together is given
    alone."""
    gathers: ClassVar[bool] = False
    """Whether it is to be given all that comes of one batch in a single call."""

    recv_one: Callable[[int], bytes | None]
    """One frame, cut off after that many bytes; None, or BlockingIOError, when none is there.

    Not counted: the caller does that, once for many. OSError for what else happened.
    """
    send_one: Callable[[Buffer], int | None]
    """Try once to send a frame; None, or an OSError, when it was not taken.

    Not counted: the caller does that, once for many, and gives a frame that was not taken to
    `settle`.
    """
    recv_call: str
    """Name of the system call behind `recv_one`, under which the caller counts it; empty: none."""
    send_call: str
    """Name of the system call behind `send_one`, under which the caller counts it."""

    def __init__(self, port: Port, batch_size: int) -> None:
        self.port = port
        self.side = port.side
        self.batch_size = batch_size
        self.counters = EngineCounters(fill=[0] * (batch_size + 1))

    @classmethod
    @abstractmethod
    def probe(cls, side: Side) -> Probe:
        """Whether this kernel and this process can use the engine on `side`."""

    def fileno(self) -> int:
        """The descriptor that becomes readable when a frame is there."""
        return self.port.fd

    def new_batch(self) -> FrameBatch:
        """Memory to receive into: `batch_size` rows, for frames up to the limit and one byte."""
        return FrameBatch(self.batch_size, self.port.frame_limit + 1)

    @cached_property
    def _copies(self) -> FrameBatch:
        """What frames that stand elsewhere are sent from; many nodes never need it."""
        return Engine.new_batch(self)

    def lend_batch(self, frame_bytes: int) -> FrameBatch | None:
        """Memory from which this engine sends at less cost than from elsewhere, for the engine of
        the other side to receive into; `batch_size` rows. None where it is all the same."""
        return None

    @abstractmethod
    def recv_batch(self, batch: FrameBatch) -> int:
        """Fill `batch` from row 0 on with what is there; how many, 0 for nothing.

        `batch.count`, `start` and `length` are set. A frame above the port's limit comes cut to
        one byte more than it.

        :raises OSError: the descriptor reported something other than "nothing there".
        """

    def release(self) -> None:  # noqa: B027
        """The batch last received is done with: its rows, if they are a ring's, are free again.

        The next `recv_batch` does it too, but until then `fileno` may stay readable.
        """

    @abstractmethod
    def send_rows(self, batch: FrameBatch, rows: Rows | None = None) -> SendResult:
        """Send rows of `batch` in the order given (all `count` rows by default), from its memory.

        A frame that fails does not keep the ones after it from being sent, and none goes twice.
        EAGAIN and ENOBUFS are tried again for a bounded time.
        """

    def send_frames(self, frames: Sequence[Buffer]) -> SendResult:
        """Send `frames` in order, as `send_rows` does; if nothing better is known, by it."""
        copies = self._copies
        limit, capacity = copies.frame_bytes, copies.capacity
        results: list[SendResult] = []
        copies.clear()
        for frame in frames:
            too_long = len(frame) > limit
            if copies.count and (too_long or copies.count == capacity):
                results.append(self.send_rows(copies))
                copies.clear()
            if too_long:
                # For a row and for the interface: let the kernel say so itself.
                results.append(self._send_alone(frame))
            else:
                copies.append(frame)
        if copies.count:
            results.append(self.send_rows(copies))
        return results[0] if len(results) == 1 else merge(results)

    def _send_alone(self, frame: Buffer) -> SendResult:
        self.counters.syscalls[self.send_call] += 1
        try:
            sent = self.send_one(frame)
        except OSError as error:
            return self.settle(frame, error)
        if sent is None:
            return self.settle(frame, None)
        self.counters.tx_frames += 1
        self.counters.tx_bytes += len(frame)
        return SendResult(1)

    def send_batch(self, frames: FrameBatch | Sequence[Buffer]) -> SendResult:
        """Send all frames of a batch, whatever it is kept in."""
        if isinstance(frames, FrameBatch):
            return self.send_rows(frames)
        return self.send_frames(frames)

    def settle(self, frame: Buffer, error: OSError | None) -> SendResult:
        """See a frame through that `send_one` did not take: try again, or count it as dropped.

        `error` is what `send_one` raised; None stands for EAGAIN.
        """
        patience = Patience(self.port.fd)
        result = self._settle(frame, EAGAIN if error is None else error.errno or 0, patience)
        self._count_polls(patience)
        return result

    def _settle(self, frame: Buffer, number: int, patience: Patience) -> SendResult:
        while number in RETRIED and patience.wait(number):
            self.counters.syscalls[self.send_call] += 1
            try:
                if self.send_one(frame) is not None:
                    self.counters.tx_frames += 1
                    self.counters.tx_bytes += len(frame)
                    return SendResult(1)
            except OSError as again:
                number = again.errno or 0
            else:
                number = EAGAIN
        return self._drop(number, bytes(frame[:6]))

    def _drop(self, number: int, next_hop: bytes) -> SendResult:
        """Count a frame that `number` kept from being sent."""
        self.counters.drops[drop_cause(number)] += 1
        failed = (next_hop,) if number in UNREACHABLE and self.side is Side.WIRE else ()
        return SendResult(0, 1, failed)

    def _count_polls(self, patience: Patience) -> None:
        if patience.polls:
            self.counters.syscalls["poll"] += patience.polls

    def read_counters(self) -> EngineCounters:
        """The counters, complete as of now."""
        return self.counters

    @abstractmethod
    def close(self) -> None:
        """Let go of what the engine made; the port's descriptor belongs to whoever opened it."""


def drop_cause(number: int) -> str:
    """The name under which a frame is counted that errno `number` kept from being sent."""
    if number == EMSGSIZE:
        return "send_too_long"
    if number in RETRIED:
        return "send_queue_full"
    if number in UNREACHABLE:
        return "send_unreachable"
    return f"send_{errorcode.get(number, str(number)).lower()}"


def merge(results: Sequence[SendResult]) -> SendResult:
    """Several results as one."""
    failed: dict[bytes, None] = {}
    for result in results:
        failed.update(dict.fromkeys(result.failed))
    return SendResult(
        sum(result.sent for result in results),
        sum(result.dropped for result in results),
        tuple(failed),
    )
