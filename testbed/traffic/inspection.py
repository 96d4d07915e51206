"""Sorts a table of received frames: whose they are, whether they are whole, where they belong.

Works on the table as it lies in memory, all frames at once. Must not know sockets, clocks, counts.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from testbed.traffic import probe
from testbed.traffic.arrivals import Expectation

MAX_STREAMS: Final = 1 << 14

Bytes2D = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sorted:
    """Rows of a table, in order of arrival: `good` with the stream of each, and the others.

    `misaddressed` are whole test frames with another header than expected; `broken` is the rest.
    """

    good: slice | Ints
    streams: Ints
    misaddressed: Ints
    broken: Ints


_NONE: Final = np.zeros(0, np.int64)


class Inspector:
    """Looks at the frames in `rows`, each from byte `start` on, with the inner frame at `inner_at`.

    `start` + `inner_at` is a multiple of 8, so that what is looked at can be looked at as words.
    """

    def __init__(self, rows: Bytes2D, *, start: int, inner_at: int) -> None:
        self._inner = inner_at
        self._start = start
        self.frames = rows[:, start:]
        stamps = self._columns(probe.SEQUENCE_AT, 16).view(">u8")
        self.sequence: npt.NDArray[np.unsignedinteger] = stamps[:, 0]
        """Sequence number by row; means something only in whole frames, as does `sent`."""
        self.sent: npt.NDArray[np.unsignedinteger] = stamps[:, 1]
        # Compared as they lie in memory: swapping the other side of the comparison is cheaper.
        self._check = self._columns(probe.CHECK_AT, 4).view("=u4")[:, 0]
        self._ip_length = self._columns(probe.IP_LENGTH_AT, 2).view("=u2")[:, 0]
        self._flow = self._columns(probe.FLOW_AT, 2).view(">u2")[:, 0]
        self._head = rows[:, : start + inner_at].view(np.uint64)
        self._expected = Expectation(flows=0)
        self._headers: npt.NDArray[np.uint64] = np.zeros((0, 0), np.uint64)
        self._mask: list[int] = []
        self._receiver_of: Ints | None = None

    def expect(self, expected: Expectation) -> None:
        """What should come from now on.

        :raises ValueError: no streams or too many, or headers that cannot be told apart.
        """
        if not 0 < expected.streams <= MAX_STREAMS:
            raise ValueError(f"1 to {MAX_STREAMS} streams can be counted")
        self._expected = expected
        self._receiver_of = None
        if not self._inner:
            return
        if len(expected.headers) != expected.streams or len(expected.mask) != self._inner:
            raise ValueError("every stream on the wire needs a header")
        # As words, with the unused bytes in front of the frame masked out.
        front = bytes(self._start)
        self._mask = np.frombuffer(front + expected.mask, np.uint64).tolist()
        joined = b"".join(front + header for header in expected.headers)
        self._headers = np.frombuffer(joined, np.uint64).reshape(expected.streams, -1)
        if expected.receivers > 1:
            self._receiver_of = _receivers(expected)

    def sort(self, lengths: npt.NDArray[np.uint32]) -> Sorted:
        """Sort the first frames of the table, `lengths` bytes long."""
        n = len(lengths)
        whole = self._whole(lengths)
        flow = self._flow[:n].astype(np.int64)
        whole &= flow < self._expected.flows
        broken = misaddressed = _NONE
        good: slice | Ints = slice(0, n)
        if not bool(whole.all()):
            broken = np.flatnonzero(~whole)
            good = np.flatnonzero(whole)
            flow = flow[good]
        streams = flow
        if self._inner and len(flow):
            streams = self._stream(good, flow)
            right = self._headed(good, streams)
            if not bool(right.all()):
                places = np.arange(n)[good]
                misaddressed = places[~right]
                good, streams = places[right], streams[right]
        return Sorted(good=good, streams=streams, misaddressed=misaddressed, broken=broken)

    def inner(self, row: int, length: int) -> bytes:
        """The inner frame of one row, of which `length` bytes were received."""
        return self.frames[row, self._inner : min(length, self.frames.shape[1])].tobytes()

    def _columns(self, offset: int, size: int) -> Bytes2D:
        at = self._inner + offset
        return self.frames[:, at : at + size]

    def _whole(self, lengths: npt.NDArray[np.uint32]) -> Flags:
        first = int(lengths[0])
        if bool((lengths == first).all()):
            return self._whole_of(slice(0, len(lengths)), len(lengths), first)
        whole = np.zeros(len(lengths), np.bool_)
        for length in np.unique(lengths).tolist():
            rows = np.flatnonzero(lengths == length)
            whole[rows] = self._whole_of(rows, len(rows), length)
        return whole

    def _whole_of(self, rows: slice | Ints, count: int, length: int) -> Flags:
        inner_bytes = length - self._inner
        if inner_bytes < probe.MIN_FRAME_BYTES or length > self.frames.shape[1]:
            return np.zeros(count, np.bool_)
        inner = self.frames[rows, self._inner : length]
        checks = probe.checks(inner, inner_bytes).astype(">u4").view("=u4")
        whole: Flags = checks == self._check[rows]
        whole &= self._ip_length[rows] == socket.htons(inner_bytes - 14)
        return whole

    def _headed(self, rows: slice | Ints, streams: Ints) -> Flags:
        """Which frames have the header that their stream should have; word by word, not byte."""
        known = np.maximum(streams, 0)
        one = len(self._headers) == 1
        wrong = np.zeros(len(streams), np.uint64)
        for word, mask in enumerate(self._mask):
            if mask:
                wanted = self._headers[0, word] if one else self._headers[known, word]
                wrong |= (self._head[rows, word] ^ wanted) & np.uint64(mask)
        right: Flags = (wrong == 0) & (streams >= 0)
        return right

    def _stream(self, rows: slice | Ints, flow: Ints) -> Ints:
        """The stream of each frame; below 0 for a receiver that nobody expects."""
        if self._receiver_of is None:
            return flow
        ends = self.frames[rows, 4:6].astype(np.int64)
        receiver = self._receiver_of[ends[:, 0] << 8 | ends[:, 1]]
        return np.where(receiver < 0, -1, flow * self._expected.receivers + receiver)


def _receivers(expected: Expectation) -> Ints:
    """Receiver by the last two bytes of the destination, -1 for none."""
    table = np.full(1 << 16, -1, np.int64)
    for receiver, header in enumerate(expected.headers[: expected.receivers]):
        ending = int.from_bytes(header[4:6], "big")
        if table[ending] >= 0:
            raise ValueError("receivers must differ in the last two bytes of their MAC")
        table[ending] = receiver
    return table
