"""Everything that is derived from a result: quantities, paired ratios, intervals and verdicts.

Must not know how trials are run or how a report looks. The same result gives the same figures each
time: resampling is seeded from the result's own seed.
"""

from testbed.measure.statistics.change import (
    WATCHED,
    Compared,
    Comparison,
    Outcome,
    compare_runs,
)
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
from testbed.measure.statistics.correctness import failed_checks, why_broken
from testbed.measure.statistics.curve import latency_curve
from testbed.measure.statistics.interval import LEVEL, Ratio, paired_ratio, pairs_to_decide
from testbed.measure.statistics.quantities import (
    CLASSES,
    QUANTITIES,
    SEARCHED,
    Quantity,
    busy_share,
    calls,
    handled,
    mean_fill,
    own_count_deviation,
    stolen_share,
    syscalls_per_packet,
)
from testbed.measure.statistics.searched import (
    GOALS,
    SearchedPlace,
    bound_of,
    compare_searches,
    searched_places,
    searches_of,
    typical_bound,
)
from testbed.measure.statistics.unpaired import Change, holm, unpaired_ratio
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
    "GOALS",
    "LEVEL",
    "PHASES",
    "QUANTITIES",
    "SEARCHED",
    "WATCHED",
    "WORST_FIRST",
    "Cell",
    "Change",
    "Compared",
    "Comparison",
    "Finding",
    "Outcome",
    "Quantity",
    "Ratio",
    "SearchedPlace",
    "Verdict",
    "assess",
    "bound_of",
    "bounded",
    "busy_share",
    "calls",
    "cells",
    "compare",
    "compare_runs",
    "compare_searches",
    "failed_checks",
    "handled",
    "holm",
    "judge",
    "latency_curve",
    "mean_fill",
    "own_count_deviation",
    "paired_ratio",
    "pairs_to_decide",
    "phase_of",
    "searched_places",
    "searches_of",
    "stolen_share",
    "syscalls_per_packet",
    "trials_of",
    "typical",
    "typical_bound",
    "unpaired_ratio",
    "why_broken",
    "worst_verdicts",
]
