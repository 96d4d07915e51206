"""Puts the legs of one trial together: tallies, latency, ledger, and who was the limit.

Pure: what generators and sinks reported goes in. Must not know nodes or paths.
"""

from __future__ import annotations

from testbed.measure import ledger
from testbed.measure.ledger import Ledger, Line
from testbed.measure.places import LinkCounts, NamespaceCounts
from testbed.traffic.errors import NotForwarding
from testbed.traffic.legs import LegRunner, Window
from testbed.traffic.trial import LegTraffic, Load, StepTraffic, Tally, TrialTraffic


def link_change(now: NamespaceCounts, before: NamespaceCounts, ifname: str) -> LinkCounts:
    """What an interface of a node counted over a trial.

    :raises NotForwarding: it is gone, as a TAP is whose node has ended.
    """
    try:
        return ledger.link_change(now, before, ifname)
    except KeyError:
        raise NotForwarding(f"there is no {ifname} any more: its node has ended") from None


def sink_lines(legs: tuple[LegTraffic, ...] | list[LegTraffic]) -> list[Line]:
    """What the sinks saw and could not count as delivered."""
    found: dict[str, int] = {}
    for leg in legs:
        for damage in leg.sink.damage:
            for cause, count in (
                ("damaged", damage.damaged),
                ("truncated", damage.truncated),
                ("other bytes on its tail", damage.tailed),
                (ledger.ON_A_TAIL, damage.swallowed),
                ("misaddressed", damage.misaddressed),
            ):
                found[cause] = found.get(cause, 0) + count
        found["no room at the sink"] = found.get("no room at the sink", 0) + leg.sink.drops
    return list(ledger.lines_of("sink", found))


def aside_lines(legs: tuple[LegTraffic, ...]) -> tuple[Line, ...]:
    """What the generators did not offer, and what else the sinks heard."""
    found: dict[str, int] = {}
    heard: dict[str, int] = {}
    for leg in legs:
        if not leg.at_tap:
            for reason, count in leg.generator.refused.items():
                cause = f"refused by the kernel ({reason})"
                found[cause] = found.get(cause, 0) + count
        found["not offered in time"] = (
            found.get("not offered in time", 0) + leg.generator.pacing.skipped
        )
        heard["late from an earlier trial"] = (
            heard.get("late from an earlier trial", 0) + leg.sink.stale
        )
        heard["no test traffic"] = heard.get("no test traffic", 0) + leg.sink.other
        duplicated = leg.sink.total().duplicated
        heard["duplicated"] = heard.get("duplicated", 0) + duplicated
    return ledger.lines_of("generator", found) + ledger.lines_of("sink", heard)


def assembled(
    *,
    path: str,
    sizes: tuple[int, ...],
    flows: int,
    load: Load,
    legs: tuple[LegTraffic, ...],
    window: Window,
    losses: list[Line],
    aside: tuple[Line, ...],
    runner: LegRunner,
) -> TrialTraffic:
    """Put the legs of one trial together."""
    trial = total_of([leg.tally(trial_only=True) for leg in legs])
    whole = total_of([leg.tally(trial_only=False) for leg in legs])
    latency = legs[0].sink.latency
    for leg in legs[1:]:
        latency = latency.merged(leg.sink.latency)
    limits = [leg.limits() for leg in legs]
    return TrialTraffic(
        path=path,
        sizes=sizes,
        flows=flows,
        load=load,
        duration_ns=window.stop_ns - window.count_from_ns,
        warm_up_ns=window.count_from_ns - window.start_ns,
        trial=trial,
        whole=whole,
        latency=latency,
        ledger=Ledger(
            offered=whole.offered, delivered=whole.delivered, lines=tuple(losses), aside=aside
        ),
        legs=legs,
        clock_step_ns=window.clock_step_ns,
        generator_limited=_joined([limit[0] for limit in limits]),
        sink_limited=_joined([limit[1] for limit in limits]),
        cpus=dict(runner.granted),
        scheduling={
            "generator": "; ".join(sorted({leg.generator.scheduling for leg in legs})),
            "sink": runner.sink_scheduling,
        },
        steps=_steps(load, legs, window),
    )


def _steps(load: Load, legs: tuple[LegTraffic, ...], window: Window) -> tuple[StepTraffic, ...]:
    """What came of each step, all legs together."""
    count = len(load.steps_pps)
    trial_ns = window.stop_ns - window.count_from_ns
    found = []
    for number, rate_pps in enumerate(load.steps_pps):
        latency = legs[0].sink.steps[number]
        for leg in legs[1:]:
            latency = latency.merged(leg.sink.steps[number])
        found.append(
            StepTraffic(
                rate_pps=rate_pps,
                duration_ns=trial_ns * (number + 1) // count - trial_ns * number // count,
                offered=sum(leg.generator.offered_by_step[number] * leg.copies for leg in legs),
                delivered=latency.count,
                latency=latency,
            )
        )
    return tuple(found)


def total_of(tallies: list[Tally]) -> Tally:
    """All of them together."""
    total = tallies[0]
    for tally in tallies[1:]:
        total = total.plus(tally)
    return total


def _joined(reasons: list[str | None]) -> str | None:
    return "; ".join(reason for reason in reasons if reason) or None
