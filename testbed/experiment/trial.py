"""Trials on a bench: nodes restarted per variant, watched, offered traffic, and accounted for.

A bench holds one measured point of a scenario. Must not know which trials there are, nor what is
made of them.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from typing import Final, Self

from testbed import results
from testbed.errors import Lacking
from testbed.experiment.callcounting import CallCounting
from testbed.experiment.nodetotal import together
from testbed.experiment.nodewatch import NodeGone, NodeWatch
from testbed.experiment.outcome import (
    CLOCK_STEP_NS,
    ledger_of,
    marks_of,
    search_trial_of,
    traffic_of,
)
from testbed.experiment.pinning import Pins
from testbed.experiment.ratesearch import Found, SearchBroken, search
from testbed.experiment.rigs import NodeNotReady, make_rig
from testbed.experiment.trialplan import PlannedSearch, PlannedTrial
from testbed.launch.client import NodeStatus
from testbed.rundir import last_words
from testbed.running import agent_control
from testbed.running.agent_control import Told
from testbed.running.joining import describe_exit
from testbed.running.running import Running
from testbed.scenario.model import FrameSize, Point, Scenario, Searching
from testbed.traffic import scheduling
from testbed.traffic.errors import NotForwarding
from testbed.traffic.rival import RivalSpec
from testbed.traffic.trial import Load, TrialTraffic
from testbed.traffic.worker import Worker

_READY_S: Final = 5.0


class Bench:
    """A testbed that is up, with something to be tested and the tester. Context manager."""

    def __init__(self, scenario: Scenario, point: Point, *, testbed: str, pins: Pins) -> None:
        """Bring the scenario's topology up under the name `testbed`."""
        self._scenario = scenario
        self._point = point
        self._pins = pins
        self._joined: FrameSize | None = None
        self._variant: str | None = None
        self._counting = CallCounting()
        self.notes: dict[str, None] = {}
        self._rival: Worker | None = None
        self._rig = make_rig(scenario.topology, point, testbed=testbed, pins=pins)
        if point.node_cpu < 1:
            try:
                self._begin_rival(point.node_cpu)
            except BaseException:
                self.close()
                raise

    def _begin_rival(self, share: float) -> None:
        """Have somebody take the rest of the nodes' CPU.

        :raises Lacking: that cannot be done here.
        """
        if set(self._pins.node) & set(self._pins.tester_cpus):
            raise Lacking("node_cpu needs a CPU without the tester", "run it on two CPUs or more")
        self._rival = Worker("rival")
        try:
            self._rival.call("open", RivalSpec(cpus=self._pins.node, share=share))
        except OSError as error:
            raise Lacking(
                f"node_cpu needs real-time scheduling ({error.strerror})",
                "run it with CAP_SYS_NICE",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def close(self) -> None:
        """End the tester and take the testbed down; twice is fine."""
        with ExitStack() as stack:
            stack.callback(self._rig.close)
            if self._rival is not None:
                stack.callback(self._rival.close)
            stack.callback(self._counting.close)

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
            nodes = self._start(planned.variant) if fresh else self._alive()
            self._join(planned.frame_bytes)
            watches = [self._watch(status, planned) for status in nodes]
            with ExitStack() as stack:
                for watch in watches:
                    stack.enter_context(watch)
                traffic = self._offer(planned, watches, warm_up_s=warm_up_s)
                for watch in watches:
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
            ledger = ledger_of(traffic, {watch.name: watch.drops() for watch in watches})
            marks += marks_of(traffic, ledger)
            self._note_clock(traffic, planned)
            self._note_scheduling(traffic)
        return results.Trial(
            id=planned.id,
            phase=planned.pass_,
            point=planned.point,
            load=planned.load,
            frame_bytes=planned.frame_bytes,
            variant=planned.variant,
            pair=planned.pair,
            started_s=started_s,
            traffic=None if traffic is None else traffic_of(traffic, planned.frame_bytes),
            ledger=ledger,
            node=node,
            machine=watches[0].machine() if watches else [],
            marks=marks,
        )

    def search(
        self, planned: PlannedSearch, wanted: Searching, *, warm_up_s: float, started_s: float
    ) -> results.Search:
        """Search for the lossless rates of one life of a node. What goes wrong with it is told."""
        begun = time.monotonic()
        try:
            self._start(planned.variant)
            self._join(planned.frame_bytes)
            found = search(wanted, partial(self._attempt, warm_up_s=warm_up_s))
        except (NodeNotReady, NotForwarding) as error:
            why = "; ".join(marked.why for marked in self._deaths()) or str(error)
            found = Found(bounds=(), trials=(), ended="failed", why=why)
        return results.Search(
            id=planned.id,
            point=planned.point,
            frame_bytes=planned.frame_bytes,
            variant=planned.variant,
            pair=planned.pair,
            started_s=started_s,
            elapsed_s=round(time.monotonic() - begun, 3),
            bounds=list(found.bounds),
            trials=list(found.trials),
            ended=found.ended,
            why=found.why,
        )

    def _attempt(
        self, rate_pps: float, duration_s: float, *, warm_up_s: float
    ) -> results.SearchTrial:
        """One trial of a search.

        :raises SearchBroken: a node under test is not there any more.
        """
        made = self._rig.offer(Load(rate_pps=rate_pps), duration_s=duration_s, warm_up_s=warm_up_s)
        self._note_scheduling(made)
        if deaths := self._deaths():
            raise SearchBroken("; ".join(marked.why for marked in deaths))
        return search_trial_of(made)

    def _start(self, name: str) -> list[NodeStatus]:
        """Every node under test started anew, with the settings of the variant of that name."""
        variant = next(v for v in self._scenario.variants if v.name == name)
        self._joined = None
        self._variant = name
        self._counting.forget()
        for node in self._point.nodes:
            status = self.running.restart(
                node,
                variant.settings(self._scenario.topology.node(node)),
                cpus=self._pins.node,
                wait_s=_READY_S,
            )
            if status.state != "ready":
                why = status.state if status.alive else describe_exit(status)
                raise NodeNotReady(self._say(node, f"{node}: {why}"))
        return self._alive()

    def _alive(self) -> list[NodeStatus]:
        status = self.running.status()
        for name in self._point.nodes:
            if not status[name].alive:
                raise NodeNotReady(self._say(name, f"{name} has exited"))
        return [status[name] for name in self._point.nodes]

    def _join(self, frame_bytes: FrameSize) -> None:
        if self._joined != frame_bytes:
            self._rig.join(frame_bytes=frame_bytes, flows=self._scenario.flows)
            self._joined = frame_bytes

    def _watch(self, status: NodeStatus, planned: PlannedTrial) -> NodeWatch:
        name, run = status.name, self.running.run

        def ask() -> Told:
            return agent_control.ask_stats(run, [name])[name]

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
        level = self._scenario.load(planned.load)
        load = Load(rate_pps=level.rate_pps, burst=level.burst, steps_pps=level.steps_pps)

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
        """Which nodes under test died, and how.

        One that was not ready in time was stopped for that; it has not died.
        """
        status = self.running.status()
        marks = []
        for name in self._point.nodes:
            node = status.get(name)
            if node is None or node.alive or node.asked:
                continue
            mark: results.Mark = "node-died" if node.error is None else "failed"
            why = self._say(name, f"{name}: {describe_exit(node)}")
            marks.append(results.Marked(mark=mark, why=why))
        return marks

    def _say(self, name: str, what: str) -> str:
        return what + last_words(self.running.run.last_log_line(name))

    def _note_scheduling(self, made: TrialTraffic) -> None:
        self.notes.update(dict.fromkeys(scheduling.refusals(made.scheduling)))

    def _note_clock(self, made: TrialTraffic, planned: PlannedTrial) -> None:
        if abs(made.clock_step_ns) > CLOCK_STEP_NS:
            self.notes[
                f"the wall clock was set by {made.clock_step_ns / 1e6:.0f} ms during trial "
                f"{planned.id}: it has no latency"
            ] = None
