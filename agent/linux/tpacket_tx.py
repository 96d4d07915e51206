"""Sending through a mapped AF_PACKET ring (PACKET_TX_RING, TPACKET_V2).

Frames are written into slots of shared memory, and one send(2) sends all that are ready: one
system call a batch, and no table of addresses for the kernel to fetch and check.

Copying. Left alone, the kernel would make each frame out of pages of the ring instead of copying
it, and a veth, which cannot keep such pages, would copy it after all, into newly allocated ones.
A virtio_net_hdr in front of the frame (PACKET_VNET_HDR) that calls all of it header makes the
kernel copy it once, into the socket buffer: measured a tenth to a fifth cheaper, and the slot is
free again at once. It also makes the kernel skip its check against the MTU, so that is made here.

The kernel may hand slots back from other CPUs: strongly ordered machines only (see `ordering`).
Knows nothing of protocols. Sources: packet(7), Documentation/networking/packet_mmap.rst,
linux/virtio_net.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.linux import tpacket_abi as abi
from agent.linux.mapping import Mapping
from agent.linux.tpacket_rx import halves_of, require_ordering, words_of

_BLOCK_BYTES = 1 << 16
_DONTWAIT: Final = socket.MSG_DONTWAIT
# Nothing is wrong with the frame: room is missing for the moment.
_LATER: Final = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM})
_NOT_TAKEN: Final = abi.STATUS_SEND_REQUEST | abi.STATUS_WRONG_FORMAT


class TxRing:
    """A transmit ring of `slots` slots of `slot_bytes` on a bound AF_PACKET socket of its own.

    The socket must have no receive ring and be bound to its interface, best with protocol 0, so
    that it receives nothing. `frame_limit` is the largest frame that may be sent, in bytes: the
    interface's MTU + 14. `headroom_bytes` lie free in front of each frame.

    Write frames into rows `tail` … of `frames`, from column `frame_start` on, for as many rows
    as `room` says; `commit` their lengths; `kick` sends them in that order.
    OSError as packet(7) has it; NotImplementedError on an unfit machine.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        frame_limit: int,
        slots: int = 256,
        slot_bytes: int = 2048,
        headroom_bytes: int = 64,
    ) -> None:
        require_ordering()
        if slots & (slots - 1) or slot_bytes & (slot_bytes - 1) or not slots or slot_bytes < 256:
            raise ValueError("slots and slot_bytes must be powers of two, slot_bytes at least 256")
        block = min(max(_BLOCK_BYTES, slot_bytes), slots * slot_bytes)
        total = slots * slot_bytes
        self._socket = sock
        self.slots = slots
        vnet_start = abi.TX_FIRST + headroom_bytes
        self.frame_start = vnet_start + abi.VNET_BYTES
        if self.frame_start + frame_limit > slot_bytes:
            raise ValueError(f"a frame of {frame_limit} bytes does not fit into {slot_bytes}")
        self.frame_limit = frame_limit
        option = sock.setsockopt
        option(abi.SOL_PACKET, abi.VERSION, abi.V2)
        option(abi.SOL_PACKET, abi.VNET_HDR, 1)
        option(abi.SOL_PACKET, abi.TX_HAS_OFF, 1)
        request = struct.pack("=IIII", block, total // block, slot_bytes, slots)
        option(abi.SOL_PACKET, abi.TX_RING, request)
        try:
            self._map = Mapping(total, fd=sock.fileno())
        except BaseException:
            option(abi.SOL_PACKET, abi.TX_RING, bytes(16))
            raise
        memory = self._map.bytes()
        self.address = self._map.address
        self.frames: npt.NDArray[np.uint8] = memory.reshape(slots, slot_bytes)
        self._status = words_of(self.frames, abi.V2_STATUS)
        self._words = memory.view(np.uint32).data
        self._slot_words = slot_bytes // 4
        self._length = words_of(self.frames, abi.V2_LEN)
        self._copied = halves_of(self.frames, vnet_start + 2)
        halves_of(self.frames, abi.V2_MAC)[:] = vnet_start
        self.tail = 0
        self._head = 0

    @property
    def unsent(self) -> int:
        """Frames committed that the kernel has not taken yet."""
        return (self.tail - self._head) & (self.slots - 1)

    def room(self, limit: int) -> int:
        """How many rows from `tail` on may be written, at most `limit`, and not past the last row.

        One slot of the ring always stays empty, so that full and empty differ.
        """
        free = min(limit, self.slots - 1 - self.unsent, self.slots - self.tail)
        used = self._status[self.tail : self.tail + free]
        if not used.any():
            return free
        return int((used != abi.STATUS_AVAILABLE).argmax())

    def commit(self, length: npt.NDArray[np.integer] | int, count: int) -> None:
        """Rows `tail` … `tail + count - 1` hold frames of these lengths (bytes), to be sent.

        ValueError, and nothing committed, for a length under 14 or past `frame_limit`. `count`
        must be within `room`.
        """
        if isinstance(length, int):
            shortest = longest = length
        elif count:
            length = length[:count]
            shortest, longest = np.minimum.reduce(length), np.maximum.reduce(length)
        else:
            return
        if shortest < 14 or longest > self.frame_limit:
            raise ValueError(f"a frame has 14 to {self.frame_limit} bytes")
        rows = slice(self.tail, self.tail + count)
        self._length[rows] = length + abi.VNET_BYTES
        self._copied[rows] = length
        self._status[rows] = abi.STATUS_SEND_REQUEST
        self.tail = (self.tail + count) & (self.slots - 1)

    def kick(self) -> int:
        """One send(2) for all that is committed; how many frames the kernel took.

        Fewer than were committed means that there was no room: the rest stays committed, another
        `kick` is due. OSError: ENETDOWN, ENXIO while the link is down; everything not taken stays
        committed, and `withdraw` takes it back.
        """
        failure: OSError | None = None
        try:
            self._socket.send(b"", _DONTWAIT)
        except OSError as error:
            failure = error
        taken = self._advance()
        if failure is not None and failure.errno not in _LATER:
            raise failure
        return taken

    def _advance(self) -> int:
        """Move past what the kernel took: it works in order and stops at the first it leaves."""
        count = self.unsent
        last = (self.tail - 1) & (self.slots - 1)
        if not count or not self._words[last * self._slot_words] & _NOT_TAKEN:
            self._head = self.tail
            return count
        rows = (self._head + np.arange(count)) & (self.slots - 1)
        taken = int((self._status[rows] & _NOT_TAKEN != 0).argmax())
        self._head = (self._head + taken) & (self.slots - 1)
        return taken

    def withdraw(self) -> int:
        """Take back all that is committed and not taken; how many frames that were."""
        count = self.unsent
        rows = (self._head + np.arange(count)) & (self.slots - 1)
        self._status[rows] = abi.STATUS_AVAILABLE
        self.tail = self._head
        return count

    def close(self) -> None:
        """Unmap the ring and take it off the socket, if that is still open; twice is fine."""
        self._map.release()
        if self._socket.fileno() >= 0:
            self._socket.setsockopt(abi.SOL_PACKET, abi.TX_RING, bytes(16))
