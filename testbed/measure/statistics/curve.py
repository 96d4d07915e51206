"""The distribution of latency over several trials, as a curve that is thin enough to draw.

Must not know what is drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from testbed.measure.latency import highest_of
from testbed.results import Trial

_STEPS_PER_DECADE = 32
"""How many points there are from 0 to 90 %, from there to 99 %, and so on."""


def latency_curve(trials: Sequence[Trial]) -> tuple[tuple[float, float], ...]:
    """(latency in µs, share of packets that took no longer), ascending, of all trials that count.

    Points lie closer towards 1, up to the last packet but one; empty without histograms.
    """
    bins: Counter[int] = Counter()
    for trial in trials:
        if trial.counts and trial.traffic is not None and trial.traffic.latency is not None:
            bins.update(dict(trial.traffic.latency.histogram))
    total = bins.total()
    if total < 2:
        return ()
    numbers = np.array(sorted(bins), dtype=np.int64)
    tops_us = highest_of(numbers) / 1e3
    share = np.cumsum([bins[int(number)] for number in numbers]) / total
    decades = np.log10(total)
    wanted = 1 - 10.0 ** -np.linspace(0, decades, max(2, round(decades * _STEPS_PER_DECADE)))
    at = np.minimum(np.searchsorted(share, wanted), len(numbers) - 1)
    points = dict.fromkeys(
        (float(tops_us[index]), float(min(target, 1 - 1 / total)))
        for index, target in zip(at, wanted, strict=True)
    )
    return tuple(points)
