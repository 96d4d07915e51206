"""A batch keeps frames where they are, whatever is pushed in front of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.batch import HEADROOM, FrameBatch


@given(st.lists(st.binary(max_size=100), max_size=8))
def test_frames_come_back_as_they_were_put_in(frames: list[bytes]) -> None:
    batch = FrameBatch(8, 100)
    for _ in range(2):
        batch.clear()
        batch.extend(frames)
        assert [bytes(view) for view in batch] == frames
        assert len(batch) == batch.count == len(frames)
        assert batch.length[: batch.count].tolist() == [len(frame) for frame in frames]
        assert batch.total_bytes == sum(map(len, frames))


@pytest.mark.parametrize("frame_bytes", [1, 60, 100, 1515, 9000])
def test_rows_are_aligned_and_have_room_in_front(frame_bytes: int) -> None:
    batch = FrameBatch(3, frame_bytes)
    assert batch.data.ctypes.data % 64 == 0
    assert batch.stride % 64 == 0
    assert batch.stride >= HEADROOM + frame_bytes
    assert batch.row_address.tolist() == [batch.data[row].ctypes.data for row in range(3)]


def test_rows_may_be_somebody_else_s_and_lie_apart() -> None:
    shared = np.zeros((5, 256), np.uint8)
    batch = FrameBatch(3, 100, rows=shared[1:, 50:])
    batch.extend([b"first", b"second"])
    assert [bytes(view) for view in batch] == [b"first", b"second"]
    assert shared[2, 50 + HEADROOM : 50 + HEADROOM + 6].tobytes() == b"second"
    assert batch.row_address.tolist() == [shared[row, 50:].ctypes.data for row in (1, 2, 3)]


def test_a_header_is_pushed_and_skipped_without_moving_the_frame() -> None:
    batch = FrameBatch(4, 50)
    batch.extend([b"first", b"second", b"third"])
    batch.data[:, HEADROOM - 2 : HEADROOM] = np.frombuffer(b"->", np.uint8)
    batch.move(slice(0, 2), -2)
    batch.move(np.array([2]), 3)
    assert [bytes(view) for view in batch] == [b"->first", b"->second", b"rd"]
    assert batch.moved
    batch.clear()
    batch.append(b"again")
    assert batch.frame(0) == b"again"
    assert not batch.moved


def test_what_does_not_fit_is_refused() -> None:
    batch = FrameBatch(1, 10)
    with pytest.raises(ValueError, match="11 bytes"):
        batch.append(bytes(11))
    batch.append(bytes(10))
    with pytest.raises(IndexError, match="holds 1"):
        batch.append(b"")
    with pytest.raises(ValueError, match="at least one"):
        FrameBatch(0, 10)
