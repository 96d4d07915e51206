"""Test frames, built once with scapy and stamped by the thousand with numpy.

A `FrameSet` is the cyclic pattern of frames that a sender repeats: flows in turn, each with the
sizes asked for. A `FrameRing` holds it in one array and fills in what differs from frame to frame:
sequence number, time, check. Must not know where frames go or when.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from testbed.errors import InputError
from testbed.traffic import probe

IMIX: Final[tuple[int, ...]] = (60, 590, 60, 60, 590, 60, 1450, 60, 590, 60, 590, 60)
"""The simple Internet mix, 7 : 4 : 1, as inner frames without checksum (64, 594 and 1518 bytes with
it); the longest is what a TAP with the default MTU of 1436 carries."""

DEFAULT_FRAME_BYTES: Final = 256
MAX_PATTERN: Final = 4096
_MIN_ROWS: Final = 512
_FEW: Final = 6
_MASK64: Final = (1 << 64) - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """One flow: the headers in front of the inner frame (none on a TAP), and the inner MACs."""

    id: int
    header: bytes
    dst: str
    src: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameSet:
    """The pattern: slot i of it is `templates[i]`, a frame of flow `flows[i]`.

    `inner_at` is where the inner frame begins in every template.
    """

    templates: tuple[bytes, ...]
    flows: tuple[int, ...]
    inner_at: int

    def per_flow(self, count: int, first: int = 0) -> dict[int, int]:
        """How many of frames `first` … `first + count - 1` of the endless pattern each flow has."""
        found = dict.fromkeys(sorted(set(self.flows)), 0)
        for flow, number in self._until(first + count).items():
            found[flow] += number
        for flow, number in self._until(first).items():
            found[flow] -= number
        return found

    def _until(self, count: int) -> Counter[int]:
        whole, rest = divmod(count, len(self.flows))
        found = Counter(self.flows[:rest])
        if whole:
            for flow, number in Counter(self.flows).items():
                found[flow] += whole * number
        return found


def check_sizes(sizes: Sequence[int], *, mtu: int | None = None) -> tuple[int, ...]:
    """The sizes of inner Ethernet frames (without checksum) if test traffic can have them.

    :raises InputError: too short for a probe, or longer than a TAP of that MTU carries.
    """
    longest = probe.MAX_FRAME_BYTES if mtu is None else min(mtu + 14, probe.MAX_FRAME_BYTES)
    if not sizes:
        raise InputError("no frame size", expected="at least one size in bytes")
    for size in sizes:
        if not probe.MIN_FRAME_BYTES <= size <= longest:
            raise InputError(
                "frame size out of range",
                value=size,
                expected=f"{probe.MIN_FRAME_BYTES} to {longest} bytes of inner Ethernet frame",
            )
    return tuple(sizes)


def build(flows: Sequence[Flow], sizes: Sequence[int]) -> FrameSet:
    """The pattern in which the flows take turns and each goes through `sizes`.

    :raises InputError: a size out of range, or flows times sizes beyond `MAX_PATTERN`.
    """
    check_sizes(sizes)
    if not flows or len({len(flow.header) for flow in flows}) != 1:
        raise ValueError("flows need headers of one length")
    if len({flow.id for flow in flows}) != len(flows):
        raise ValueError("flows need ids of their own")
    # With one size the pattern is one round of the flows; else it goes on until every flow has
    # had every size, each flow beginning at another place of the mix.
    rounds = len(sizes)
    if rounds * len(flows) > MAX_PATTERN:
        raise InputError(
            "too many flows",
            value=len(flows),
            expected=f"at most {MAX_PATTERN // rounds} with {rounds} frame sizes",
        )
    templates = []
    ids = []
    for turn in range(rounds):
        for place, flow in enumerate(flows):
            templates.append(flow.header + _inner(flow, sizes[(turn + place) % rounds]))
            ids.append(flow.id)
    return FrameSet(templates=tuple(templates), flows=tuple(ids), inner_at=len(flows[0].header))


@lru_cache(maxsize=8192)
def _inner(flow: Flow, size: int) -> bytes:
    # The only use of scapy on the way to traffic; once per flow and size.
    from testbed.traffic import layer

    return layer.probe_frame(dst=flow.dst, src=flow.src, flow=flow.id, frame_bytes=size)


class FrameRing:
    """A pattern laid out `rows` times in one (rows, stride) array, ready to be stamped and sent.

    Frame number n of the endless pattern lies in row n % rows, from byte `start` on, `length[row]`
    bytes long.
    """

    def __init__(self, frames: FrameSet) -> None:
        pattern = len(frames.templates)
        self.rows: Final = pattern * max(1, math.ceil(_MIN_ROWS / pattern))
        # The inner frame is aligned, so that its words can be looked at as words.
        self.start: Final = -frames.inner_at % 8
        self._inner: Final = self.start + frames.inner_at
        longest = max(map(len, frames.templates))
        stride = (self.start + longest + 63) // 64 * 64
        self.data: npt.NDArray[np.uint8] = np.zeros((self.rows, stride), np.uint8)
        per_pattern = Counter(frames.flows)
        rank: Counter[int] = Counter()
        base = np.zeros(pattern, np.uint64)
        first = np.zeros(pattern, np.int64)
        count = np.zeros(pattern, np.int64)
        length = np.zeros(pattern, np.int64)
        for slot, (template, flow) in enumerate(zip(frames.templates, frames.flows, strict=True)):
            row = self.data[slot : slot + 1]
            row[0, self.start : self.start + len(template)] = np.frombuffer(template, np.uint8)
            inner = row[:, self._inner :]
            inner[:, probe.SEQUENCE_AT : probe.CHECK_AT] = 0
            base[slot] = probe.sums(inner, len(template) - frames.inner_at)[0]
            length[slot] = len(template)
            first[slot] = rank[flow]
            count[slot] = per_pattern[flow]
            rank[flow] += 1
        times = self.rows // pattern
        self.data[:] = np.tile(self.data[:pattern], (times, 1))
        self.length: npt.NDArray[np.int64] = np.tile(length, times)
        base = np.tile(base, times)
        first = np.tile(first, times) + np.repeat(np.arange(times), pattern) * np.tile(count, times)
        step = np.tile(count, times) * times
        self._base = base
        self._first = first
        self._step = step
        at = self._inner
        self._words = self.data[:, at + probe.SEQUENCE_AT : at + probe.CHECK_AT].view("<u4")
        stamps = self.data[:, at + probe.SEQUENCE_AT : at + probe.CHECK_AT].view(">u8")
        self._sequence = stamps[:, 0]
        self._time = stamps[:, 1]
        self._check = self.data[:, at + probe.CHECK_AT : at + probe.CHECK_AT + 4].view(">u4")[:, 0]
        self._weights = probe.WEIGHTS[probe.STAMP_WORDS].copy()
        # The same once more as plain numbers: for few frames numpy costs more than it saves.
        self._memory = self.data.reshape(-1).data
        self._bases = base.tolist()
        self._firsts = first.tolist()
        self._steps = step.tolist()
        self._plain_weights = tuple(self._weights.tolist())
        self._stride = stride

    def run_length(self, number: int, wanted: int) -> tuple[int, int]:
        """The row of frame `number`, and how many of `wanted` frames from it on lie in a row."""
        row = number % self.rows
        return row, min(wanted, self.rows - row)

    def stamp(self, number: int, count: int, time_ns: int) -> int:
        """Fill in frames `number` … `number + count - 1`, sent at `time_ns` (CLOCK_REALTIME).

        They must lie in a row (`run_length`). Returns the row of the first.
        """
        lap, row = divmod(number, self.rows)
        if count <= _FEW:
            for place in range(row, row + count):
                self._stamp_one(place, lap, time_ns)
            return row
        rows = slice(row, row + count)
        self._sequence[rows] = self._first[rows] + lap * self._step[rows]
        self._time[rows] = time_ns
        total = self._words[rows].astype(np.uint64) @ self._weights
        total += self._base[rows]
        self._check[rows] = total >> np.uint64(32)
        return row

    def _stamp_one(self, row: int, lap: int, time_ns: int) -> None:
        at = row * self._stride + self._inner + probe.SEQUENCE_AT
        memory = self._memory
        _STAMP.pack_into(memory, at, self._firsts[row] + lap * self._steps[row], time_ns)
        a, b, c, d = _WORDS.unpack_from(memory, at)
        v, w, x, y = self._plain_weights
        total = (self._bases[row] + a * v + b * w + c * x + d * y) & _MASK64
        _CHECK.pack_into(memory, at + 16, total >> 32)


_STAMP: Final = struct.Struct(">QQ")
_WORDS: Final = struct.Struct("<IIII")
_CHECK: Final = struct.Struct(">I")
