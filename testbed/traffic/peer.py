"""The tester of one node: it takes the places of the node's neighbours on the wire and of the
applications behind its TAP, and only the node itself is real (RFC 2544's device under test).

Generator, sink and the speaker of the protocol share CPUs with each other, never the node's. Must
not know how the node is built, started or configured: it sees the two ends of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from agent.linux import netif
from testbed.kernel.netns import run_in
from testbed.measure import ledger, places
from testbed.measure.ledger import Line, WireEnd
from testbed.measure.places import NamespaceCounts
from testbed.traffic import frames, paths
from testbed.traffic.assembly import aside_lines, assembled, link_change, sink_lines
from testbed.traffic.legs import Callback, LegRunner, Route, TesterCpus
from testbed.traffic.paths import Cast, Leg, NodeKind, Path, Traffic
from testbed.traffic.place import Place, Surface
from testbed.traffic.speaker import SpeakerSpec, SpeakerStatus, speaker_spec
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


class Tester:
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
        self._node = node
        self._wire = wire
        self._tap = Place(netns=node.netns, ifname=node.tap, surface=Surface.TAP)
        self._cpus = cpus or TesterCpus()
        self._cast = cast or Cast.of(DEFAULT_OBUS)
        self._period_ms = period_ms
        self._speaker: Worker | None = None
        self._spoken: SpeakerSpec | None = None
        self._traffic: Traffic | None = None
        self._leg: Leg | None = None
        self._legs = LegRunner(1, self._cpus)

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

    def run(
        self,
        load: Load,
        *,
        duration_s: float,
        warm_up_s: float = 0.0,
        at_start: Callback | None = None,
        at_end: Callback | None = None,
        at_rest: Callback | None = None,
    ) -> TrialTraffic:
        """Offer `load` of the prepared traffic and account for all of it.

        `at_start` and `at_end` are called at the ends of the trial phase, `at_rest` before the
        sink stops (`LegRunner.run`). What the node itself counted as dropped, between before this
        call and after it, is still to be added to the ledger: `Ledger.with_node`.

        :raises WorkerDied: a process of the tester ended.
        """
        if self._traffic is None or self._leg is None:
            raise RuntimeError("prepare comes first")
        before = self._counts()
        legs, window = self._legs.run(
            load,
            duration_s=duration_s,
            warm_up_s=warm_up_s,
            at_start=at_start,
            at_end=at_end,
            at_rest=at_rest,
        )
        after = self._counts()
        (leg,) = legs
        return assembled(
            path=str(self._traffic.path),
            sizes=self._traffic.sizes,
            flows=self._traffic.flows,
            load=load,
            legs=legs,
            window=window,
            losses=self._losses(self._leg, leg, before, after),
            aside=aside_lines(legs),
            runner=self._legs,
        )

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
        """The process ids of the tester's workers."""
        speaker = () if self._speaker is None else (self._speaker.pid,)
        return (*self._legs.pids, *speaker)

    def close(self) -> None:
        """End the tester's processes; twice is fine."""
        self._legs.close()
        if self._speaker is not None:
            self._speaker.close()
            self._speaker = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

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

    def _counts(self) -> Mapping[str, NamespaceCounts]:
        return {
            name: places.namespace_counts(name) for name in {self._wire.netns, self._node.netns}
        }

    def _losses(
        self,
        leg: Leg,
        traffic: LegTraffic,
        before: Mapping[str, NamespaceCounts],
        after: Mapping[str, NamespaceCounts],
    ) -> list[Line]:
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
