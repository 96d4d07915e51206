"""One node between generator and sink: restarted per variant, and one trial after another.

A bench holds one measured point of a scenario. Must not know which trials there are, nor what is
made of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Self

from testbed import agent_control, lifecycle, results
from testbed.errors import TestbedError
from testbed.launch_client import NodeStatus
from testbed.measure.ledger import SEEN_BY_LINK, Ledger, Line
from testbed.model import RADIO_INTERFACE, TAP_INTERFACE
from testbed.nodewatch import NodeGone, NodeWatch
from testbed.running import Running
from testbed.scenario import Point, Scenario
from testbed.traffic.errors import NotForwarding
from testbed.traffic.legs import TesterCpus
from testbed.traffic.paths import Path, Traffic
from testbed.traffic.peer import NodeUnderTest, Tester
from testbed.traffic.place import Place, Surface
from testbed.traffic.trial import Load, TrialTraffic
from testbed.trialplan import PlannedTrial

LOWER_BOUND_LOSS: Final = 0.005
"""At maximum load, a node that lost no more than this share was not the limit: the tester was."""
OPEN_LEDGER: Final = 0.001
"""Beyond this share of the offered frames what no counter explains is worth a mark."""
_READY_S: Final = 5.0
_CLOCK_STEP_NS: Final = 1_000_000
_LINK_CAUSES: Final = frozenset(
    f"{side}{cause}" for side in ("", "wire_", "tap_") for cause in SEEN_BY_LINK
)


class NodeNotReady(TestbedError):
    """The node under test did not start, or died at once."""


class Bench:
    """A testbed that is up with one node to be tested and the tester beside it. Context manager."""

    def __init__(
        self,
        scenario: Scenario,
        point: Point,
        *,
        testbed: str,
        tester_cpus: TesterCpus,
        node_cpus: tuple[int, ...],
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Bring the topology up under the name `testbed`, without any agent."""
        self._scenario = scenario
        self._point = point
        self._node = scenario.topology.node(point.node)
        self._node_cpus = node_cpus
        self._testbed = testbed
        self._tester: Tester | None = None
        self._running: Running | None = None
        self._prepared: tuple[int, str] | None = None
        self.notes: dict[str, None] = {}
        try:
            progress("bringing the topology up")
            topology = replace(scenario.topology, name=testbed)
            self._running = lifecycle.up(topology, agents=())
            progress("starting the tester")
            self._tester = Tester(
                NodeUnderTest(
                    kind=self._node.kind,
                    mac=self._node.mac,
                    netns=self._running.netns(point.node),
                    radio=RADIO_INTERFACE,
                    tap=TAP_INTERFACE,
                ),
                wire=Place(
                    netns=self._running.netns(point.tester_at),
                    ifname=RADIO_INTERFACE,
                    surface=Surface.WIRE,
                ),
                cpus=tester_cpus,
            )
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def close(self) -> None:
        """End the tester and take the testbed down; twice is fine."""
        try:
            if self._tester is not None:
                self._tester.close()
                self._tester = None
        finally:
            if self._running is not None:
                self._running.close()
                self._running = None
                lifecycle.down(self._testbed)

    @property
    def running(self) -> Running:
        """The testbed."""
        assert self._running is not None
        return self._running

    def run(self, planned: PlannedTrial, *, warm_up_s: float, started_s: float) -> results.Trial:
        """Run one trial. What goes wrong with the node is in the trial's marks, never raised."""
        marks: list[results.Marked] = []
        traffic: TrialTraffic | None = None
        watch: NodeWatch | None = None
        try:
            status = self._start(planned) if planned.fresh else self._status()
            self._prepare(planned, fresh=planned.fresh)
            counting = planned.pass_ == "counting"
            watch = NodeWatch(status.pid, self._ask, count_calls=counting, clock=time.monotonic_ns)
            with watch:
                traffic = self._offer(planned, watch, warm_up_s=0.0 if counting else warm_up_s)
                watch.finish()
        except (NodeNotReady, NodeGone, NotForwarding) as error:
            marks.append(self._death() or results.Marked(mark="failed", why=str(error)))
        else:
            if (death := self._death()) is not None:
                marks.append(death)
        node = ledger = None
        if watch is not None:
            self.notes.update(dict.fromkeys(watch.lacking))
            node = None if marks else watch.counts()
        if traffic is not None:
            ledger = _ledger(traffic, None if watch is None else watch.drops())
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
            machine=[] if watch is None else watch.machine(),
            marks=marks,
        )

    def _start(self, planned: PlannedTrial) -> NodeStatus:
        variant = next(v for v in self._scenario.variants if v.name == planned.variant)
        self._prepared = None
        status = self.running.restart(
            self._node.name,
            variant.settings(self._node),
            cpus=self._node_cpus,
            wait_s=_READY_S,
        )
        if status.state != "ready":
            raise NodeNotReady(self._say(f"the node is {status.state}"))
        return status

    def _status(self) -> NodeStatus:
        status = self.running.status()[self._node.name]
        if not status.alive:
            raise NodeNotReady(self._say("the node has exited"))
        return status

    def _prepare(self, planned: PlannedTrial, *, fresh: bool) -> None:
        assert self._tester is not None
        wanted = (planned.frame_bytes, self._point.path)
        if not fresh and self._prepared == wanted:
            return
        self._tester.prepare(
            Traffic(
                path=Path(self._point.path),
                sizes=(planned.frame_bytes,),
                flows=self._scenario.flows,
            ),
            nudge=self._nudge,
        )
        self._prepared = wanted

    def _offer(self, planned: PlannedTrial, watch: NodeWatch, *, warm_up_s: float) -> TrialTraffic:
        """Counting is over the whole stretch, idle to idle, so that kernel and node agree."""
        assert self._tester is not None
        load = Load(rate_pps=self._scenario.load(planned.load).rate_pps)
        if planned.pass_ == "counting":
            watch.start()
            traffic = self._tester.run(load, duration_s=planned.duration_s)
            watch.end()
            return traffic
        return self._tester.run(
            load,
            duration_s=planned.duration_s,
            warm_up_s=warm_up_s,
            at_start=watch.start,
            at_end=watch.end,
        )

    def _ask(self) -> dict[str, object] | None:
        name = self._node.name
        return agent_control.ask(self.running.run, [name], {"cmd": "stats"})[name]

    def _nudge(self) -> None:
        """An RSU under test is asked for a heartbeat, so that the tester's OBUs can answer it."""
        agent_control.ask(self.running.run, [self._node.name], {"cmd": "hello"})

    def _death(self) -> results.Marked | None:
        """That the node died, if it did."""
        status = self.running.status().get(self._node.name)
        if status is None or status.alive or status.asked:
            return None
        how = (
            f"was killed by signal {-status.exit_status}"
            if status.exit_status is not None and status.exit_status < 0
            else f"ended with status {status.exit_status}"
        )
        return results.Marked(mark="node-died", why=self._say(f"the node {how}"))

    def _say(self, what: str) -> str:
        line = self.running.run.last_log_line(self._node.name)
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


def _ledger(traffic: TrialTraffic, drops: dict[str, int] | None) -> results.Ledger:
    ledger: Ledger = traffic.ledger
    if drops is not None:
        ledger = ledger.with_node("node", drops, seen_by_link=_LINK_CAUSES)
    return results.Ledger(
        offered=ledger.offered,
        delivered=ledger.delivered,
        lines=_lines(ledger.lines),
        aside=_lines(ledger.aside),
        node_told=ledger.node_told,
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
                why=f"{ledger.unexplained} of {ledger.offered} packets are unexplained",
            )
        )
    return marks
