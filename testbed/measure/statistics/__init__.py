"""Everything that is derived from a result: quantities, paired ratios, intervals and verdicts.

Must not know how trials are run or how a report looks. The same result gives the same figures each
time: resampling is seeded from the result's own seed.
"""

from testbed.measure.statistics.comparison import (
    PHASES,
    Cell,
    bounded,
    cells,
    compare,
    phase_of,
    trials_of,
    typical,
)
from testbed.measure.statistics.interval import LEVEL, Ratio, paired_ratio, pairs_to_decide
from testbed.measure.statistics.quantities import (
    CLASSES,
    QUANTITIES,
    Quantity,
    busy_share,
    calls,
    handled,
    mean_fill,
    own_count_deviation,
    syscalls_per_packet,
)
from testbed.measure.statistics.verdict import (
    FEWEST_PAIRS,
    WORST_FIRST,
    Finding,
    Verdict,
    assess,
    judge,
    worst_verdicts,
)

__all__ = [
    "CLASSES",
    "FEWEST_PAIRS",
    "LEVEL",
    "PHASES",
    "QUANTITIES",
    "WORST_FIRST",
    "Cell",
    "Finding",
    "Quantity",
    "Ratio",
    "Verdict",
    "assess",
    "bounded",
    "busy_share",
    "calls",
    "cells",
    "compare",
    "handled",
    "judge",
    "mean_fill",
    "own_count_deviation",
    "paired_ratio",
    "pairs_to_decide",
    "phase_of",
    "syscalls_per_packet",
    "trials_of",
    "typical",
    "worst_verdicts",
]
