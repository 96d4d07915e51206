"""The interval of a ratio keeps its promise, from five pairs on; few and odd data are said so."""

from __future__ import annotations

import math

import numpy as np
import pytest

from testbed.measure.statistics.interval import (
    LEVEL,
    Ratio,
    paired_ratio,
    pairs_to_decide,
    raised_level,
    student_t,
)


def covered(pairs: int, noise: str, *, truth: float = 1.25, runs: int = 300) -> float:
    """The share of runs in which the interval holds the true ratio."""
    rng = np.random.default_rng(20 + pairs)
    hits = 0
    for run in range(runs):
        if noise == "normal":
            logs = rng.normal(0, 0.05, (2, pairs))
        else:
            logs = 0.05 * rng.standard_t(3, (2, pairs))
        # Both variants drift together, as on a machine that slows down for a while.
        drift = np.exp(rng.normal(0, 0.5, pairs))
        baseline = drift * np.exp(logs[0])
        candidate = truth * drift * np.exp(logs[1])
        found = paired_ratio(list(baseline), list(candidate), seed=run)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= truth <= found.high
    return hits / runs


@pytest.mark.parametrize("noise", ["normal", "heavy tails"])
@pytest.mark.parametrize("pairs", [5, 8, 15])
def test_the_interval_covers_the_truth_as_often_as_it_says(pairs: int, noise: str) -> None:
    # Three standard errors of 300 runs at 95 % are 3.8 points.
    assert covered(pairs, noise) >= LEVEL - 0.038


def test_identical_variants_show_no_difference_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(7)
    different = 0
    runs = 400
    for run in range(runs):
        a, b = np.exp(rng.normal(0, 0.1, (2, 5)))
        different += bool(paired_ratio(list(a), list(b), seed=run).differs)
    assert different <= runs / 20


def test_a_difference_well_above_the_noise_is_seen() -> None:
    found = paired_ratio([10, 11, 10, 9, 10], [20, 22, 20.4, 18.2, 19.8])
    assert found.differs
    assert found.ratio == pytest.approx(2.0, rel=0.01)


def test_exchanging_the_variants_inverts_ratio_and_interval() -> None:
    a, b = [10, 11, 10.5, 9, 10.0], [13, 13.5, 13.4, 12.1, 14.0]
    one, other = paired_ratio(a, b), paired_ratio(b, a)
    assert one.ratio == pytest.approx(1 / other.ratio)  # type: ignore[operator]
    assert one.low == pytest.approx(1 / other.high, rel=0.02)  # type: ignore[operator]
    assert one.high == pytest.approx(1 / other.low, rel=0.02)  # type: ignore[operator]


def test_the_same_data_give_the_same_interval_each_time() -> None:
    a, b = [10, 11, 10.5, 9, 10.0], [13, 13.5, 13.4, 12.1, 14.0]
    assert paired_ratio(a, b, seed=3) == paired_ratio(a, b, seed=3)


def test_pairs_that_are_all_alike_have_an_interval_without_width() -> None:
    found = paired_ratio([2.0] * 5, [3.0] * 5)
    assert (found.low, found.ratio, found.high) == (1.5, 1.5, 1.5)
    assert found.method == "all pairs alike"


def test_one_odd_pair_among_equal_ones_still_has_an_interval() -> None:
    found = paired_ratio([1.0] * 5, [1.0, 1.0, 1.0, 1.0, 2.0])
    assert found.low is not None
    assert found.high is not None
    assert found.low < 1.0 < 2.0 ** (1 / 5) < found.high


@pytest.mark.parametrize("pairs", [1, 2])
def test_fewer_than_three_pairs_have_a_ratio_but_no_interval(pairs: int) -> None:
    found = paired_ratio([1.0] * pairs, [2.0] * pairs)
    assert found.ratio == pytest.approx(2.0)
    assert (found.low, found.high) == (None, None)
    assert found.differs is None


def test_no_data_is_not_zero() -> None:
    found = paired_ratio([], [])
    assert found.ratio is None
    assert found.pairs == 0


def test_a_pair_with_a_missing_or_zero_value_is_left_out_and_said_so() -> None:
    found = paired_ratio([1.0, None, 0.0, 2.0, 4.0], [1.0, 1.0, 1.0, None, 4.0])
    assert found.pairs == 2
    assert found.left_out == (
        "pair 2: no value",
        "pair 3: a count of zero has no ratio",
        "pair 4: no value",
    )


def test_series_of_different_length_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="2 baseline values, 1 of the candidate"):
        paired_ratio([1.0, 2.0], [1.0])


def estimate(ratio: float, spread: float, pairs: int = 5) -> Ratio:
    return Ratio(ratio=ratio, low=None, high=None, pairs=pairs, spread=spread, method="made")


def test_so_many_pairs_would_decide_as_their_interval_needs() -> None:
    found = pairs_to_decide(estimate(1.2, 0.1), 1.1)
    assert found is not None
    distance = math.log(1.2 / 1.1)
    assert student_t(LEVEL, found - 1) * 0.1 / math.sqrt(found) < distance
    fewer = found - 1
    assert student_t(LEVEL, fewer - 1) * 0.1 / math.sqrt(fewer) >= distance


def test_no_number_of_pairs_decides_what_lies_on_the_threshold() -> None:
    assert pairs_to_decide(estimate(1.1, 0.1), 1.1) is None


def test_a_smaller_spread_needs_fewer_pairs_but_more_than_there_were() -> None:
    few = pairs_to_decide(estimate(1.2, 0.001), 1.1)
    many = pairs_to_decide(estimate(1.2, 0.5), 1.1)
    assert few == 6
    assert many is not None
    assert many > 50


def test_the_level_is_raised_the_more_the_fewer_pairs_there_are() -> None:
    levels = [raised_level(0.95, pairs) for pairs in (5, 10, 100)]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] == pytest.approx(0.9981, abs=1e-4)
    assert levels[-1] == pytest.approx(0.95, abs=0.005)
