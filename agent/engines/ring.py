"""A mapped receive ring: frames are found in memory shared with the kernel, without a system call.

For the wire. A batch is a window over the ring: frames are rewritten where the kernel put them and
sent from there by sendmmsg, and their slots go back when the batch is done with. Must not know
what frames mean.

Slots of equal size (TPACKET_V2), not blocks (TPACKET_V3): a frame in a block is visible when the
block is full or its timer has run out, a millisecond at least. sendmmsg, not a transmit ring: that
takes a copy into its slots, and as long per frame as sendmmsg does from where they lie.
"""

from __future__ import annotations

import os
import socket
from functools import cache
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from agent.batch import HEADROOM, FrameBatch
from agent.engines.base import EngineCounters, Port, Probe, Side
from agent.engines.mmsg import MmsgEngine
from agent.linux import tpacket, tpacket_abi
from agent.linux.tpacket import RxRing

SLOTS: Final = 2048
"""Frames that may wait to be taken: 4 MB of memory for frames of an Ethernet's size."""
_NO_CALL: Final = ""


class RingEngine(MmsgEngine):
    """Receives through a ring of slots, sends by sendmmsg.

    The port's socket hears nothing in any other way as long as the engine is open.
    """

    name: ClassVar[str] = "ring"

    def __init__(self, port: Port, batch_size: int) -> None:
        super().__init__(port, batch_size)
        self._held = 0
        self._looks = 0
        try:
            self._ring = _open_ring(self._sock, port.frame_limit + 1)
        except BaseException:
            super().close()
            raise
        self.recv_one = self._recv_one
        self.recv_call = _NO_CALL

    @classmethod
    def probe(cls, side: Side) -> Probe:
        if side is not Side.WIRE:
            return Probe(available=False, why_not="a TAP descriptor is no socket")
        available, why_not = _probe(os.getpid())
        return Probe(available=available, why_not=None if available else why_not)

    def new_batch(self) -> FrameBatch:
        return Window(self._ring, self.batch_size, self.port.frame_limit + 1)

    def recv_batch(self, batch: FrameBatch) -> int:
        self.release()
        ring = self._ring
        n = ring.ready(min(batch.limit, self.batch_size))
        if not n:
            batch.received([])
            self._look_for_errors()
            return 0
        head = ring.head
        sizes: list[int] = ring.length[head : head + n].tolist()
        most = batch.frame_bytes
        if max(sizes) > most:
            sizes = [min(size, most) for size in sizes]
        if isinstance(batch, Window):
            batch.show(head, sizes)
            self._held = n
        else:
            batch.clear()
            begin = ring.frame_start
            batch.extend(
                ring.frames[row, begin : begin + size].data for row, size in enumerate(sizes, head)
            )
            ring.release(n)
        counters = self.counters
        counters.rx_frames += n
        counters.rx_bytes += sum(sizes)
        counters.fill[n] += 1
        return n

    def release(self) -> None:
        if self._held:
            self._ring.release(self._held)
            self._held = 0

    def _recv_one(self, size: int) -> bytes | None:
        self.release()
        ring = self._ring
        if not ring.ready(1):
            self._look_for_errors()
            return None
        begin = ring.frame_start
        end = begin + min(size, int(ring.length[ring.head]))
        frame = ring.frames[ring.head, begin:end].tobytes()
        ring.release(1)
        return frame

    def _look_for_errors(self) -> None:
        """Nobody else hears that the link went down, and until then the socket stays readable."""
        self._looks += 1
        number = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number))

    def read_counters(self) -> EngineCounters:
        counters = super().read_counters()
        counters.syscalls.pop(_NO_CALL, None)
        if self._looks:
            counters.syscalls["getsockopt"] += self._looks
            self._looks = 0
        return counters

    def close(self) -> None:
        self._ring.close()
        super().close()


class Window(FrameBatch):
    """Rows of a ring as a batch; which ones, `show` says.

    Only to be received into: `append` and `row_views`, `words` have no place here.
    """

    __slots__ = ("_addresses", "_lengths", "_place", "_ring", "_rows", "_whole")

    def __init__(self, ring: RxRing, capacity: int, frame_bytes: int) -> None:
        self._ring = ring
        # A row of the batch begins a headroom before the frame, somewhere inside the slot.
        self._place = ring.frame_start - HEADROOM
        self._rows = ring.frames[:, self._place :]
        self._addresses = ring.row_address + np.uint64(self._place)
        self._whole = memoryview(ring.frames.reshape(-1).data)
        self.capacity = self.limit = capacity
        self.frame_bytes = frame_bytes
        self.stride = ring.frames.shape[1]
        self.start: npt.NDArray[np.uint64] = np.full(capacity, HEADROOM, np.uint64)
        self.row_views = []
        self.moved = False
        self.show(0, [])

    def show(self, head: int, sizes: list[int]) -> None:
        """Be rows `head` and following of the ring, with frames of `sizes` bytes."""
        rows = slice(head, head + self.capacity)
        self.data = self._rows[rows]
        self.row_address = self._addresses[rows]
        self.memory = self._whole[head * self.stride + self._place :]
        self.received(sizes)
        # A copy: rows are given back while nobody has to think of who still changes lengths.
        self.length = np.array(sizes, np.uint32)


def _open_ring(sock: socket.socket, frame_bytes: int) -> RxRing:
    needed = tpacket_abi.frame_offset(tpacket_abi.V2_HEADER, HEADROOM) + frame_bytes
    slot_bytes = max(256, 1 << (needed - 1).bit_length())
    return RxRing(sock, slots=SLOTS, slot_bytes=slot_bytes, headroom_bytes=HEADROOM)


@cache
def _probe(process: int) -> tuple[bool, str]:
    """Whether the process with this id, which is the caller, may map rings: tried once."""
    return tpacket.probe()
