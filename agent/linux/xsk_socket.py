"""The AF_XDP socket itself: frames in shared memory, their places passed in rings.

An `XskSocket` owns a piece of memory cut into equal chunks. The kernel writes received frames
into chunks that the fill ring offers and announces them in the receive ring; a chunk named in the
transmit ring is sent, and comes back in the completion ring. So a frame that is received,
rewritten and sent on is never copied in user space, and receiving takes no system call at all.

Addresses are byte offsets into the memory. A received frame lies `RX_HEADROOM` bytes and more
behind the start of its chunk, so headers can be put in front of it. Every chunk is at any time in
exactly one place: the pool of free ones, the kernel's hands, or the caller's.

Here every socket works in copy mode (the kernel copies each frame once), with generic or native
XDP on the receive side (see `xdp`). Sending needs no program, neither here nor at the peer.

One thread at a time. The kernel fills the rings from other CPUs, so only strongly ordered
machines are served (see `ordering`). Knows nothing of protocols.
Source: Documentation/networking/af_xdp.rst.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.linux import xsk_abi as abi
from agent.linux.mapping import Mapping
from agent.linux.ordering import strongly_ordered
from agent.linux.xsk_rings import SharedRing

RX_HEADROOM: Final = abi.HEADROOM

_libc: Final = ctypes.CDLL(None, use_errno=True)
_DONTWAIT: Final = socket.MSG_DONTWAIT
# The kernel did not take everything this time: its budget per call, or a busy device.
_LATER: Final = frozenset({errno.EAGAIN, errno.EBUSY, errno.ENOBUFS})

Addresses = npt.NDArray[np.uint64]
Lengths = npt.NDArray[np.uint32]


class XskSocket:
    """A socket on receive queue `queue` of an interface, with its memory and four rings.

    `chunks` is how many frames the memory holds; half of them at most wait in the fill ring to be
    received into. `chunks` and `chunk_bytes` are powers of two; a chunk holds `RX_HEADROOM` +
    `headroom` + the frame. Frames arrive once an `xdp.Attachment` feeds the socket.
    OSError: EPERM without CAP_NET_RAW, EAFNOSUPPORT without kernel support, EBUSY where the queue
    has a socket, ENOBUFS past RLIMIT_MEMLOCK (without CAP_IPC_LOCK), ENETDOWN while the link is
    down. NotImplementedError where the machine's ordering does not allow it.
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
        ordered, why = strongly_ordered()
        if not ordered:
            raise NotImplementedError(why)
        if chunks < 4 or chunks & (chunks - 1) or chunk_bytes & (chunk_bytes - 1):
            raise ValueError("chunks and chunk_bytes must be powers of two, at least 4 chunks")
        self.chunk_bytes = chunk_bytes
        self.chunks = chunks
        self._chunk_mask = np.uint64(0xFFFFFFFFFFFFFFFF - (chunk_bytes - 1))
        self._maps: list[Mapping] = []
        self._socket = socket.socket(abi.AF_XDP, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        try:
            self._make(chunks, chunk_bytes, headroom)
            self._bind(ifindex, queue)
        except BaseException:
            self.close()
            raise
        # Free chunks, as a stack: the last given back is the first used, still in the cache.
        self._pool = np.arange(chunks, dtype=np.uint64) * np.uint64(chunk_bytes)
        self._free = chunks
        self.refill()

    def _make(self, chunks: int, chunk_bytes: int, headroom: int) -> None:
        memory = Mapping(chunks * chunk_bytes)
        self._maps.append(memory)
        self.memory: npt.NDArray[np.uint8] = memory.bytes().reshape(chunks, chunk_bytes)
        self.flat: npt.NDArray[np.uint8] = memory.bytes()
        self.address = memory.address
        option = self._socket.setsockopt
        option(
            abi.SOL_XDP,
            abi.UMEM_REG,
            struct.pack(
                "=QQIIII", memory.address, memory.length_bytes, chunk_bytes, headroom, 0, 0
            ),
        )
        half = chunks // 2
        for name in (abi.UMEM_FILL_RING, abi.UMEM_COMPLETION_RING, abi.RX_RING, abi.TX_RING):
            option(abi.SOL_XDP, name, half)
        try:
            # So that one call sends a whole batch (Linux 6.18; 32 frames a call before).
            option(abi.SOL_XDP, abi.MAX_TX_SKB_BUDGET, half)
            self.tx_budget = half
        except OSError:
            self.tx_budget = 32
        raw = self._socket.getsockopt(abi.SOL_XDP, abi.MMAP_OFFSETS, abi.OFFSETS.itemsize)
        if len(raw) != abi.OFFSETS.itemsize:
            raise NotImplementedError("this kernel's AF_XDP is older than Linux 5.4")
        offsets = np.frombuffer(raw, abi.OFFSETS)[0]
        fd = self._socket.fileno()
        addresses = np.dtype([("addr", "<u8")])
        self._fill = SharedRing(fd, abi.PGOFF_FILL, offsets["fill"], addresses, half)
        self._done = SharedRing(fd, abi.PGOFF_COMPLETION, offsets["completion"], addresses, half)
        self._rx = SharedRing(fd, abi.PGOFF_RX, offsets["rx"], abi.DESC, half)
        self._tx = SharedRing(fd, abi.PGOFF_TX, offsets["tx"], abi.DESC, half)
        self._maps += [ring.mapping for ring in (self._fill, self._done, self._rx, self._tx)]
        self._in_flight = 0

    def _bind(self, ifindex: int, queue: int) -> None:
        address = struct.pack("=HHIII", abi.AF_XDP, abi.BIND_COPY, ifindex, queue, 0)
        if _libc.bind(self._socket.fileno(), address, len(address)) < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), "bind of an AF_XDP socket")

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
        try:
            self._socket.send(b"", _DONTWAIT)
        except OSError as error:
            if error.errno not in _LATER:
                raise
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

    # -- the rest -----------------------------------------------------------------------------

    def statistics(self) -> dict[str, int]:
        """The kernel's counters (struct xdp_statistics), all since the socket was made."""
        size = 8 * len(abi.STATISTICS_FIELDS)
        raw = self._socket.getsockopt(abi.SOL_XDP, abi.STATISTICS, size)
        values = struct.unpack(f"={len(raw) // 8}Q", raw)
        return dict(zip(abi.STATISTICS_FIELDS, values, strict=False))

    def fileno(self) -> int:
        """Polls readable when frames have arrived. Polling also sends what is queued.

        Each poll without anything to send counts as a `tx_ring_empty_descs`.
        """
        return self._socket.fileno()

    def close(self) -> None:
        """Give the memory and the queue back; twice is fine.

        The kernel frees the queue a moment later: until then another socket on it gets EBUSY.
        """
        self._socket.close()
        for mapping in self._maps:
            mapping.release()

    def __enter__(self) -> XskSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
