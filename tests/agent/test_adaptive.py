"""A batch size follows the load: up while batches are full, down while they are mostly empty."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from agent_net import Agent, Net, wait_for
from hypothesis import given
from hypothesis import strategies as st
from test_live import joined, relayed, upstream

from agent.adaptive import ALPHA, GROW_ABOVE, SHRINK_BELOW, AdaptiveBatchSize

bounds = st.tuples(st.integers(1, 256), st.integers(1, 256)).map(sorted)
shares = st.lists(st.floats(0, 1), max_size=200)


def feed(size: AdaptiveBatchSize, loads: Sequence[int]) -> list[int]:
    """What it asked for after each batch; `loads` frames were waiting each time."""
    return [size.observe(min(load, size.size)) for load in loads]


def test_full_batches_double_it_up_to_the_maximum() -> None:
    size = AdaptiveBatchSize(minimum=4, maximum=64)
    asked = feed(size, [1000] * 100)
    assert sorted(set(asked)) == [4, 8, 16, 32, 64]
    assert asked == sorted(asked)
    assert asked[-1] == 64


def test_empty_batches_halve_it_down_to_the_minimum() -> None:
    size = AdaptiveBatchSize(minimum=4, maximum=64, start=64)
    asked = feed(size, [1] * 100)
    assert sorted(set(asked)) == [4, 8, 16, 32, 64]
    assert asked == sorted(asked, reverse=True)
    assert asked[-1] == 4


def test_the_average_is_the_documented_one() -> None:
    size = AdaptiveBatchSize(minimum=10, maximum=10)
    average = size.fill
    for frames in (3, 9, 10, 0, 5):
        average = 0.9 * average + 0.1 * frames / 10
        size.observe(frames)
        assert size.fill == pytest.approx(average)


def test_one_full_or_empty_batch_changes_nothing() -> None:
    for frames in (32, 1):
        size = AdaptiveBatchSize(minimum=1, maximum=256, start=32)
        assert size.observe(frames) == 32


def test_bounds_that_are_no_powers_of_two_are_reached_exactly() -> None:
    size = AdaptiveBatchSize(minimum=3, maximum=50)
    assert feed(size, [1000] * 200)[-1] == 50
    assert feed(size, [0] * 200)[-1] == 3


@pytest.mark.parametrize(("minimum", "maximum"), [(0, 8), (9, 8), (-1, -1)])
def test_impossible_bounds_are_refused(minimum: int, maximum: int) -> None:
    with pytest.raises(ValueError, match="batch sizes"):
        AdaptiveBatchSize(minimum=minimum, maximum=maximum)


@given(bounds, st.integers(-10, 1000), shares)
def test_it_never_leaves_its_bounds(bound: list[int], start: int, filled: Sequence[float]) -> None:
    low, high = bound
    size = AdaptiveBatchSize(minimum=low, maximum=high, start=start)
    assert low <= size.size <= high
    for share in filled:
        before = size.size
        after = size.observe(round(share * before))
        assert low <= after <= high
        assert after in (before, min(2 * before, high), max(before // 2, low))
        assert 0 <= size.fill <= 1


@given(bounds, shares)
def test_it_moves_only_for_a_reason(bound: list[int], filled: Sequence[float]) -> None:
    low, high = bound
    size = AdaptiveBatchSize(minimum=low, maximum=high)
    for share in filled:
        before, fill = size.size, size.fill
        frames = round(share * before)
        expected = fill + ALPHA * (frames / before - fill)
        after = size.observe(frames)
        if after > before:
            assert expected > GROW_ABOVE
        elif after < before:
            assert expected < SHRINK_BELOW
        # What is averaged is frames; the share of another size is another number.
        assert size.fill * after == pytest.approx(expected * before)


@given(bounds, st.integers(0, 400), st.integers(1, 256))
def test_steady_traffic_ends_at_one_size(bound: list[int], load: int, start: int) -> None:
    low, high = bound
    size = AdaptiveBatchSize(minimum=low, maximum=high, start=start)
    feed(size, [load] * 600)
    assert len(set(feed(size, [load] * 200))) == 1
    # And right there: neither nearly full with room to grow, nor nearly empty above the least.
    share = min(load, size.size) / size.size
    assert share <= GROW_ABOVE or size.size == high
    assert share >= SHRINK_BELOW or size.size == low


def test_an_agent_asks_for_batches_by_its_load(net: Net) -> None:
    agent, peer = joined(net, "--adaptive-batch", "4..64", "--batch", "16")
    assert agent.stats()["batch"] == 64
    assert agent.stats()["adaptive_batch"]["wire"]["size"] == 16
    own = agent.namespace.mac()
    frame = upstream(own, 50)
    with peer.raw(protocol=0) as sock:
        sent = agent.stats()["wire"]["tx_frames"]
        for _ in range(100):
            # All at once: the agent finds more than it asks for.
            with stopped(agent):
                for _ in range(150):
                    sock.send(frame)
            sent += 150
            wait_for(lambda to=sent: relayed(agent) >= to, "all are relayed")
        grown = agent.stats()
        assert grown["adaptive_batch"]["wire"]["size"] == 64
        assert "64" in grown["fill"]["wire"]
        for _ in range(200):
            # Few at a time.
            with stopped(agent):
                for _ in range(3):
                    sock.send(frame)
            sent += 3
            wait_for(lambda to=sent: relayed(agent) >= to, "all are relayed")
        assert agent.stats()["adaptive_batch"]["wire"]["size"] == 8
    assert agent.stats()["adaptive_batch"]["tap"]["size"] <= 16
    assert agent.stop() == 0


@contextmanager
def stopped(agent: Agent) -> Iterator[None]:
    """The agent does not run meanwhile."""
    os.kill(agent.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(agent.pid, signal.SIGCONT)
