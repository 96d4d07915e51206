"""Accounting for every sequence number: delivered, duplicated, reordered, and so lost.

Works on batches of (stream, sequence number, phase) in order of arrival, with numpy. A stream is
whatever has numbers of its own. Must not know frames, sockets or clocks.

Reordering is RFC 4737's Type-P-Reordered: a packet whose number is smaller than one that arrived
before it in its stream. As there, only the first copy of a packet is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

_BLOCK_BITS: Final = 20
_BLOCK: Final = 1 << _BLOCK_BITS
_OPEN_BLOCKS: Final = 4
_BIG: Final = np.int64(1) << np.int64(48)


class SeenMap:
    """A set of numbers ≥ 0 that mostly arrive in order, in little memory however many they are.

    Kept in blocks of a million: the newest few as one byte for each number, older ones as one bit,
    complete ones as nothing.
    """

    def __init__(self) -> None:
        self._open: dict[int, npt.NDArray[np.bool_]] = {}
        self._packed: dict[int, npt.NDArray[np.uint8]] = {}
        self._complete: set[int] = set()

    def add(self, keys: Ints) -> npt.NDArray[np.bool_]:
        """Put the numbers in; for each of them whether it is new. They must differ."""
        if not len(keys):
            return np.zeros(0, np.bool_)
        low, high = int(keys.min()) >> _BLOCK_BITS, int(keys.max()) >> _BLOCK_BITS
        if low == high:
            return self._add_to(low, keys - (low << _BLOCK_BITS))
        blocks = keys >> _BLOCK_BITS
        fresh = np.zeros(len(keys), np.bool_)
        for number in np.unique(blocks).tolist():
            of_block = blocks == number
            fresh[of_block] = self._add_to(number, keys[of_block] - (number << _BLOCK_BITS))
        return fresh

    def _add_to(self, number: int, places: Ints) -> npt.NDArray[np.bool_]:
        if number in self._complete:
            return np.zeros(len(places), np.bool_)
        block = self._open.get(number)
        if block is None:
            block = self._open_block(number)
        fresh: npt.NDArray[np.bool_] = ~block[places]
        block[places] = True
        return fresh

    def _open_block(self, number: int) -> npt.NDArray[np.bool_]:
        packed = self._packed.pop(number, None)
        block = (
            np.zeros(_BLOCK, np.bool_) if packed is None else np.unpackbits(packed).view(np.bool_)
        )
        self._open[number] = block
        while len(self._open) > _OPEN_BLOCKS:
            oldest = min(key for key in self._open if key != number)
            closing = self._open.pop(oldest)
            if closing.all():
                self._complete.add(oldest)
            else:
                self._packed[oldest] = np.packbits(closing)
        return block


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamCounts:
    """Packets of one stream. `delivered` counts each sequence number once."""

    delivered: int
    duplicated: int
    reordered: int


class Accountant:
    """Accounts for `streams` streams, numbered from 0, in `phases` phases (warm-up, trial).

    A packet counts in the phase that it says it belongs to; numbers run on from phase to phase.
    """

    def __init__(self, *, streams: int, phases: int = 2) -> None:
        self._streams = streams
        self._seen = SeenMap()
        # The least number that would be in order, for each stream (RFC 4737: NextExp).
        self._expected = np.zeros(streams, np.int64)
        cells = streams * phases
        self._delivered = np.zeros(cells, np.int64)
        self._duplicated = np.zeros(cells, np.int64)
        self._reordered = np.zeros(cells, np.int64)

    def add(self, stream: Ints, sequence: Ints, phase: Ints) -> npt.NDArray[np.bool_]:
        """Account for packets in order of arrival; for each whether it is the first copy."""
        if not len(stream):
            return np.zeros(0, np.bool_)
        # With flows in turn these keys rise from packet to packet, if nothing is out of order.
        keys = sequence * self._streams + stream
        cells = phase * self._streams + stream
        if bool((keys[1:] > keys[:-1]).all()):
            fresh = self._seen.add(keys)
        else:
            fresh = self._first_copies(keys)
        if bool(fresh.all()):
            self._add_to(self._delivered, cells)
            self._order(stream, sequence, cells)
        else:
            self._add_to(self._duplicated, cells[~fresh])
            self._add_to(self._delivered, cells[fresh])
            self._order(stream[fresh], sequence[fresh], cells[fresh])
        return fresh

    def counts(self, phase: int) -> tuple[StreamCounts, ...]:
        """What was counted in a phase, stream by stream."""
        cells = slice(phase * self._streams, (phase + 1) * self._streams)
        return tuple(
            StreamCounts(delivered=delivered, duplicated=duplicated, reordered=reordered)
            for delivered, duplicated, reordered in zip(
                self._delivered[cells].tolist(),
                self._duplicated[cells].tolist(),
                self._reordered[cells].tolist(),
                strict=True,
            )
        )

    def _first_copies(self, keys: Ints) -> npt.NDArray[np.bool_]:
        _, first = np.unique(keys, return_index=True)
        fresh = np.zeros(len(keys), np.bool_)
        fresh[first] = self._seen.add(keys[first])
        return fresh

    def _order(self, stream: Ints, sequence: Ints, cells: Ints) -> None:
        """Count what arrives after a higher number of its stream. Every packet is a first copy."""
        if not len(stream):
            return
        if self._streams == 1:
            before = np.empty_like(sequence)
            before[0] = self._expected[0] - 1
            np.maximum.accumulate(sequence[:-1], out=before[1:])
            np.maximum(before, before[0], out=before)
            late = sequence < before
            self._expected[0] = max(int(before[-1]), int(sequence[-1])) + 1
            self._add_to(self._reordered, cells[late])
            return
        by_stream = np.argsort(stream, kind="stable")
        streams, numbers = stream[by_stream], sequence[by_stream]
        # A running maximum that begins anew with each stream: higher streams stand higher.
        lifted = streams * _BIG + numbers
        highest = np.maximum.accumulate(lifted)
        before = np.empty_like(highest)
        before[0] = -1
        before[1:] = highest[:-1]
        before = np.maximum(before - streams * _BIG, self._expected[streams] - 1)
        late = numbers < before
        last = np.flatnonzero(np.append(streams[1:] != streams[:-1], True))
        self._expected[streams[last]] = (
            np.maximum(highest[last] - streams[last] * _BIG, before[last]) + 1
        )
        self._add_to(self._reordered, cells[by_stream][late])

    def _add_to(self, counts: Ints, cells: Ints) -> None:
        if len(cells):
            counts += np.bincount(cells, minlength=len(counts))
