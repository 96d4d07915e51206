"""What every AF_XDP socket has: memory for frames, four rings, and a place on a receive queue.

Frames lie in a piece of memory cut into equal chunks. The kernel writes received frames into
chunks that the fill ring offers and announces them in the receive ring; a chunk named in the
transmit ring is sent, and comes back in the completion ring. Which chunk is where, and who may
have it next, is for those to say who build upon this: `xsk_transmit` and `xsk_cycle`.

Addresses are byte offsets into the memory. A received frame lies `RX_HEADROOM` bytes and more
behind the start of its chunk, so headers can be put in front of it.

Here every socket works in copy mode (the kernel copies each frame once), with generic or native
XDP on the receive side (see `xdp`). Sending needs no program, neither here nor at the peer.

One thread at a time. The kernel fills the rings from other CPUs, so only strongly ordered
machines are served (see `ordering`). Knows nothing of protocols.
Source: Documentation/networking/af_xdp.rst.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import struct
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from agent.linux import xsk_abi as abi
from agent.linux.mapping import Mapping
from agent.linux.ordering import strongly_ordered
from agent.linux.xsk_rings import SharedRing

RX_HEADROOM: Final = abi.HEADROOM

_libc: Final = ctypes.CDLL(None, use_errno=True)
_DONTWAIT: Final = int(socket.MSG_DONTWAIT)

Addresses = npt.NDArray[np.uint64]
Lengths = npt.NDArray[np.uint32]


class XskRings:
    """A socket on receive queue `queue` of an interface, with `chunks` of memory and its rings.

    `chunk_bytes` and `entries`, the size of each ring, are powers of two; a chunk holds
    `RX_HEADROOM` + the frame. Frames arrive once an `xdp.Attachment` feeds the socket.
    OSError: EPERM without CAP_NET_RAW, EAFNOSUPPORT without kernel support, EBUSY where the queue
    has a socket, ENOBUFS past RLIMIT_MEMLOCK (without CAP_IPC_LOCK), ENETDOWN while the link is
    down. NotImplementedError where the machine's ordering does not allow it.
    """

    def __init__(
        self,
        ifindex: int,
        *,
        queue: int,
        chunks: int,
        chunk_bytes: int,
        entries: int,
    ) -> None:
        ordered, why = strongly_ordered()
        if not ordered:
            raise NotImplementedError(why)
        self.chunk_bytes = chunk_bytes
        self.chunks = chunks
        self._maps: list[Mapping] = []
        self._socket = socket.socket(abi.AF_XDP, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        try:
            self._make(entries)
            self._bind(ifindex, queue)
        except BaseException:
            self.close()
            raise

    def _make(self, entries: int) -> None:
        size = self.chunks * self.chunk_bytes
        memory = Mapping(size + -size % abi.PAGE_BYTES)  # the kernel takes whole pages
        self._maps.append(memory)
        # Then the kernel asks for no chunks, only that a frame is not longer than a page.
        unaligned = bool(self.chunk_bytes & (self.chunk_bytes - 1))
        self.memory: npt.NDArray[np.uint8] = memory.bytes(0, size).reshape(
            self.chunks, self.chunk_bytes
        )
        self.address = memory.address
        option = self._socket.setsockopt
        option(
            abi.SOL_XDP,
            abi.UMEM_REG,
            struct.pack(
                "=QQIIII",
                memory.address,
                memory.length_bytes,
                abi.PAGE_BYTES if unaligned else self.chunk_bytes,
                0,
                abi.UMEM_UNALIGNED if unaligned else 0,
                0,
            ),
        )
        for name in (abi.UMEM_FILL_RING, abi.UMEM_COMPLETION_RING, abi.RX_RING, abi.TX_RING):
            option(abi.SOL_XDP, name, entries)
        # So that one call sends a whole batch (Linux 6.17; 32 frames a call before).
        with contextlib.suppress(OSError):
            option(abi.SOL_XDP, abi.MAX_TX_SKB_BUDGET, entries)
        raw = self._socket.getsockopt(abi.SOL_XDP, abi.MMAP_OFFSETS, abi.OFFSETS.itemsize)
        if len(raw) != abi.OFFSETS.itemsize:
            raise NotImplementedError("this kernel's AF_XDP is older than Linux 5.4")
        offsets = np.frombuffer(raw, abi.OFFSETS)[0]
        fd = self._socket.fileno()
        addresses = np.dtype([("addr", "<u8")])
        self._fill = SharedRing(fd, abi.PGOFF_FILL, offsets["fill"], addresses, entries)
        self._done = SharedRing(fd, abi.PGOFF_COMPLETION, offsets["completion"], addresses, entries)
        self._rx = SharedRing(fd, abi.PGOFF_RX, offsets["rx"], abi.DESC, entries)
        self._tx = SharedRing(fd, abi.PGOFF_TX, offsets["tx"], abi.DESC, entries)
        self._maps += [ring.mapping for ring in (self._fill, self._done, self._rx, self._tx)]

    def _bind(self, ifindex: int, queue: int) -> None:
        address = struct.pack("=HHIII", abi.AF_XDP, abi.BIND_COPY, ifindex, queue, 0)
        if _libc.bind(self._socket.fileno(), address, len(address)) < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), "bind of an AF_XDP socket")

    def _push(self) -> int:
        """One system call that sends what is queued, or some of it; errno, 0 for none."""
        try:
            self._socket.send(b"", _DONTWAIT)
        except OSError as error:
            return error.errno or errno.EIO
        return 0

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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
