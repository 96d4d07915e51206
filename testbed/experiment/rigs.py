"""The two ways to put nodes between a generator and a sink: one node alone, or a whole path.

A rig knows what is under test, how that is joined to the traffic, and how traffic is offered. Must
not know trials, variants or what is made of the counts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

from testbed.errors import TestbedError
from testbed.experiment.pinning import Pins
from testbed.measure import family, idleness
from testbed.running import agent_control, lifecycle
from testbed.running.running import Running
from testbed.scenario.model import FrameSize, Point
from testbed.topology.model import RADIO_INTERFACE, TAP_INTERFACE, Topology
from testbed.traffic.frames import IMIX
from testbed.traffic.legs import Callback
from testbed.traffic.path import PathNode, PathTester
from testbed.traffic.paths import Path, Traffic
from testbed.traffic.peer import PREPARE_TIMEOUT_S, NodeUnderTest, Tester
from testbed.traffic.place import Place, Surface
from testbed.traffic.trial import Load, TrialTraffic

_JOIN_S = 5.0


class NodeNotReady(TestbedError):
    """A node under test did not start, died at once, or did not join."""


class Rig(ABC):
    """A testbed that is up, with its tester beside it."""

    _tester: Tester | PathTester | None = None
    _up: Running | None = None

    @property
    def running(self) -> Running:
        """The testbed."""
        assert self._up is not None
        return self._up

    @abstractmethod
    def join(self, *, frame_bytes: FrameSize, flows: int) -> None:
        """Wait until what is under test passes such traffic on.

        :raises NotForwarding: it did not. :raises NodeNotReady: a node did not even join.
        """

    def offer(
        self,
        load: Load,
        *,
        duration_s: float,
        warm_up_s: float = 0.0,
        at_start: Callback | None = None,
        at_end: Callback | None = None,
    ) -> TrialTraffic:
        """Offer traffic and account for all of it; call-backs at the ends of the trial phase.

        Returns once every node has worked off what it was given, or after two seconds of waiting:
        one that was kept from running has not lost what is still before it.
        """
        assert self._tester is not None
        return self._tester.run(
            load,
            duration_s=duration_s,
            warm_up_s=warm_up_s,
            at_start=at_start,
            at_end=at_end,
            at_rest=self._wait_idle,
        )

    def _wait_idle(self) -> None:
        nodes = [node.pid for node in self.running.status().values() if node.alive]
        idleness.wait_idle(family.members_of_all(nodes))

    def close(self) -> None:
        """End the tester and take the testbed down; twice is fine."""
        try:
            if self._tester is not None:
                self._tester.close()
                self._tester = None
        finally:
            if self._up is not None:
                name = self._up.name
                self._up.close()
                self._up = None
                lifecycle.down(name)


def make_rig(topology: Topology, point: Point, *, testbed: str, pins: Pins) -> Rig:
    """Bring `topology` up under the name `testbed` for what `point` measures."""
    named = replace(topology, name=testbed)
    return _NodeRig(named, point, pins) if point.ends is None else _PathRig(named, point, pins)


def _sizes(frame_bytes: FrameSize) -> tuple[int, ...]:
    """The sizes that frames have in turn."""
    return IMIX if frame_bytes == "imix" else (frame_bytes,)


class _NodeRig(Rig):
    """One node; the tester takes a neighbour's place, and no other node runs."""

    def __init__(self, topology: Topology, point: Point, pins: Pins) -> None:
        (name,) = point.nodes
        node = topology.node(name)
        assert point.tester_at is not None
        self._name = name
        self._path = Path(point.path)
        self._up = lifecycle.up(topology, agents=())
        try:
            self._tester: Tester | None = Tester(
                NodeUnderTest(
                    kind=node.kind,
                    mac=node.mac,
                    netns=self.running.netns(name),
                    radio=RADIO_INTERFACE,
                    tap=TAP_INTERFACE,
                ),
                wire=Place(
                    netns=self.running.netns(point.tester_at),
                    ifname=RADIO_INTERFACE,
                    surface=Surface.WIRE,
                ),
                cpus=pins.tester,
            )
        except BaseException:
            self.close()
            raise

    def join(self, *, frame_bytes: FrameSize, flows: int) -> None:
        assert self._tester is not None
        traffic = Traffic(path=self._path, sizes=_sizes(frame_bytes), flows=flows)
        timeout_s = self.running.patience_s(PREPARE_TIMEOUT_S)
        self._tester.prepare(traffic, timeout_s=timeout_s, nudge=self._nudge)

    def _nudge(self) -> None:
        """An RSU under test is asked for a heartbeat, which the tester's OBUs answer.

        A node that is dead will never pass anything on: there is no use in waiting for it.
        """
        if not self.running.status()[self._name].alive:
            raise NodeNotReady(f"{self._name} has exited")
        agent_control.ask_for_heartbeats(self.running.run, [self._name])


class _PathRig(Rig):
    """Real nodes all the way; the tester is the applications at both ends."""

    def __init__(self, topology: Topology, point: Point, pins: Pins) -> None:
        assert point.ends is not None
        every_node = {node.name: pins.node for node in topology.nodes}
        self._up = lifecycle.up(topology, cpus=every_node)
        try:
            a, b = (self._node(name) for name in point.ends)
            names = [node.name for node in topology.nodes if node.name not in point.ends]
            self._tester: PathTester | None = PathTester(
                a,
                b,
                between=[self._node(name) for name in names],
                direction=point.direction,
                cpus=pins.tester,
            )
        except BaseException:
            self.close()
            raise

    def join(self, *, frame_bytes: FrameSize, flows: int) -> None:
        assert self._tester is not None
        not_joined = self.running.wait_joined(_JOIN_S)
        if not_joined:
            raise NodeNotReady("; ".join(map(str, not_joined)))
        self._tester.prepare(sizes=_sizes(frame_bytes), flows=flows, nudge=self.running.nudge)

    def _node(self, name: str) -> PathNode:
        return PathNode(
            name=name,
            netns=self.running.netns(name),
            radio=RADIO_INTERFACE,
            tap=TAP_INTERFACE,
        )
