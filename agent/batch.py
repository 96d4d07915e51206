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
    `data` is (capacity, stride) uint8, rows aligned to 64 bytes. Frame i is the `length[i]` bytes
    from `start[i]` on in row i, for i < `count`; what else a row holds is left over from before.
    `alike` is the length of all of them as they came, 0 where lengths differ or there are none;
    `moved` tells that `move` has changed `start` and `length` since.
    `memory` is the whole array as one flat memoryview, `row_address` each row's memory address.

    With `rows` given, (at least capacity, at least a headroom and `frame_bytes`) uint8, they are
    its memory, whose rows may lie apart.
    """

    __slots__ = (
        "alike",
        "capacity",
        "count",
        "data",
        "frame_bytes",
        "length",
        "limit",
        "memory",
        "moved",
        "row_address",
        "start",
        "stride",
        "views",
    )

    def __init__(
        self, capacity: int, frame_bytes: int, *, rows: npt.NDArray[np.uint8] | None = None
    ) -> None:
        if capacity < 1 or frame_bytes < 1:
            raise ValueError("a batch needs at least one row of at least one byte")
        self.capacity = self.limit = capacity
        self.frame_bytes = frame_bytes
        if rows is None:
            rows = _aligned(capacity, HEADROOM + frame_bytes)
        self.data: npt.NDArray[np.uint8] = rows[:capacity]
        self.stride = rows.strides[0]
        address = rows.ctypes.data
        # Rows lie apart at most by what somebody else's rows have in front and behind.
        flat = np.lib.stride_tricks.as_strided(
            rows, ((capacity - 1) * self.stride + rows.shape[1],), (1,)
        )
        self.memory: memoryview = flat.data
        self.row_address: npt.NDArray[np.uint64] = np.uint64(address) + np.arange(
            capacity, dtype=np.uint64
        ) * np.uint64(self.stride)
        self.start: npt.NDArray[np.uint64] = np.full(capacity, HEADROOM, np.uint64)
        self.length: npt.NDArray[np.uint32] = np.zeros(capacity, np.uint32)
        self.alike = 0
        self.moved = False
        self.count = 0
        self.views: list[memoryview] | None = None

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[memoryview]:
        return (self.view(row) for row in range(self.count))

    @property
    def row_views(self) -> list[memoryview]:
        """What a receiver may fill of each row. Made when first asked for: half a KB a row."""
        if self.views is None:
            first, step = HEADROOM, self.stride
            self.views = [
                self.memory[row * step + first : row * step + first + self.frame_bytes]
                for row in range(self.capacity)
            ]
        return self.views

    def view(self, row: int) -> memoryview:
        """Frame `row` where it stands; valid until the row is filled again."""
        begin = row * self.stride + int(self.start[row])
        return self.memory[begin : begin + int(self.length[row])]

    def frame(self, row: int) -> bytes:
        """A copy of frame `row`."""
        return bytes(self.view(row))

    def clear(self) -> None:
        """Forget all frames."""
        self.received(0)

    def received(self, count: int) -> None:
        """Rows 0 … `count` - 1 now hold frames, right behind the headroom, `length` bytes each.

        Whoever receives has set `length`, or had the kernel do it.
        """
        self.count = count
        self.alike = alike(self.length[:count])
        if self.moved:
            self.start.fill(HEADROOM)
            self.moved = False

    @property
    def total_bytes(self) -> int:
        """Of all frames, as they are now."""
        if self.alike and not self.moved:
            return self.alike * self.count
        return sum(self.length[: self.count].tolist())

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
        self.alike = size if not row or size == self.alike else 0
        self.count = row + 1
        return row

    def extend(self, frames: Iterable[bytes | bytearray | memoryview]) -> None:
        """Append each of `frames`."""
        for frame in frames:
            self.append(frame)


def alike(lengths: npt.NDArray[np.uint32]) -> int:
    """The value that all of `lengths` have; 0 where they differ, or there are none.

    Much cheaper than to look for the least and the greatest, and most often all that is asked.
    """
    raw = lengths.tobytes()
    if raw and raw == raw[:4] * (len(raw) // 4):
        return int(lengths[0])
    return 0


def _aligned(capacity: int, size: int) -> npt.NDArray[np.uint8]:
    """Rows of `size` bytes and some more, each at the beginning of a cache line."""
    stride = (size + _LINE - 1) // _LINE * _LINE
    block = np.zeros(capacity * stride + _LINE, np.uint8)
    skip = -block.ctypes.data % _LINE
    return block[skip : skip + capacity * stride].reshape(capacity, stride)
