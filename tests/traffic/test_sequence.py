"""Every sequence number is accounted for exactly, whatever happens to the packets on the way."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.traffic.sequence import Accountant, SeenMap

Packet = tuple[int, int, int]
"""Stream, sequence number, phase."""


def one_by_one(packets: list[Packet], streams: int) -> list[list[tuple[int, int, int]]]:
    """RFC 4737 and counting, in the plainest way."""
    seen: set[tuple[int, int]] = set()
    expected = [0] * streams
    counts = [[[0, 0, 0] for _ in range(streams)] for _ in range(2)]
    for stream, number, phase in packets:
        if (stream, number) in seen:
            counts[phase][stream][1] += 1
            continue
        seen.add((stream, number))
        counts[phase][stream][0] += 1
        if number < expected[stream]:
            counts[phase][stream][2] += 1
        else:
            expected[stream] = number + 1
    return [[(a, b, c) for a, b, c in phase] for phase in counts]


def in_batches(
    packets: list[Packet], streams: int, sizes: list[int]
) -> list[list[tuple[int, int, int]]]:
    accountant = Accountant(streams=streams)
    place = turn = 0
    while place < len(packets):
        part = packets[place : place + sizes[turn % len(sizes)]]
        columns = np.array(part, np.int64).reshape(-1, 3).T
        accountant.add(columns[0], columns[1], columns[2])
        place += len(part)
        turn += 1
    return [
        [(c.delivered, c.duplicated, c.reordered) for c in accountant.counts(phase)]
        for phase in (0, 1)
    ]


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(0, 2**32),
    st.floats(0, 0.3),
    st.integers(0, 40),
    st.integers(0, 40),
    st.lists(st.sampled_from([1, 2, 7, 64, 300]), min_size=1, max_size=4),
)
def test_batches_count_what_one_by_one_counts(
    streams: int, seed: int, loss: float, copies: int, moves: int, sizes: list[int]
) -> None:
    chance = random.Random(seed)
    packets = [
        (stream, number, int(number >= 60)) for number in range(120) for stream in range(streams)
    ]
    packets = [packet for packet in packets if chance.random() >= loss]
    for _ in range(copies if packets else 0):
        packets.insert(chance.randrange(len(packets)), chance.choice(packets))
    for _ in range(moves if packets else 0):
        packet = packets.pop(chance.randrange(len(packets)))
        packets.insert(chance.randrange(len(packets) + 1), packet)
    assert in_batches(packets, streams, sizes) == one_by_one(packets, streams)


def test_one_packet_that_comes_late_is_one_reordered() -> None:
    packets = [(0, number, 0) for number in (0, 1, 3, 4, 2, 5)]
    assert in_batches(packets, 1, [64])[0] == [(6, 0, 1)]


def test_one_packet_that_comes_early_makes_all_it_overtook_late() -> None:
    packets = [(0, number, 0) for number in (0, 4, 1, 2, 3, 5)]
    assert in_batches(packets, 1, [64])[0] == [(6, 0, 3)]


@pytest.mark.parametrize("gap", [1, 1 << 20, 1 << 22, (1 << 40) + 3])
def test_numbers_far_apart_are_told_apart(gap: int) -> None:
    seen = SeenMap()
    keys = np.array([number * gap for number in range(20)], np.int64)
    assert seen.add(keys).all()
    assert not seen.add(keys[::-1]).any()


def test_complete_stretches_take_no_memory_and_are_still_known() -> None:
    seen = SeenMap()
    step = 1 << 18
    for first in range(0, 8 << 20, step):
        assert seen.add(np.arange(first, first + step, dtype=np.int64)).all()
    held = sum(block.nbytes for block in seen._open.values())
    assert not seen._packed
    assert held <= 5 << 20
    assert not seen.add(np.array([5, 1 << 20, (8 << 20) - 1], np.int64)).any()
