"""The tester of a path: applications behind the TAPs of two nodes, real nodes all the way.

Traffic goes into one node's TAP and must come out of the other's, whatever lies between: what a
user of the network would feel. Must not know the nodes between, how they are built or started.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Literal

from agent.linux import netif
from testbed.kernel.netns import run_in
from testbed.measure import ledger
from testbed.measure.ledger import Line, WireEnd
from testbed.measure.places import LinkCounts
from testbed.traffic import frames, paths
from testbed.traffic.assembly import link_change, sink_lines
from testbed.traffic.legs import Callback, LegRunner, Route, TesterCpus
from testbed.traffic.place import Place, Surface
from testbed.traffic.tester import Counts, LegTester, Tested
from testbed.traffic.trial import LegTraffic

Direction = Literal["forth", "back", "both"]

PREPARE_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class PathNode:
    """A node on the way, as seen from outside: its namespace, its radio, its TAP."""

    name: str
    netns: str
    radio: str = "radio0"
    tap: str = "tap0"


@dataclass(frozen=True, kw_only=True, slots=True)
class PathPrepared:
    """The path passes the traffic on: it took `waited_s` and `rounds` rounds of probes."""

    waited_s: float
    rounds: int


class PathTester(LegTester):
    """Tests the way from the applications of node `a` to those of node `b`. Context manager.

    `between` are the other nodes whose losses the ledger should show; losses at nodes that are not
    named stay unexplained.
    """

    def __init__(
        self,
        a: PathNode,
        b: PathNode,
        *,
        between: Sequence[PathNode] = (),
        direction: Direction = "forth",
        cpus: TesterCpus | None = None,
    ) -> None:
        """Start the tester's processes; nothing is sent yet."""
        super().__init__(LegRunner(2 if direction == "both" else 1, cpus or TesterCpus()))
        self._a, self._b = a, b
        self._nodes = (a, *between, b)
        self._direction: Direction = direction
        self._sizes: tuple[int, ...] = ()
        self._flows = 0

    def prepare(
        self,
        *,
        sizes: Sequence[int] = (frames.DEFAULT_FRAME_BYTES,),
        flows: int = 1,
        timeout_s: float = PREPARE_TIMEOUT_S,
        nudge: Callback | None = None,
    ) -> PathPrepared:
        """Wait until the path demonstrably passes such traffic on, in every direction asked for.

        :raises InputError: a TAP cannot carry such frames.
        :raises NotForwarding: it did not within `timeout_s`; says what is missing.
        :raises OSError: an interface is not there.
        """
        for node in (self._a, self._b):
            mtu = run_in(node.netns, partial(netif.mtu, node.tap))
            frames.check_sizes(sizes, mtu=mtu)
        here, there = _tap(self._a), _tap(self._b)
        ends = [(here, there), (there, here)]
        if self._direction != "both":
            ends = ends[:1] if self._direction == "forth" else ends[1:]
        self._legs.open(
            [
                Route(
                    leg=paths.tap_leg(sizes, flows, name=number),
                    inject=inject,
                    collect=collect,
                    # The far host speaks first, so that the network learns where it is.
                    lesson_places=((Surface.TAP, collect),),
                )
                for number, (inject, collect) in enumerate(ends)
            ]
        )
        self._legs.teach()
        waited, rounds = self._legs.wait_for_passage(timeout_s=timeout_s, nudge=nudge)
        self._sizes, self._flows = tuple(sizes), flows
        return PathPrepared(waited_s=waited, rounds=rounds)

    def _prepared(self) -> Tested | None:
        if not self._sizes:
            return None
        path = f"{self._a.name} to {self._b.name}, {self._direction}"
        return Tested(path=path, sizes=self._sizes, flows=self._flows)

    def _namespaces(self) -> Iterable[str]:
        return [node.netns for node in self._nodes]

    def _losses(self, legs: tuple[LegTraffic, ...], before: Counts, after: Counts) -> list[Line]:
        lines: list[Line] = []
        radios: dict[str, LinkCounts] = {}
        refused = self._refused(legs)
        for node in self._nodes:
            now, then = after[node.netns], before[node.netns]
            radio = radios[node.name] = link_change(now, then, node.radio)
            tap = link_change(now, then, node.tap)
            lines += ledger.tap_lines(f"{node.name}'s TAP", tap, refused=refused.get(node.name, 0))
            lines += ledger.wire_lines(
                WireEnd(
                    place=f"{node.name}'s radio",
                    # Whose frames it did not take is not known here; settled below for all.
                    counts=replace(radio, rx_dropped=0),
                    socket_drops=now.socket_drops(node.radio, ledger.NODE_PROTOCOL, then),
                )
            )
        arrived = sum(radio.rx_dropped for radio in radios.values())
        not_taken = sum(radio.tx_dropped for radio in radios.values())
        lines += ledger.lines_of(
            "radios of the path", {"nobody listening": max(0, arrived - not_taken)}
        )
        return [*lines, *sink_lines(legs)]

    def _refused(self, legs: tuple[LegTraffic, ...]) -> dict[str, int]:
        senders = [self._b] if self._direction == "back" else [self._a, self._b]
        found: dict[str, int] = {}
        for node, leg in zip(senders, legs, strict=False):
            found[node.name] = sum(leg.generator.refused.values())
        return found


def _tap(node: PathNode) -> Place:
    return Place(netns=node.netns, ifname=node.tap, surface=Surface.TAP)
