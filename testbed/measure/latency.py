"""Latency as a log-linear histogram: three significant digits from 1 ns to 18 minutes.

Values below 2048 ns have a bin each; above, every power of two is cut into 1024 equal bins, so a
bin is never wider than a thousandth of its value (the layout of Gil Tene's HdrHistogram). Bins can
be added over trials and processes without losing anything. Must not know what was timed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Nanoseconds = npt.NDArray[np.int64]

_LINEAR: Final = 2048
_PER_OCTAVE: Final = 1024
_OCTAVES: Final = 29
HIGHEST_NS: Final = (1 << (11 + _OCTAVES)) - 1
"""What is longer than this (18 minutes) is counted as this long."""
BINS: Final = _LINEAR + _OCTAVES * _PER_OCTAVE


def bin_of(values_ns: Nanoseconds) -> Nanoseconds:
    """The bin number of each value; a negative one falls into bin 0."""
    values = np.clip(values_ns, 0, HIGHEST_NS)
    # frexp's exponent is the bit length; every value here is exact in a double.
    octave = np.maximum(np.frexp(values.astype(np.float64))[1].astype(np.int64) - 11, 0)
    numbers: Nanoseconds = octave * _PER_OCTAVE + (values >> octave)
    return numbers


def lowest_of(bins: Nanoseconds) -> Nanoseconds:
    """The least value that falls into each bin."""
    octave = np.maximum(bins // _PER_OCTAVE - 1, 0)
    lowest: Nanoseconds = (bins - octave * _PER_OCTAVE) << octave
    return lowest


def highest_of(bins: Nanoseconds) -> Nanoseconds:
    """The greatest value that falls into each bin."""
    octave = np.maximum(bins // _PER_OCTAVE - 1, 0)
    highest: Nanoseconds = lowest_of(bins) + (np.int64(1) << octave) - 1
    return highest


@dataclass(frozen=True, kw_only=True, slots=True)
class Histogram:
    """A finished histogram: the bins that are not empty, in order, and the exact extremes.

    `negative` values were below zero, which on one clock only a clock step explains; they are in
    bin 0 as well, so that `count` is all of them.
    """

    bins: tuple[tuple[int, int], ...]
    """(bin number, how many), ascending."""
    count: int
    min_ns: int | None
    max_ns: int | None
    sum_ns: int
    negative: int = 0

    def percentile_ns(self, percent: float) -> int | None:
        """The least value that at least `percent` % of all values do not exceed; None if empty.

        It is the upper end of its bin, so it is never too small, and too large by 0.1 % at most.
        """
        if not self.count or self.max_ns is None:
            return None
        needed = max(1, -(-self.count * percent // 100))
        seen = 0
        for number, count in self.bins:
            seen += count
            if seen >= needed:
                top = int(highest_of(np.array([number], np.int64))[0])
                return min(top, self.max_ns)
        return self.max_ns

    def mean_ns(self) -> float | None:
        """The exact mean; None if empty."""
        return self.sum_ns / self.count if self.count else None

    def merged(self, other: Histogram) -> Histogram:
        """Both together."""
        counts: dict[int, int] = dict(self.bins)
        for number, count in other.bins:
            counts[number] = counts.get(number, 0) + count
        lows = [h.min_ns for h in (self, other) if h.min_ns is not None]
        highs = [h.max_ns for h in (self, other) if h.max_ns is not None]
        return Histogram(
            bins=tuple(sorted(counts.items())),
            count=self.count + other.count,
            min_ns=min(lows, default=None),
            max_ns=max(highs, default=None),
            sum_ns=self.sum_ns + other.sum_ns,
            negative=self.negative + other.negative,
        )

    def cumulative(self) -> tuple[tuple[int, float], ...]:
        """(upper end of the bin in ns, share of values up to there), ascending: the CDF."""
        found = []
        seen = 0
        for number, count in self.bins:
            seen += count
            top = int(highest_of(np.array([number], np.int64))[0])
            found.append((top, seen / self.count))
        return tuple(found)

    def to_json(self) -> dict[str, object]:
        """A value that JSON can hold and `from_json` reads."""
        return {
            "bins": [list(pair) for pair in self.bins],
            "count": self.count,
            "min_ns": self.min_ns,
            "max_ns": self.max_ns,
            "sum_ns": self.sum_ns,
            "negative": self.negative,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Histogram:
        """What `to_json` wrote; KeyError, TypeError or ValueError if it did not."""
        pairs = data["bins"]
        if not isinstance(pairs, Sequence):
            raise TypeError("bins is no list")
        low, high = data["min_ns"], data["max_ns"]
        return cls(
            bins=tuple((int(number), int(count)) for number, count in pairs),
            count=_whole(data["count"]),
            min_ns=None if low is None else _whole(low),
            max_ns=None if high is None else _whole(high),
            sum_ns=_whole(data["sum_ns"]),
            negative=_whole(data["negative"]),
        )


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no whole number")
    return value


class LatencyRecorder:
    """Takes latencies in batches and counts them in bins; cheap enough for every packet.

    Values are kept and counted some thousands at a time, because one count over all bins costs as
    much as for one value.
    """

    __slots__ = ("_counts", "_held", "_max", "_min", "_negative", "_pending", "_sum")

    def __init__(self, *, hold: int = 8192) -> None:
        self._counts = np.zeros(BINS, np.int64)
        self._pending = np.zeros(hold, np.int64)
        self._held = 0
        self._min: int | None = None
        self._max: int | None = None
        self._sum = 0
        self._negative = 0

    def add(self, values_ns: Nanoseconds) -> None:
        """Count these latencies."""
        place = 0
        while place < len(values_ns):
            room = len(self._pending) - self._held
            part = values_ns[place : place + room]
            self._pending[self._held : self._held + len(part)] = part
            self._held += len(part)
            place += len(part)
            if self._held == len(self._pending):
                self._flush()

    def histogram(self) -> Histogram:
        """What has been counted so far."""
        self._flush()
        filled = np.flatnonzero(self._counts)
        counts = self._counts[filled]
        return Histogram(
            bins=tuple(zip(filled.tolist(), counts.tolist(), strict=True)),
            count=int(counts.sum()),
            min_ns=self._min,
            max_ns=self._max,
            sum_ns=self._sum,
            negative=self._negative,
        )

    def _flush(self) -> None:
        values = self._pending[: self._held]
        if not len(values):
            return
        self._held = 0
        low, high = int(values.min()), int(values.max())
        self._min = low if self._min is None else min(low, self._min)
        self._max = high if self._max is None else max(high, self._max)
        self._sum += int(values.sum())
        if low < 0:
            self._negative += int((values < 0).sum())
        found = np.bincount(bin_of(values))
        self._counts[: len(found)] += found
