"""The histogram keeps three digits of every latency, and its percentiles are right."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.measure.latency import (
    HIGHEST_NS,
    Histogram,
    LatencyRecorder,
    bin_of,
    highest_of,
    lowest_of,
)

values = st.lists(st.integers(0, HIGHEST_NS), min_size=1, max_size=300)


def recorded(numbers: list[int], hold: int = 16) -> Histogram:
    recorder = LatencyRecorder(hold=hold)
    recorder.add(np.array(numbers, np.int64))
    return recorder.histogram()


@given(st.integers(0, HIGHEST_NS))
def test_a_bin_holds_its_value_and_is_a_thousandth_of_it_wide(value: int) -> None:
    number = bin_of(np.array([value], np.int64))
    low, high = int(lowest_of(number)[0]), int(highest_of(number)[0])
    assert low <= value <= high
    assert high - low <= value / 1000


def test_bins_follow_each_other_without_gap() -> None:
    bins = np.arange(31_744, dtype=np.int64)
    assert (lowest_of(bins)[1:] == highest_of(bins)[:-1] + 1).all()
    assert (bin_of(lowest_of(bins)) == bins).all()
    assert highest_of(bins)[-1] == HIGHEST_NS


@given(values, st.sampled_from([1, 50, 90, 99, 99.9, 100]))
def test_a_percentile_is_the_value_at_its_rank_to_three_digits(
    numbers: list[int], percent: float
) -> None:
    exact = sorted(numbers)[max(1, math.ceil(len(numbers) * percent / 100)) - 1]
    found = recorded(numbers).percentile_ns(percent)
    assert found is not None
    assert exact <= found <= exact * 1.001 + 1


@given(values, values)
def test_adding_histograms_is_adding_their_values(one: list[int], other: list[int]) -> None:
    assert recorded(one).merged(recorded(other)) == recorded(one + other)


@given(values)
def test_it_survives_json(numbers: list[int]) -> None:
    histogram = recorded(numbers)
    assert Histogram.from_json(json.loads(json.dumps(histogram.to_json()))) == histogram


def test_no_values_have_no_percentiles() -> None:
    empty = LatencyRecorder().histogram()
    assert empty.percentile_ns(50) is None
    assert empty.mean_ns() is None
    assert (empty.count, empty.max_ns) == (0, None)


def test_times_before_their_cause_are_told() -> None:
    histogram = recorded([-5, 3, 7])
    assert (histogram.count, histogram.negative, histogram.min_ns) == (3, 1, -5)


def test_what_is_too_long_is_counted_at_the_end() -> None:
    histogram = recorded([HIGHEST_NS * 4])
    assert histogram.max_ns == HIGHEST_NS * 4
    assert histogram.percentile_ns(50) == HIGHEST_NS


def test_the_distribution_ends_at_one() -> None:
    steps = recorded([10, 20, 20, 5000]).cumulative()
    assert steps[0] == (10, 0.25)
    assert steps[-1][1] == pytest.approx(1)


def test_a_damaged_histogram_is_refused() -> None:
    with pytest.raises(TypeError):
        Histogram.from_json({**recorded([1]).to_json(), "count": "1"})
