"""The tester of one node: it takes the places of the node's neighbours on the wire and of the
applications behind its TAP, and only the node itself is real (RFC 2544's device under test).

Generator, sink and the speaker of the protocol share CPUs with each other, never the node's. Must
not know how the node is built, started or configured: it sees the two ends of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from agent.linux import netif
from testbed.kernel.netns import run_in
from testbed.measure import ledger
from testbed.measure.ledger import Line, WireEnd
from testbed.traffic import frames, paths
from testbed.traffic.assembly import link_change, sink_lines
from testbed.traffic.legs import Callback, LegRunner, Route, TesterCpus
from testbed.traffic.paths import Cast, Leg, NodeKind, Path, Traffic
from testbed.traffic.place import Place, Surface
from testbed.traffic.speaker import SpeakerSpec, SpeakerStatus, speaker_spec
from testbed.traffic.tester import Counts, LegTester, Tested
from testbed.traffic.trial import LegTraffic, Load, TrialTraffic
from testbed.traffic.worker import Worker

DEFAULT_OBUS: Final = 3
DEFAULT_PERIOD_MS: Final = 500
PREPARE_TIMEOUT_S: Final = 15.0


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeUnderTest:
    """The node, as seen from outside.

    `radio` is its interface on the wire, in `netns`; the other end of that wire is the tester's.
    """

    kind: NodeKind
    mac: str
    netns: str
    radio: str = "radio0"
    tap: str = "tap0"


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """The node passes the traffic on: it took `waited_s` and `rounds` rounds of probes."""

    waited_s: float
    rounds: int
    speaker: SpeakerStatus


class Tester(LegTester):
    """Tests one node. Context manager.

    `wire` is the tester's end of the node's wire. `cast` are the peers it plays; by default an RSU
    and three OBUs with made-up addresses. `period_ms` is that of the heartbeats to an OBU under
    test.
    """

    __test__ = False  # no test case, whatever its name begins with

    def __init__(
        self,
        node: NodeUnderTest,
        *,
        wire: Place,
        cpus: TesterCpus | None = None,
        cast: Cast | None = None,
        period_ms: int = DEFAULT_PERIOD_MS,
    ) -> None:
        """Start the tester's processes; nothing is sent yet.

        :raises FileNotFoundError: a namespace is not there.
        """
        self._cpus = cpus or TesterCpus()
        super().__init__(LegRunner(1, self._cpus))
        self._node = node
        self._wire = wire
        self._tap = Place(netns=node.netns, ifname=node.tap, surface=Surface.TAP)
        self._cast = cast or Cast.of(DEFAULT_OBUS)
        self._period_ms = period_ms
        self._speaker: Worker | None = None
        self._spoken: SpeakerSpec | None = None
        self._traffic: Traffic | None = None
        self._leg: Leg | None = None

    def prepare(
        self,
        traffic: Traffic,
        *,
        timeout_s: float = PREPARE_TIMEOUT_S,
        nudge: Callback | None = None,
    ) -> Prepared:
        """Join the node and wait until it demonstrably passes `traffic` on.

        May be called again for other traffic, or after the node was restarted. `nudge` is called
        now and then while it does not pass: an RSU under test can be asked for a heartbeat there.

        :raises InputError: the node has no such path, or its TAP cannot carry such frames.
        :raises NotForwarding: it did not within `timeout_s`; says what is missing.
        :raises OSError: an interface is not there.
        """
        mtu = run_in(self._node.netns, lambda: netif.mtu(self._node.tap))
        frames.check_sizes(traffic.sizes, mtu=mtu)
        leg = self._leg
        if leg is None or traffic != self._traffic:
            # Its frames take longer to build than a node to start.
            leg = paths.node_leg(self._node.kind, self._node.mac, traffic, self._cast)
        self._speak()
        ends = {Surface.WIRE: self._wire, Surface.TAP: self._tap}
        route = Route(
            leg=leg,
            inject=ends[leg.inject],
            collect=ends[leg.collect],
            lesson_places=tuple(ends.items()),
        )
        self._legs.open([route])
        self._legs.teach()
        waited, rounds = self._legs.wait_for_passage(timeout_s=timeout_s, nudge=nudge)
        self._traffic, self._leg = traffic, leg
        return Prepared(waited_s=waited, rounds=rounds, speaker=self.spoken())

    def spoken(self) -> SpeakerStatus:
        """What was said to the node and heard from it so far, as its neighbours."""
        if self._speaker is None:
            raise RuntimeError("prepare comes first")
        status: SpeakerStatus = self._speaker.call("status")
        return status

    def quieten(self) -> None:
        """Fall silent on the wire: no more heartbeats and replies until the next `prepare`."""
        if self._speaker is not None:
            self._speaker.call("shut")
            self._spoken = None

    @property
    def pids(self) -> tuple[int, ...]:
        speaker = () if self._speaker is None else (self._speaker.pid,)
        return (*self._legs.pids, *speaker)

    def close(self) -> None:
        super().close()
        if self._speaker is not None:
            self._speaker.close()
            self._speaker = None

    def _speak(self) -> None:
        if self._speaker is None:
            self._speaker = Worker("speaker", cpus=self._cpus.sink)
        spec = speaker_spec(
            self._wire,
            node_mac=self._node.mac,
            rsu=self._cast.rsu if self._node.kind == "obu" else None,
            obus=self._cast.obus,
            period_ms=self._period_ms,
            cpus=self._cpus.sink,
        )
        if spec == self._spoken:
            # A node that was restarted should not have to wait for its turn.
            self._speaker.call("hello")
            return
        self._speaker.call("open", spec, timeout_s=30.0)
        self._spoken = spec

    def _prepared(self) -> Tested | None:
        traffic = self._traffic
        if traffic is None:
            return None
        return Tested(path=str(traffic.path), sizes=traffic.sizes, flows=traffic.flows)

    def _namespaces(self) -> Iterable[str]:
        return {self._wire.netns, self._node.netns}

    def _losses(self, legs: tuple[LegTraffic, ...], before: Counts, after: Counts) -> list[Line]:
        (traffic,) = legs
        leg = self._leg
        assert leg is not None
        node = self._node
        here, there = self._wire.netns, node.netns
        wire = link_change(after[here], before[here], self._wire.ifname)
        radio = link_change(after[there], before[there], node.radio)
        tap = link_change(after[there], before[there], node.tap)
        refused = sum(traffic.generator.refused.values())
        from_wire = leg.inject is Surface.WIRE
        drops = after[there].socket_drops(node.radio, ledger.NODE_PROTOCOL, before[there])
        at_wire = ledger.wire_lines(
            WireEnd(
                place="tester's wire",
                counts=wire,
                far=radio,
                refused=refused if from_wire else 0,
            )
        )
        at_radio = ledger.wire_lines(
            WireEnd(place="node's radio", counts=radio, far=wire, socket_drops=drops)
        )
        at_tap = ledger.tap_lines("node's TAP", tap, refused=0 if from_wire else refused)
        way_in, way_out = (at_wire, at_tap) if from_wire else (at_tap, at_wire)
        # Before the node has made its copies, one lost frame is as many deliveries missing.
        lines = ledger.times(way_in, leg.copies) + at_radio + way_out
        return [*lines, *sink_lines([traffic])]


__all__ = [
    "Cast",
    "Load",
    "NodeUnderTest",
    "Path",
    "Place",
    "Prepared",
    "Surface",
    "Tester",
    "TesterCpus",
    "Traffic",
    "TrialTraffic",
]
