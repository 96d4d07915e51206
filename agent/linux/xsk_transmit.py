"""An AF_XDP socket that sends from rows of its memory, all or a prefix, and keeps nothing queued.

`send` says how many frames went, and of the others none is left with the kernel, so that they can
go another way and none goes twice. The kernel copies a frame when it takes it (copy mode on a
driver that wants frames in one piece, as veth): when `send` returns, rows may be written again,
whoever still holds the copies.

One thread at a time. Knows nothing of protocols.
Source: Documentation/networking/af_xdp.rst, net/xdp/xsk.c.
"""

from __future__ import annotations

import errno
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.linux.xsk_base import Addresses, Lengths, XskRings

_NOWHERE: Final = 0xFFFFFFFFFFFFFFFF
"""An address outside of the memory: the kernel passes over the entry, and counts it."""


class XskTransmit(XskRings):
    """A socket on `queue` with `chunks` rows of `chunk_bytes` each, and `entries` in each ring.

    `chunk_bytes` need not be a power of two where nothing is received into them: rows that begin
    a power of two apart share few places in a cache. `frames` is (chunks, chunk_bytes) uint8,
    `row_address` where each row is in memory. Errors as `XskRings` has them.
    """

    def __init__(
        self, ifindex: int, *, chunks: int, chunk_bytes: int, entries: int, queue: int = 0
    ) -> None:
        if entries < 4 or entries & (entries - 1):
            raise ValueError("a ring's size must be a power of two, at least 4")
        super().__init__(
            ifindex, queue=queue, chunks=chunks, chunk_bytes=chunk_bytes, entries=entries
        )
        self.entries = entries
        self.frames = self.memory
        self.row_address: npt.NDArray[np.uint64] = np.uint64(self.address) + np.arange(
            chunks, dtype=np.uint64
        ) * np.uint64(chunk_bytes)
        self._send_at: npt.NDArray[np.uint64] = self._tx.elements["addr"]
        self._send_bytes: npt.NDArray[np.uint32] = self._tx.elements["len"]
        self._mask = entries - 1

    def send(self, addresses: Addresses, lengths: Lengths) -> tuple[int, int]:
        """Send frames from these places, in order: how many went, and by how many calls.

        The first so many went; of the others the first was refused, or there was no room for all.
        At most `entries` of them, each within its row. The caller knows which lengths the link
        takes: the kernel drops others without a word.
        """
        transmit, done = self._tx, self._done
        calls, void = 0, transmit.used
        if void:
            calls, void = self._clear(void)
            if void:
                return 0, calls
        # Whatever has come back: nobody asks which it was.
        done.consumer[0] = back = done.producer[0]
        count = len(addresses)
        if count > self.entries - ((transmit.producer[0] - back) & 0xFFFFFFFF):
            # Others are still on their way, and what comes back must find room.
            return 0, calls
        start = transmit.producer[0] & self._mask
        end = start + count
        if end <= self.entries:
            self._send_at[start:end] = addresses
            self._send_bytes[start:end] = lengths
        else:
            first, end = self.entries - start, end - self.entries
            self._send_at[start:], self._send_at[:end] = addresses[:first], addresses[first:]
            self._send_bytes[start:], self._send_bytes[:end] = lengths[:first], lengths[first:]
        transmit.publish(count)
        before, left = count, count
        number = errno.EAGAIN
        while number == errno.EAGAIN:
            calls += 1
            number = self._push()
            before, left = left, transmit.used
            if not left:
                # The last one may still have been dropped on its way.
                return count - (number == errno.EBUSY), calls
            if left == before:
                break
        self._take_back(left)
        # EBUSY: the last one that the kernel took did not go. If it was the only one of its call,
        # the kernel has not told yet that it took it.
        dropped = number == errno.EBUSY and left < before
        return count - left - dropped, calls

    def _clear(self, void: int) -> tuple[int, int]:
        """Have the kernel pass over so many entries that were taken back: calls made, entries left.

        It passes over one in a call, and tells of it in the next.
        """
        calls = idle = 0
        while void and idle < 2:
            self._push()
            calls += 1
            before, void = void, self._tx.used
            idle = 0 if void < before else idle + 1
        return calls, void

    def _take_back(self, count: int) -> None:
        """Void the last `count` entries that were queued."""
        for part in self._tx.pending(count):
            self._tx.elements["addr"][part] = _NOWHERE
