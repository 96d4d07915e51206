"""Trials on a bench: nodes restarted per variant, watched, offered traffic, and accounted for.

A bench holds one measured point of a scenario. Must not know which trials there are, nor what is
made of them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Final, Self

from testbed import results
from testbed.experiment.callcounting import CallCounting
from testbed.experiment.nodetotal import together
from testbed.experiment.nodewatch import NodeGone, NodeWatch
from testbed.experiment.rigs import NodeNotReady, Pins, make_rig
from testbed.experiment.trialplan import PlannedTrial
from testbed.launch.client import NodeStatus
from testbed.measure.ledger import SEEN_BY_LINK, Ledger, Line
from testbed.running import agent_control
from testbed.running.joining import describe_exit
from testbed.running.running import Running
from testbed.scenario.model import Point, Scenario
from testbed.traffic.errors import NotForwarding
from testbed.traffic.trial import Load, TrialTraffic

LOWER_BOUND_LOSS: Final = 0.005
"""At maximum load, a node that lost no more than this share was not the limit: the tester was."""
OPEN_LEDGER: Final = 0.001
"""Beyond this share of the offered frames what no counter explains is worth a mark."""
_READY_S: Final = 5.0
_CLOCK_STEP_NS: Final = 1_000_000
_LINK_CAUSES: Final = frozenset(
    f"{side}{cause}" for side in ("", "wire_", "tap_") for cause in SEEN_BY_LINK
)


class Bench:
    """A testbed that is up, with something to be tested and the tester. Context manager."""

    def __init__(self, scenario: Scenario, point: Point, *, testbed: str, pins: Pins) -> None:
        """Bring the scenario's topology up under the name `testbed`."""
        self._scenario = scenario
        self._point = point
        self._pins = pins
        self._joined: int | None = None
        self._variant: str | None = None
        self._counting = CallCounting()
        self.notes: dict[str, None] = {}
        self._rig = make_rig(scenario.topology, point, testbed=testbed, pins=pins)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def close(self) -> None:
        """End the tester and take the testbed down; twice is fine."""
        try:
            self._counting.close()
        finally:
            self._rig.close()

    @property
    def running(self) -> Running:
        """The testbed."""
        return self._rig.running

    def run(self, planned: PlannedTrial, *, warm_up_s: float, started_s: float) -> results.Trial:
        """Run one trial. What goes wrong with a node is in the trial's marks, never raised."""
        marks: list[results.Marked] = []
        traffic: TrialTraffic | None = None
        watches: list[NodeWatch] = []
        try:
            # A run that goes on after an interruption may have to begin in the middle of a life.
            fresh = planned.fresh or planned.variant != self._variant
            nodes = self._start(planned) if fresh else self._alive()
            self._join(planned)
            watches = [self._watch(status, planned) for status in nodes]
            with ExitStack() as stack:
                for watch in watches:
                    stack.enter_context(watch)
                traffic = self._offer(planned, watches, warm_up_s=warm_up_s)
                for watch in watches:
                    # A node of which nothing comes may still have much before it.
                    watch.wait_idle()
                    watch.finish()
        except (NodeNotReady, NodeGone, NotForwarding) as error:
            marks += self._deaths() or [results.Marked(mark="failed", why=str(error))]
        else:
            marks += self._deaths()
        for watch in watches:
            self.notes.update(dict.fromkeys(watch.lacking))
        node = None if marks or not watches else together([watch.counts() for watch in watches])
        ledger = None
        if traffic is not None:
            ledger = _ledger(traffic, {watch.name: watch.drops() for watch in watches})
            marks += _marks(traffic, ledger)
        return results.Trial(
            id=planned.id,
            phase=planned.pass_,
            point=planned.point,
            load=planned.load,
            frame_bytes=planned.frame_bytes,
            variant=planned.variant,
            pair=planned.pair,
            started_s=started_s,
            traffic=None if traffic is None else self._traffic(traffic, planned),
            ledger=ledger,
            node=node,
            machine=watches[0].machine() if watches else [],
            marks=marks,
        )

    def _start(self, planned: PlannedTrial) -> list[NodeStatus]:
        """Every node under test started anew, with the variant's settings."""
        variant = next(v for v in self._scenario.variants if v.name == planned.variant)
        self._joined = None
        self._variant = planned.variant
        self._counting.forget()
        for name in self._point.nodes:
            status = self.running.restart(
                name,
                variant.settings(self._scenario.topology.node(name)),
                cpus=self._pins.node,
                wait_s=_READY_S,
            )
            if status.state != "ready":
                why = status.state if status.alive else describe_exit(status)
                raise NodeNotReady(self._say(name, f"{name}: {why}"))
        return self._alive()

    def _alive(self) -> list[NodeStatus]:
        status = self.running.status()
        for name in self._point.nodes:
            if not status[name].alive:
                raise NodeNotReady(self._say(name, f"{name} has exited"))
        return [status[name] for name in self._point.nodes]

    def _join(self, planned: PlannedTrial) -> None:
        if self._joined != planned.frame_bytes:
            self._rig.join(frame_bytes=planned.frame_bytes, flows=self._scenario.flows)
            self._joined = planned.frame_bytes

    def _watch(self, status: NodeStatus, planned: PlannedTrial) -> NodeWatch:
        name, run = status.name, self.running.run

        def ask() -> Mapping[str, Any] | None:
            return agent_control.ask(run, [name], {"cmd": "stats"})[name]

        return NodeWatch(
            name,
            status.pid,
            ask,
            count_calls=self._counting if planned.pass_ == "counting" else None,
            clock=time.monotonic_ns,
        )

    def _offer(
        self, planned: PlannedTrial, watches: list[NodeWatch], *, warm_up_s: float
    ) -> TrialTraffic:
        load = Load(rate_pps=self._scenario.load(planned.load).rate_pps)

        def start() -> None:
            for watch in watches:
                watch.start()

        def end() -> None:
            for watch in watches:
                watch.end()

        if planned.pass_ == "counting":
            # Over the whole stretch, idle to idle, so that kernel and node count the same calls.
            start()
            traffic = self._rig.offer(load, duration_s=planned.duration_s)
            for watch in watches:
                watch.wait_idle()
            end()
            return traffic
        return self._rig.offer(
            load,
            duration_s=planned.duration_s,
            warm_up_s=warm_up_s,
            at_start=start,
            at_end=end,
        )

    def _deaths(self) -> list[results.Marked]:
        """Which nodes under test died, and how."""
        status = self.running.status()
        marks = []
        for name in self._point.nodes:
            node = status.get(name)
            if node is None or node.alive or node.asked:
                continue
            how = (
                f"was killed by signal {-node.exit_status}"
                if node.exit_status is not None and node.exit_status < 0
                else f"ended with status {node.exit_status}"
            )
            marks.append(results.Marked(mark="node-died", why=self._say(name, f"{name} {how}")))
        return marks

    def _say(self, name: str, what: str) -> str:
        line = self.running.run.last_log_line(name)
        return what + (f"; its log ends with: {line}" if line else "")

    def _traffic(self, made: TrialTraffic, planned: PlannedTrial) -> results.Traffic:
        trial, busy = made.trial, made.busy()
        stepped = abs(made.clock_step_ns) > _CLOCK_STEP_NS
        if stepped:
            self.notes[
                f"the wall clock was set by {made.clock_step_ns / 1e6:.0f} ms during trial "
                f"{planned.id}: it has no latency"
            ] = None
        return results.Traffic(
            intended_pps=made.load.rate_pps,
            frame_bytes=planned.frame_bytes,
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
            latency=None if stepped else _latency(made),
        )


def _latency(made: TrialTraffic) -> results.Latency | None:
    histogram = made.latency
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


def _ledger(traffic: TrialTraffic, drops: Mapping[str, Mapping[str, int] | None]) -> results.Ledger:
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


def _marks(traffic: TrialTraffic, ledger: results.Ledger | None) -> list[results.Marked]:
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
