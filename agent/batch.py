"""A batch of frames as one array: received, rewritten and sent from the same memory.

Must not know where frames come from, where they go, or what they mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

HEADROOM: Final = 64
"""Free bytes in front of every received frame, so that headers can be pushed without a copy."""

_LINE: Final = 64


class FrameBatch:
    """Up to `capacity` frames of up to `frame_bytes` each, one per row of `data`.

    Whoever receives fills `limit` rows at most, which whoever asks may set below `capacity`.
    `data` is (capacity, stride) uint8, rows aligned to 64 bytes; `words` is the same memory as
    (capacity, stride / 8) uint64 in native byte order. Frame i is the `length[i]` bytes from
    `start[i]` on in row i, for i < `count`; what else a row holds is left over from before.
    `sizes` is `length` of those frames as they came, as a list; `moved` tells that `move` has
    changed `start` and `length` since.
    `memory` is the whole array as one flat memoryview, `row_views[i]` what a receiver may fill,
    `row_address` the memory address of each row.
    """

    __slots__ = (
        "capacity",
        "count",
        "data",
        "frame_bytes",
        "length",
        "limit",
        "memory",
        "moved",
        "row_address",
        "row_views",
        "sizes",
        "start",
        "stride",
        "words",
    )

    def __init__(self, capacity: int, frame_bytes: int) -> None:
        if capacity < 1 or frame_bytes < 1:
            raise ValueError("a batch needs at least one row of at least one byte")
        self.capacity = self.limit = capacity
        self.frame_bytes = frame_bytes
        self.stride = (HEADROOM + frame_bytes + _LINE - 1) // _LINE * _LINE
        block = np.zeros(capacity * self.stride + _LINE, np.uint8)
        skip = -block.ctypes.data % _LINE
        flat = block[skip : skip + capacity * self.stride]
        self.data: npt.NDArray[np.uint8] = flat.reshape(capacity, self.stride)
        self.words: npt.NDArray[np.uint64] = flat.view(np.uint64).reshape(capacity, -1)
        self.memory: memoryview = flat.data
        rows = np.arange(capacity, dtype=np.uint64)
        self.row_address: npt.NDArray[np.uint64] = np.uint64(flat.ctypes.data) + rows * np.uint64(
            self.stride
        )
        self.start: npt.NDArray[np.uint64] = np.full(capacity, HEADROOM, np.uint64)
        self.length: npt.NDArray[np.uint32] = np.zeros(capacity, np.uint32)
        self.sizes: list[int] = []
        self.moved = False
        self.count = 0
        self.row_views: list[memoryview] = [
            self.memory[row * self.stride + HEADROOM : row * self.stride + HEADROOM + frame_bytes]
            for row in range(capacity)
        ]

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[memoryview]:
        return (self.view(row) for row in range(self.count))

    def view(self, row: int) -> memoryview:
        """Frame `row` where it stands; valid until the row is filled again."""
        begin = row * self.stride + int(self.start[row])
        return self.memory[begin : begin + int(self.length[row])]

    def frame(self, row: int) -> bytes:
        """A copy of frame `row`."""
        return bytes(self.view(row))

    def clear(self) -> None:
        """Forget all frames."""
        self.received([])

    def received(self, sizes: list[int]) -> None:
        """Rows 0 … now hold frames of `sizes` bytes, right behind the headroom.

        `length` is the caller's to set: whoever receives may have it from the kernel already.
        """
        self.sizes = sizes
        self.count = len(sizes)
        if self.moved:
            self.start.fill(HEADROOM)
            self.moved = False

    def move(self, rows: slice | npt.NDArray[np.intp], offset: int) -> None:
        """Let frames begin `offset` bytes later (or earlier), their ends staying where they are."""
        if offset > 0:
            self.start[rows] += np.uint64(offset)
            self.length[rows] -= offset
            self.moved = True
        elif offset < 0:
            self.start[rows] -= np.uint64(-offset)
            self.length[rows] += -offset
            self.moved = True

    def append(self, frame: bytes | bytearray | memoryview) -> int:
        """Copy one more frame in; its row.

        :raises IndexError: the batch is full. :raises ValueError: the frame does not fit a row.
        """
        row = self.count
        if row >= self.capacity:
            raise IndexError(f"the batch holds {self.capacity} frames already")
        size = len(frame)
        if size > self.frame_bytes:
            raise ValueError(f"a frame of {size} bytes; a row takes {self.frame_bytes}")
        self.row_views[row][:size] = frame
        self.start[row] = HEADROOM
        self.length[row] = size
        self.sizes.append(size)
        self.count = row + 1
        return row

    def extend(self, frames: Iterable[bytes | bytearray | memoryview]) -> None:
        """Append each of `frames`."""
        for frame in frames:
            self.append(frame)
