"""The ratio of two series that were not measured in pairs, and how sure a change is.

For two runs of the same scenario at different times. Must not know what the numbers are.

The estimate is the ratio of the geometric means; its interval is the bootstrap of two samples (BCa)
with the corrections of `interval`: the level raised for few values, and Welch's t interval of the
logarithms where that is wider. The probability is Welch's test against the threshold itself, not
against "no difference", so that a small change is not called one because it was measured well.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from testbed.measure.statistics.interval import (
    FEWEST_FOR_AN_INTERVAL,
    LEVEL,
    RESAMPLES,
    raised_level,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """The ratio new / old; None is "no data", never zero. `values` are how many stand behind it.

    `shift` and `error` are the difference of the mean logarithms and its standard error, `freedom`
    its degrees of freedom (Welch, Satterthwaite).
    """

    ratio: float | None
    low: float | None
    high: float | None
    values: tuple[int, int]
    shift: float = 0.0
    error: float = 0.0
    freedom: float = 0.0

    def probability(self, threshold: float) -> float | None:
        """The chance of such data if the ratio lay within 1 / threshold and threshold.

        Two-sided; None without an interval.
        """
        if self.low is None or threshold < 1:
            return None
        beyond = abs(self.shift) - math.log(threshold)
        if self.error == 0:
            return 0.0 if beyond > 0 else 1.0
        from scipy.special import stdtr

        return min(1.0, 2 * float(stdtr(self.freedom, -beyond / self.error)))


def unpaired_ratio(
    old: Sequence[float | None], new: Sequence[float | None], *, seed: int = 0, level: float = LEVEL
) -> Change:
    """The ratio of two series of positive values; missing values and zeros are left out.

    An interval needs three values on either side. Deterministic for a `seed`.
    """
    a = np.log([value for value in old if value is not None and value > 0])
    b = np.log([value for value in new if value is not None and value > 0])
    counts = (len(a), len(b))
    if not min(counts):
        return Change(ratio=None, low=None, high=None, values=counts)
    shift = float(b.mean() - a.mean())
    if min(counts) < FEWEST_FOR_AN_INTERVAL:
        return Change(ratio=math.exp(shift), low=None, high=None, values=counts)
    parts = (float(a.var(ddof=1)) / len(a), float(b.var(ddof=1)) / len(b))
    error = math.sqrt(sum(parts))
    if error < 1e-12:
        ratio = math.exp(shift)
        return Change(ratio=ratio, low=ratio, high=ratio, values=counts, shift=shift)
    freedom = sum(parts) ** 2 / sum(
        part**2 / (count - 1) for part, count in zip(parts, counts, strict=True)
    )
    from scipy.special import stdtrit

    half = float(stdtrit(freedom, 0.5 + level / 2)) * error
    low, high = _bootstrap(a, b, level=level, seed=seed)
    return Change(
        ratio=math.exp(shift),
        low=math.exp(min(low, shift - half)),
        high=math.exp(max(high, shift + half)),
        values=counts,
        shift=shift,
        error=error,
        freedom=freedom,
    )


def holm(probabilities: Sequence[float]) -> list[float]:
    """Probabilities adjusted for how many there are (Holm 1979), in the order given.

    Calling a change what stays below 5 % is then wrong in one of twenty families of comparisons at
    most, not in one of twenty comparisons.
    """
    order = sorted(range(len(probabilities)), key=lambda index: probabilities[index])
    adjusted = [0.0] * len(probabilities)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, (len(probabilities) - rank) * probabilities[index])
        adjusted[index] = min(1.0, highest)
    return adjusted


def _bootstrap(
    a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], *, level: float, seed: int
) -> tuple[float, float]:
    from scipy.stats import bootstrap

    def shift(one: Any, other: Any, axis: int = -1) -> Any:
        return np.mean(other, axis=axis) - np.mean(one, axis=axis)

    raised = raised_level(level, min(len(a), len(b)))
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            # scipy warns where BCa is undefined and returns NaN; the next method is taken then.
            warnings.simplefilter("ignore")
            found = bootstrap(
                (a, b), shift, vectorized=True, n_resamples=RESAMPLES, confidence_level=raised,
                method=method, rng=np.random.default_rng(seed),
            )  # fmt: skip
        low = float(found.confidence_interval.low)
        high = float(found.confidence_interval.high)
        if math.isfinite(low) and math.isfinite(high):
            return low, high
    return math.inf, -math.inf
