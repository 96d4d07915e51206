"""What a stretch of traffic came to, as a result keeps it: counts, latency, ledger, marks.

Pure: what tester and nodes have told goes in. Must not know which trial it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from testbed import results
from testbed.measure.latency import Histogram
from testbed.measure.ledger import SEEN_BY_LINK, Ledger, Line
from testbed.scenario.model import FrameSize
from testbed.traffic.trial import SEARCH_SHARE, TrialTraffic

LOWER_BOUND_LOSS: Final = 0.005
"""At maximum load, a node that lost no more than this share was not the limit: the tester was."""
OPEN_LEDGER: Final = 0.001
"""Beyond this share of the offered frames what no counter explains is worth a mark."""
CLOCK_STEP_NS: Final = 1_000_000
"""A wall clock that was set by more than this meanwhile leaves no latency."""
_LINK_CAUSES: Final = frozenset(
    f"{side}{cause}" for side in ("", "wire_", "tap_") for cause in SEEN_BY_LINK
)


def traffic_of(made: TrialTraffic, frame_bytes: FrameSize) -> results.Traffic:
    """The counted phase."""
    trial, busy = made.trial, made.busy()
    stepped = abs(made.clock_step_ns) > CLOCK_STEP_NS
    return results.Traffic(
        intended_pps=made.load.rate_pps,
        frame_bytes=frame_bytes,
        duration_ns=made.duration_ns,
        offered=trial.offered,
        delivered=trial.delivered,
        lost=trial.lost,
        duplicated=trial.duplicated,
        reordered=trial.reordered,
        corrupted=trial.corrupted,
        refused=trial.refused,
        sink_drops=sum(leg.sink.drops for leg in made.legs),
        generator_busy=round(busy["generator"], 4),
        sink_busy=round(busy["sink"], 4),
        clock_step_ns=made.clock_step_ns,
        latency=None if stepped else latency_of(made.latency),
        steps=[
            results.Step(
                intended_pps=step.rate_pps,
                duration_ns=step.duration_ns,
                offered=step.offered,
                delivered=step.delivered,
                latency=None if stepped else latency_of(step.latency),
            )
            for step in made.steps
        ],
    )


def search_trial_of(made: TrialTraffic) -> results.SearchTrial:
    """The counted phase of a trial that a search has made."""
    trial = made.trial
    assert made.load.rate_pps is not None
    short = next((why for leg in made.legs if (why := leg.short_of(SEARCH_SHARE))), None)
    limited = replace(made, generator_limited=made.generator_limited or short)
    return results.SearchTrial(
        intended_pps=made.load.rate_pps,
        duration_ns=made.duration_ns,
        offered=trial.offered,
        delivered=trial.delivered,
        lost=trial.lost,
        marks=marks_of(limited, None),
    )


def latency_of(histogram: Histogram) -> results.Latency | None:
    """Percentiles; None where nothing arrived."""
    low, high = histogram.min_ns, histogram.max_ns
    percentiles = [histogram.percentile_ns(percent) for percent in (50, 90, 99, 99.9)]
    if low is None or high is None:
        return None
    p50, p90, p99, p999 = (high if value is None else value for value in percentiles)
    return results.Latency(
        count=histogram.count,
        min_ns=low,
        p50_ns=p50,
        p90_ns=p90,
        p99_ns=p99,
        p999_ns=p999,
        max_ns=high,
        mean_ns=histogram.mean_ns(),
        histogram=list(histogram.bins),
    )


def ledger_of(
    traffic: TrialTraffic, drops: Mapping[str, Mapping[str, int] | None]
) -> results.Ledger:
    """Every frame, with what each node says that it dropped; None from one that does not tell."""
    ledger: Ledger = traffic.ledger
    told = bool(drops)
    for name, by_cause in drops.items():
        if by_cause is None:
            told = False
        else:
            ledger = ledger.with_node(name, by_cause, seen_by_link=_LINK_CAUSES)
    return results.Ledger(
        offered=ledger.offered,
        delivered=ledger.delivered,
        lines=_lines(ledger.lines),
        aside=_lines(ledger.aside),
        node_told=told,
        unexplained=ledger.unexplained,
    )


def _lines(lines: tuple[Line, ...]) -> list[results.LedgerLine]:
    return [
        results.LedgerLine(place=line.place, cause=line.cause, count=line.count) for line in lines
    ]


def marks_of(traffic: TrialTraffic, ledger: results.Ledger | None) -> list[results.Marked]:
    """What the trial is worth, as far as the tester can tell."""
    marks = []
    if traffic.generator_limited:
        marks.append(results.Marked(mark="generator-limited", why=traffic.generator_limited))
    if traffic.sink_limited:
        marks.append(results.Marked(mark="sink-limited", why=traffic.sink_limited))
    trial = traffic.trial
    if traffic.load.rate_pps is None and trial.lost <= LOWER_BOUND_LOSS * trial.offered:
        marks.append(
            results.Marked(
                mark="lower-bound",
                why=f"of {trial.offered} packets, as fast as the tester can, it lost {trial.lost}",
            )
        )
    if ledger is not None and abs(ledger.unexplained) > max(10, OPEN_LEDGER * ledger.offered):
        marks.append(
            results.Marked(
                mark="ledger-open",
                why=f"{ledger.unexplained} of {ledger.offered} packets are unexplained"
                + ("" if ledger.node_told else ", and the node does not tell what it dropped"),
            )
        )
    return marks
