"""Receiving through a mapped AF_PACKET ring of equal slots (TPACKET_V2), and whether one can.

The kernel copies each frame into the next slot as it arrives, and a word of status says that it
is there: no system call and no copy in user space. Slots lie at equal distances, so a ring is a
two-dimensional array, and the status, start and length of a batch are columns of it: a batch is
walked without a loop. Frames can be rewritten in place (`headroom_bytes` of room in front of
each) and sent on from where they lie.

Against TPACKET_V3, a ring of blocks: a frame is visible at once, not when its block is full or
timed out, and a batch is an array; the price is a whole slot of memory for a small frame.

The kernel fills slots from other CPUs, so only strongly ordered machines are served (see
`ordering`). Knows nothing of protocols.
Sources: packet(7), Documentation/networking/packet_mmap.rst.
"""

from __future__ import annotations

import errno
import socket
import struct

import numpy as np
import numpy.typing as npt

from agent.linux import tpacket_abi as abi
from agent.linux.mapping import Mapping
from agent.linux.ordering import strongly_ordered

_BLOCK_BYTES = 1 << 16
_USER = np.uint32(abi.STATUS_USER)


def words_of(slots: npt.NDArray[np.uint8], offset: int) -> npt.NDArray[np.uint32]:
    """The 32-bit field at byte `offset` of every row of `slots`, as a view."""
    return slots[:, offset : offset + 4].view(np.uint32)[:, 0]


def halves_of(slots: npt.NDArray[np.uint8], offset: int) -> npt.NDArray[np.uint16]:
    """The 16-bit field at byte `offset` of every row of `slots`, as a view."""
    return slots[:, offset : offset + 2].view(np.uint16)[:, 0]


class RxRing:
    """A receive ring of `slots` slots of `slot_bytes` each on an AF_PACKET socket.

    `slots` and `slot_bytes` are powers of two; a slot holds `RxRing.frame_start` + the frame.
    From then on the socket's frames arrive here and nowhere else; they are dropped (and counted,
    PACKET_STATISTICS) while all slots are full. Make it before the socket is bound, or frames
    that are already queued are lost. The socket stays the caller's; closing the ring leaves it
    without one.

    - `frames`: (slots, slot_bytes) uint8; the batch of `n` that `ready` announced is rows
      `head` … `head + n - 1`;
    - `start`, `length`: views of the same rows: where each frame begins in its row, and its bytes;
    - `wire_length`: its length on the wire; larger than `length` if the slot was too small.

    OSError: EINVAL or ENOMEM as packet(7) has it; NotImplementedError on an unfit machine.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        slots: int = 1024,
        slot_bytes: int = 2048,
        headroom_bytes: int = 64,
    ) -> None:
        ordered, why = strongly_ordered()
        if not ordered:
            raise NotImplementedError(why)
        if slots & (slots - 1) or slot_bytes & (slot_bytes - 1) or not slots or slot_bytes < 256:
            raise ValueError("slots and slot_bytes must be powers of two, slot_bytes at least 256")
        block = max(_BLOCK_BYTES, slot_bytes)
        block = min(block, slots * slot_bytes)
        total = slots * slot_bytes
        self._socket = sock
        self.slots = slots
        self.frame_start = abi.frame_offset(abi.V2_HEADER, headroom_bytes)
        sock.setsockopt(abi.SOL_PACKET, abi.VERSION, abi.V2)
        sock.setsockopt(abi.SOL_PACKET, abi.RESERVE, headroom_bytes)
        request = struct.pack("=IIII", block, total // block, slot_bytes, slots)
        sock.setsockopt(abi.SOL_PACKET, abi.RX_RING, request)
        try:
            self._map = Mapping(total, fd=sock.fileno())
        except BaseException:
            self._drop_ring()
            raise
        memory = self._map.bytes()
        self.address = self._map.address
        self.frames: npt.NDArray[np.uint8] = memory.reshape(slots, slot_bytes)
        self._status = words_of(self.frames, abi.V2_STATUS)
        self.length = words_of(self.frames, abi.V2_SNAPLEN)
        self.wire_length = words_of(self.frames, abi.V2_LEN)
        self.start = halves_of(self.frames, abi.V2_MAC)
        self.row_address: npt.NDArray[np.uint64] = np.uint64(self.address) + np.arange(
            slots, dtype=np.uint64
        ) * np.uint64(slot_bytes)
        self._words = memory.view(np.uint32).data
        self._slot_words = slot_bytes // 4
        self.head = 0

    def ready(self, limit: int) -> int:
        """How many frames, at most `limit`, lie in rows `head` and following.

        Never past the last row: what wrapped around is announced after the next `release`.
        """
        head = self.head
        if not self._words[head * self._slot_words] & abi.STATUS_USER:
            return 0
        # All of them are looked at: on several CPUs a later slot may be filled before an earlier.
        filled = self._status[head : head + limit] & _USER
        first_empty = int(filled.argmin())
        return len(filled) if filled[first_empty] else first_empty

    def release(self, count: int) -> None:
        """Give the first `count` rows from `head` back to the kernel."""
        head = self.head
        self._status[head : head + count] = abi.STATUS_KERNEL
        self.head = (head + count) & (self.slots - 1)

    def close(self) -> None:
        """Unmap the ring and take it off the socket, if that is still open; twice is fine."""
        self._map.release()
        self._drop_ring()

    def _drop_ring(self) -> None:
        if self._socket.fileno() >= 0:
            try:
                self._socket.setsockopt(abi.SOL_PACKET, abi.RX_RING, bytes(16))
            except OSError as error:
                # A fork may still hold the mapping; the socket's end takes the ring with it.
                if error.errno != errno.EBUSY:
                    raise


def probe() -> tuple[bool, str]:
    """Whether this process may map AF_PACKET rings, and if not, why not.

    Makes a socket that is bound to nothing, with the smallest receive ring; leaves nothing.
    """
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
            RxRing(sock, slots=2, slot_bytes=2048).close()
    except NotImplementedError as error:
        return False, str(error)
    except PermissionError:
        return False, "AF_PACKET sockets need CAP_NET_RAW"
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            return False, "this kernel has no AF_PACKET sockets"
        return False, f"mapped packet ring: {error}"
    return True, ""
