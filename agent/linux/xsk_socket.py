"""An AF_XDP socket with a pool of chunks: whoever has one knows its address, and gives it back.

A frame that is received, rewritten and sent on is never copied in user space, and receiving takes
no system call at all. Every chunk is at any time in exactly one place: the pool of free ones, the
kernel's hands, or the caller's. What all such sockets have is in `xsk_base`.

One thread at a time. Knows nothing of protocols.
Source: Documentation/networking/af_xdp.rst.
"""

from __future__ import annotations

import errno
import os
from typing import Final

import numpy as np

from agent.linux.xsk_base import RX_HEADROOM, Addresses, Lengths, XskRings

__all__ = ["RX_HEADROOM", "XskSocket"]

# The kernel did not take everything this time: its budget per call, or a busy device.
_LATER: Final = frozenset({errno.EAGAIN, errno.EBUSY, errno.ENOBUFS})


class XskSocket(XskRings):
    """A socket on receive queue `queue` of an interface, with its memory and four rings.

    `chunks` is how many frames the memory holds; half of them at most wait in the fill ring to be
    received into. `chunks` and `chunk_bytes` are powers of two; the rest is as `XskRings` has it.
    """

    def __init__(
        self,
        ifindex: int,
        *,
        queue: int = 0,
        chunks: int = 2048,
        chunk_bytes: int = 2048,
        headroom: int = 0,
    ) -> None:
        if chunks < 4 or chunks & (chunks - 1) or chunk_bytes & (chunk_bytes - 1):
            raise ValueError("chunks and chunk_bytes must be powers of two, at least 4 chunks")
        self._chunk_mask = np.uint64(0xFFFFFFFFFFFFFFFF - (chunk_bytes - 1))
        self._in_flight = 0
        super().__init__(
            ifindex,
            queue=queue,
            chunks=chunks,
            chunk_bytes=chunk_bytes,
            entries=chunks // 2,
            headroom=headroom,
        )
        # Free chunks, as a stack: the last given back is the first used, still in the cache.
        self._pool = np.arange(chunks, dtype=np.uint64) * np.uint64(chunk_bytes)
        self._free = chunks
        self.refill()

    # -- receiving ----------------------------------------------------------------------------

    @property
    def ready(self) -> int:
        """Frames that `receive` would return now."""
        return self._rx.used

    def receive(self, limit: int) -> tuple[Addresses, Lengths]:
        """Up to `limit` received frames, in order of arrival: their addresses and lengths.

        Their chunks are the caller's from now on: send them, or give them back by `release`.
        """
        count = min(self._rx.used, limit)
        head, rest = self._rx.pending(count)
        addresses = self._rx.elements["addr"][head]
        lengths = self._rx.elements["len"][head]
        if rest.stop:
            addresses = np.concatenate((addresses, self._rx.elements["addr"][rest]))
            lengths = np.concatenate((lengths, self._rx.elements["len"][rest]))
        else:
            addresses, lengths = addresses.copy(), lengths.copy()
        self._rx.consume(count)
        return addresses, lengths

    def refill(self) -> int:
        """Offer free chunks to be received into, as many as the ring takes; how many it took."""
        count = min(self._free, self._fill.entries - self._fill.used)
        if count:
            chunks = self.take(count)
            head, rest = self._fill.claim(count)
            first = head.stop - head.start
            self._fill.elements["addr"][head] = chunks[:first]
            if rest.stop:
                self._fill.elements["addr"][rest] = chunks[first:]
            self._fill.publish(count)
        return count

    # -- chunks -------------------------------------------------------------------------------

    @property
    def free(self) -> int:
        """Chunks in the pool."""
        return self._free

    def take(self, count: int) -> Addresses:
        """`count` free chunks for the caller; ValueError past `free`."""
        if count > self._free:
            raise ValueError(f"{count} chunks wanted, {self._free} are free")
        self._free -= count
        return self._pool[self._free : self._free + count].copy()

    def release(self, addresses: Addresses) -> None:
        """Give chunks of the caller's back to the pool; any address inside a chunk names it."""
        count = len(addresses)
        np.bitwise_and(addresses, self._chunk_mask, out=self._pool[self._free : self._free + count])
        self._free += count

    # -- sending ------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Chunks handed to `transmit` and not yet come back."""
        return self._in_flight

    def transmit(self, addresses: Addresses, lengths: Lengths) -> int:
        """Queue frames to be sent, in order; how many the ring took (the rest stays the caller's).

        Each length must be at least 14 bytes and at most the MTU + 14: the kernel drops others
        without a word, counted in `statistics()["tx_invalid_descs"]` only where it is the address
        that is wrong. `kick` sends them.
        """
        room = self._tx.entries - max(self._tx.used, self._in_flight)
        count = min(len(addresses), room)
        if count:
            head, rest = self._tx.claim(count)
            first = head.stop - head.start
            elements = self._tx.elements
            elements["addr"][head] = addresses[:first]
            elements["len"][head] = lengths[:first]
            if rest.stop:
                elements["addr"][rest] = addresses[first:count]
                elements["len"][rest] = lengths[first:count]
            self._tx.publish(count)
            self._in_flight += count
        return count

    @property
    def unsent(self) -> int:
        """Frames queued that the kernel has not taken yet; another `kick` is due."""
        return self._tx.used

    def kick(self) -> int:
        """One system call that sends what is queued, up to `tx_budget`; what is still unsent.

        OSError: ENETDOWN or ENXIO while the link is down; the frames stay queued.
        """
        number = self._push()
        if number and number not in _LATER:
            raise OSError(number, os.strerror(number))
        return self._tx.used

    def reclaim(self) -> int:
        """Take chunks that were sent back into the pool; how many."""
        count = self._done.used
        if count:
            head, rest = self._done.pending(count)
            self.release(self._done.elements["addr"][head])
            if rest.stop:
                self.release(self._done.elements["addr"][rest])
            self._done.consume(count)
            self._in_flight -= count
        return count
