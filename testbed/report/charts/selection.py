"""Which plots a result has, by the section of the report that they belong to.

Only what there is data for is plotted. Must not know how it is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Final

from testbed.report.charts import account, calls, distributions, loads, waiting
from testbed.report.charts.model import Chart
from testbed.results import Result

_MOST: Final = 12
"""A scenario of many points, loads and sizes has a plot for each: nobody reads hundreds."""


def charts(result: Result) -> Mapping[str, tuple[Chart, ...]]:
    """The key of each section that has plots, with its plots."""
    found: dict[str, tuple[Chart, ...]] = {
        "throughput": _first(loads.throughput(result)),
        "calls": _first(calls.calls_by_batch(result)),
        "cpu": (*_first(loads.cpu(result)), *_first(waiting.trade_off(result))),
        "wakeups": (*_first(loads.wakeups(result)), *_first(distributions.batches(result))),
        "latency": _first(distributions.latency(result)),
        "ledger": _first(account.ledger(result)),
    }
    return {section: plots for section, plots in found.items() if plots}


def _first(plots: Iterator[Chart]) -> tuple[Chart, ...]:
    """The first of them; the last one says that there would be more."""
    taken = tuple(islice(plots, _MOST))
    if next(plots, None) is None:
        return taken
    more = f"{taken[-1].note} Other places are in the tables alone."
    return (*taken[:-1], replace(taken[-1], note=more.strip()))
