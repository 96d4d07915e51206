"""Frames found in memory shared with the kernel, and sent from where they lie.

What the engines of a mapped ring and of AF_XDP have in common: a batch is a window over
consecutive rows of shared memory, and the rows go back when it is done with. Must not know what
frames mean, nor how the kernel fills the rows.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from agent.batch import HEADROOM, FrameBatch
from agent.engines.base import EngineCounters, Port
from agent.engines.mmsg import MmsgEngine

_NO_CALL: Final = ""


class Rows(Protocol):
    """Memory that the kernel receives into, row after row and again from the first.

    Frames that wait are rows `head` and following of `frames`, (rows, row bytes) uint8, from column
    `frame_start` on, with their bytes in `length`; `row_address` is where each row is in memory.
    """

    frames: npt.NDArray[np.uint8]
    length: npt.NDArray[np.uint32]
    row_address: npt.NDArray[np.uint64]
    frame_start: int

    @property
    def head(self) -> int: ...
    def ready(self, limit: int) -> int:
        """How many frames, at most `limit`, lie in rows `head` and following, before the end."""

    def release(self, count: int) -> None:
        """Give the first `count` rows from `head` back."""


class WindowEngine(MmsgEngine):
    """Receives from rows of shared memory, without a system call; sends by sendmmsg.

    The port's socket hears nothing in any other way as long as the engine is open.
    """

    def __init__(self, port: Port, batch_size: int) -> None:
        super().__init__(port, batch_size)
        self._rows: Rows
        self._held = 0
        self._looks = 0
        self.recv_one = self._recv_one
        self.recv_call = _NO_CALL

    @abstractmethod
    def _error(self) -> int:
        """The errno that the socket has to tell, 0 for none; one system call, getsockopt.

        Nobody else hears that the link went down, and until then the socket stays readable.
        """

    def new_batch(self) -> FrameBatch:
        return Window(self._rows, self.batch_size, self.port.frame_limit + 1)

    def recv_batch(self, batch: FrameBatch) -> int:
        self.release()
        rows = self._rows
        n = rows.ready(min(batch.limit, self.batch_size))
        if not n:
            batch.received(0)
            self._look_for_errors()
            return 0
        head = rows.head
        # A copy: a batch's lengths change, and rows are given back at some other time.
        lengths = rows.length[head : head + n].copy()
        np.minimum(lengths, batch.frame_bytes, out=lengths)
        if isinstance(batch, Window):
            batch.show(head, lengths)
            self._held = n
        else:
            batch.clear()
            begin = rows.frame_start
            batch.extend(
                rows.frames[row, begin : begin + size].data
                for row, size in enumerate(lengths.tolist(), head)
            )
            rows.release(n)
        counters = self.counters
        counters.rx_frames += n
        counters.rx_bytes += batch.total_bytes
        counters.fill[n] += 1
        return n

    def release(self) -> None:
        if self._held:
            self._rows.release(self._held)
            self._held = 0

    def _recv_one(self, size: int) -> bytes | None:
        self.release()
        rows = self._rows
        if not rows.ready(1):
            self._look_for_errors()
            return None
        head, begin = rows.head, rows.frame_start
        frame = rows.frames[head, begin : begin + min(size, int(rows.length[head]))].tobytes()
        rows.release(1)
        return frame

    def _look_for_errors(self) -> None:
        self._looks += 1
        number = self._error()
        if number:
            raise OSError(number, os.strerror(number))

    def read_counters(self) -> EngineCounters:
        counters = super().read_counters()
        counters.syscalls.pop(_NO_CALL, None)
        if self._looks:
            counters.syscalls["getsockopt"] += self._looks
            self._looks = 0
        return counters


class Window(FrameBatch):
    """Rows as a batch; which ones, `show` says.

    Only to be received into: `append` and `row_views` have no place here.
    """

    __slots__ = ("_addresses", "_head", "_place", "_views", "_whole")

    def __init__(self, rows: Rows, capacity: int, frame_bytes: int) -> None:
        # A row of the batch begins a headroom before the frame, somewhere inside the shared one.
        self._place = rows.frame_start - HEADROOM
        self._views = rows.frames[:, self._place :]
        self._addresses = rows.row_address + np.uint64(self._place)
        self._whole = memoryview(rows.frames.reshape(-1).data)
        self.capacity = self.limit = capacity
        self.frame_bytes = frame_bytes
        self.stride = rows.frames.shape[1]
        self.start: npt.NDArray[np.uint64] = np.full(capacity, HEADROOM, np.uint64)
        self.views = []
        self.moved = False
        self.show(0, np.zeros(0, np.uint32))

    def show(self, head: int, lengths: npt.NDArray[np.uint32]) -> None:
        """Be rows `head` and following, with frames of `lengths` bytes."""
        self._head = head
        self.data = self._views[head : head + self.capacity]
        self.length = lengths
        self.received(len(lengths))

    # Not asked for where rows are sent from their place among all rows.

    @property
    def row_address(self) -> npt.NDArray[np.uint64]:  # type: ignore[override]
        return self._addresses[self._head : self._head + self.capacity]

    @property
    def memory(self) -> memoryview:  # type: ignore[override]
        return self._whole[self._head * self.stride + self._place :]
