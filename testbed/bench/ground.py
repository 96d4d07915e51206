"""The ground on which everything that forwards is measured alike: one wire, one node, the tester.

The node's place is empty until a forwarder takes it for one trial. Must not know what forwards, nor
what is made of the counts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Final, Protocol, Self

from testbed.experiment.pinning import choose_pins
from testbed.measure.cpu import allowed_cpus
from testbed.measure.latency import Histogram
from testbed.running import lifecycle
from testbed.running.running import Running
from testbed.topology.loader import load_topology
from testbed.topology.model import RADIO_INTERFACE, TAP_INTERFACE
from testbed.traffic.paths import Cast, Path, Traffic
from testbed.traffic.peer import NodeUnderTest, Tester
from testbed.traffic.place import Place, Surface
from testbed.traffic.trial import Load, TrialTraffic

NODE: Final = "obu1"
PEER: Final = "rsu1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What a forwarder has used so far; None where that cannot be told.

    `calls` are its data-plane system calls by name, as it counts them itself. `switches` are the
    times that it gave up the CPU. `extra` is what only some have, such as waits.
    """

    cpu_ns: int | None = None
    run_delay_ns: int | None = None
    switches: int | None = None
    calls: Mapping[str, int] | None = None
    extra: Mapping[str, int] = field(default_factory=dict)


Read = Callable[[bool], Reading]
"""True where what is counted begins with the reading, False where it ends before it."""


class Forwarder(Protocol):
    """Something that can take the node's place."""

    def forwarding(self, ground: Ground, way: Path) -> AbstractContextManager[Read]:
        """Forward on that way for as long as the context lasts; gives what reads its counts.

        :raises TestbedError: it cannot.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One trial: the tester's counts, and what was used over exactly the trial phase."""

    traffic: TrialTraffic
    used: Reading

    @property
    def pps(self) -> float:
        """Delivered packets a second."""
        return self.traffic.delivered_pps or 0.0

    @property
    def delivered(self) -> int:
        return self.traffic.trial.delivered

    @property
    def latency(self) -> Histogram:
        return self.traffic.latency


class Ground:
    """A wire between the tester and the node's namespace. Context manager."""

    def __init__(self, name: str = "bench") -> None:
        """Bring it up under a name of its own.

        :raises Lacking: rights or limits do not suffice.
        """
        self.pins, self.note = choose_pins(allowed_cpus())
        self._affinity = os.sched_getaffinity(0)
        self.cast = Cast.of(3)
        topology = replace(load_topology("pair"), name=f"{name}-{os.getpid()}")
        self.running: Running = lifecycle.up(topology, agents=())
        self._tester: Tester | None = None
        try:
            # Whoever reads counts must not run where the node does.
            tester_cpus = {*(self.pins.tester.generator or ()), *(self.pins.tester.sink or ())}
            os.sched_setaffinity(0, tester_cpus)
            node = topology.node(NODE)
            self.node = NodeUnderTest(
                kind=node.kind,
                mac=node.mac,
                netns=self.running.netns(NODE),
                radio=RADIO_INTERFACE,
                tap=TAP_INTERFACE,
            )
            self.peer = Place(
                netns=self.running.netns(PEER), ifname=RADIO_INTERFACE, surface=Surface.WIRE
            )
            self._tester = Tester(self.node, wire=self.peer, cpus=self.pins.tester, cast=self.cast)
        except BaseException:
            self.close()
            raise

    @property
    def tap_mtu(self) -> int:
        """The MTU that the node's TAP is to have."""
        return self.running.topology.node(NODE).settings.mtu

    @property
    def node_cpus(self) -> tuple[int, ...]:
        """Where the forwarder runs, alone if there are two CPUs."""
        return self.pins.node

    def trial(
        self,
        forwarder: Forwarder,
        way: Path,
        load: Load,
        *,
        duration_s: float,
        warm_up_s: float,
        frame_bytes: int,
    ) -> Sample:
        """Put `forwarder` in the node's place, offer `load`, and take it away again.

        :raises NotForwarding: nothing, or not everything, comes through even gently.
        :raises TestbedError: the forwarder cannot work.
        """
        assert self._tester is not None
        readings: list[Reading] = []
        with forwarder.forwarding(self, way) as read:
            self._tester.prepare(Traffic(path=way, sizes=(frame_bytes,)))
            traffic = self._tester.run(
                load,
                duration_s=duration_s,
                warm_up_s=warm_up_s,
                at_start=lambda: readings.append(read(True)),
                at_end=lambda: readings.append(read(False)),
            )
        before, after = readings
        return Sample(traffic=traffic, used=_since(after, before))

    def close(self) -> None:
        """Take everything down; twice is fine."""
        os.sched_setaffinity(0, self._affinity)
        try:
            if self._tester is not None:
                self._tester.close()
                self._tester = None
        finally:
            self.running.close()
            lifecycle.down(self.running.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _since(after: Reading, before: Reading) -> Reading:
    def difference(now: int | None, then: int | None) -> int | None:
        return None if now is None or then is None else now - then

    calls = None
    if after.calls is not None and before.calls is not None:
        calls = {name: n - before.calls.get(name, 0) for name, n in after.calls.items()}
    return Reading(
        cpu_ns=difference(after.cpu_ns, before.cpu_ns),
        run_delay_ns=difference(after.run_delay_ns, before.run_delay_ns),
        switches=difference(after.switches, before.switches),
        calls=calls,
        extra={name: n - before.extra.get(name, 0) for name, n in after.extra.items()},
    )
