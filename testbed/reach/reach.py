"""Who reaches whom: every node pings every other through the TAPs, IPv4 and IPv6, as a matrix.

The echo requests are our own (RFC 792, RFC 4443), sent from sockets inside the nodes' namespaces,
so that the nodes resolve addresses and answer as with any program. One thread, all nodes at once.
Must not know agents: a testbed of other programs is probed in the same way.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from itertools import combinations
from typing import Any, Final

from testbed.errors import TestbedError
from testbed.kernel import limits, netns
from testbed.kernel.neighbours import NeighbourTable
from testbed.reach.echo import Family
from testbed.reach.pinger import IN_FLIGHT, Pinger, Tally
from testbed.topology.model import TAP_INTERFACE, Topology

FAMILIES: Final[tuple[Family, ...]] = (4, 6)

_TABLE_SHARE: Final = 16
"""The couples of a batch fill at most this part of the neighbour table."""
_OPEN_BATCHES: Final = 12
"""So many batches may wait for last answers before the entries of the first are given back."""
_MANY: Final = 10_000
"""More requests than that are many."""
_ONE_BY_ONE: Final = 1000
"""So many requests, one after the other, take a second or two."""
_NOT_ASKED: Final = "not asked: nothing passed the other way"
_TABLE_SIZE: Final = 1024
"""gc_thresh3 where it cannot be read; the kernel's own default (arp(7))."""


def in_flight_for(requests: int) -> int:
    """How many to have under way at once where what a ping by hand shows is wanted.

    One, unless that would take too long.
    """
    return 1 if requests <= _ONE_BY_ONE else IN_FLIGHT


class ReachError(TestbedError):
    """The nodes could not be probed at all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairResult:
    """What became of the requests from `source` to `target`; times in microseconds.

    `error` is the last thing that kept a request from being sent, None if all were.
    """

    source: str
    target: str
    family: Family
    sent: int
    received: int
    rtt_min_us: float | None
    rtt_mean_us: float | None
    rtt_max_us: float | None
    error: str | None = None

    @property
    def reached(self) -> bool:
        """Whether any answer came."""
        return self.received > 0

    @property
    def loss(self) -> float | None:
        """The share of requests without an answer; None if there were none."""
        return (self.sent - self.received) / self.sent if self.sent else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Reachability:
    """All pairs of `nodes`, both directions, each of `families`; every pair has a result."""

    testbed: str
    nodes: tuple[str, ...]
    families: tuple[Family, ...]
    rounds: int
    in_flight: int
    seconds: float
    pairs: tuple[PairResult, ...]

    @property
    def complete(self) -> bool:
        """Whether every node reached every other in every family."""
        return all(pair.reached for pair in self.pairs)

    @property
    def unreached(self) -> tuple[PairResult, ...]:
        """The pairs without any answer."""
        return tuple(pair for pair in self.pairs if not pair.reached)

    @property
    def lossless(self) -> bool:
        """Whether every single request was answered."""
        return all(pair.received == pair.sent for pair in self.pairs)

    def matrix(self, family: Family) -> Mapping[tuple[str, str], PairResult]:
        """The results of one family by (source, target)."""
        return {(pair.source, pair.target): pair for pair in self.pairs if pair.family == family}

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        return {
            "testbed": self.testbed,
            "nodes": list(self.nodes),
            "families": list(self.families),
            "rounds": self.rounds,
            "in_flight": self.in_flight,
            "seconds": self.seconds,
            "complete": self.complete,
            "lossless": self.lossless,
            "pairs": [
                {
                    "source": pair.source,
                    "target": pair.target,
                    "family": pair.family,
                    "sent": pair.sent,
                    "received": pair.received,
                    "loss": pair.loss,
                    "rtt_min_us": pair.rtt_min_us,
                    "rtt_mean_us": pair.rtt_mean_us,
                    "rtt_max_us": pair.rtt_max_us,
                    "error": pair.error,
                }
                for pair in self.pairs
            ],
        }


def reach(
    topology: Topology,
    *,
    nodes: Collection[str] | None = None,
    families: Sequence[Family] = FAMILIES,
    rounds: int = 3,
    timeout_s: float = 1.0,
    in_flight: int = IN_FLIGHT,
    progress: Callable[[int, int], None] | None = None,
) -> Reachability:
    """Ping every pair of `nodes` (None: all) of a testbed that is up, `rounds` times each way.

    Two nodes between which nothing passes are asked twice. Among very many pairs one of the two is
    asked, once: an answer needs both directions, and each silence lasts for the whole timeout. An
    answer counts if it comes within `timeout_s`. With several requests `in_flight` nodes have
    batches before them, and the times contain the waiting for each other. `progress` is told how
    many requests of all are done.

    :raises ReachError: a node's namespace is not there.
    """
    begun = time.monotonic()
    names = [node.name for node in topology.nodes if nodes is None or node.name in nodes]
    namespaces = {name: netns.namespace_name(topology.name, name) for name in names}
    couples = [_Couple(topology, a, b, families) for a, b in combinations(names, 2)]
    total = rounds * len(families) * len(names) * (len(names) - 1)
    try:
        with (
            ExitStack() as stack,
            Pinger(namespaces, families, timeout_s=timeout_s, in_flight=in_flight) as pinger,
        ):
            asking = _Asking(couples, pinger, rounds=rounds, many=total > _MANY)
            asking.run(
                _Tables(topology.name, stack),
                told=lambda done: progress(done, total) if progress is not None else None,
            )
    except FileNotFoundError as error:
        raise ReachError(f"testbed {topology.name} is not up: no {error.filename}") from error
    return Reachability(
        testbed=topology.name,
        nodes=tuple(names),
        families=tuple(families),
        rounds=rounds,
        in_flight=in_flight,
        seconds=time.monotonic() - begun,
        pairs=tuple(_result(tally) for couple in couples for tally in couple.tallies),
    )


class _Couple:
    """Two nodes and what is asked between them, both ways and in all families."""

    def __init__(
        self, topology: Topology, one: str, other: str, families: Sequence[Family]
    ) -> None:
        self.tallies = [
            Tally(source=a, target=b, family=family, address=_address(topology, b, family))
            for a, b in ((one, other), (other, one))
            for family in families
        ]

    @property
    def answered(self) -> bool:
        return any(tally.times_us for tally in self.tallies)

    def in_turn(self, step: int) -> list[Tally]:
        """One direction first, then the other, then both: as many of each in the end."""
        half = len(self.tallies) // 2
        return {0: self.tallies[:half], 1: self.tallies[half:]}.get(step, self.tallies)


@dataclass(slots=True, eq=False)
class _Batch:
    """Couples that are asked together; `last` is the number of their last request so far."""

    couples: list[_Couple]
    step: int = 0
    last: int = -1


class _Asking:
    """Which batch of couples is asked next, until each has had all its rounds.

    A batch is asked again once its last answers have come or are too late; meanwhile others are.
    Of `many` requests one direction goes first, and alone where nothing passes.
    """

    def __init__(self, couples: list[_Couple], pinger: Pinger, *, rounds: int, many: bool) -> None:
        self._pinger = pinger
        self._many = many
        self._steps = rounds + many
        self._waiting = deque(_batches(couples))
        self._under_way: deque[_Batch] = deque()
        self._give_back = len(self._waiting) > 1
        self._done = 0

    def run(self, tables: _Tables, *, told: Callable[[int], None]) -> None:
        """Ask them all; `told` how many requests are done, as often as that changes."""
        while self._waiting or self._under_way:
            batch = self._next()
            if batch.step < self._steps:
                self._ask(batch)
                self._under_way.append(batch)
                told(self._done)
            elif self._give_back:
                tables.forget(batch.couples)

    def _next(self) -> _Batch:
        """One that has settled, else a new one if there may be, else the first that settles."""
        settled = self._under_way and self._pinger.settled(self._under_way[0].last)
        if not settled and self._waiting and len(self._under_way) < _OPEN_BATCHES:
            return _Batch(couples=self._waiting.popleft())
        batch = self._under_way.popleft()
        if not settled:
            self._pinger.settle(batch.last)
        return batch

    def _ask(self, batch: _Batch) -> None:
        for couple in batch.couples:
            wanted = couple.in_turn(batch.step) if self._many else couple.tallies
            self._done += len(wanted)
            if batch.step < (1 if self._many else 2) or couple.answered:
                for tally in wanted:
                    batch.last = self._pinger.ask(tally)
        batch.step += 1


def _address(topology: Topology, name: str, family: Family) -> IPv4Address | IPv6Address:
    node = topology.node(name)
    return node.ipv4.ip if family == 4 else node.ipv6.ip


def _batches(couples: list[_Couple]) -> Iterator[list[_Couple]]:
    """All couples, in parts whose neighbour entries, two for each couple, find room at once."""
    room = limits.neighbour_limit(0).have or _TABLE_SIZE
    size = max(1, room // _TABLE_SHARE // 2)
    if len(couples) * 2 <= room * 3 // 4:
        size = max(1, len(couples))
    for start in range(0, len(couples), size):
        yield couples[start : start + size]


class _Tables:
    """The neighbour tables of the nodes, each opened when it is first needed and kept."""

    def __init__(self, testbed: str, stack: ExitStack) -> None:
        self._testbed = testbed
        self._stack = stack
        self._open: dict[str, NeighbourTable | None] = {}

    def forget(self, couples: Sequence[_Couple]) -> None:
        """Give back the entries that these couples have of each other."""
        known: dict[str, list[IPv4Address | IPv6Address]] = {}
        for couple in couples:
            for tally in couple.tallies:
                known.setdefault(tally.source, []).append(tally.address)
        for name, addresses in known.items():
            if name not in self._open:
                self._open[name] = self._enter(name)
            table = self._open[name]
            if table is not None:
                table.forget(addresses)

    def _enter(self, name: str) -> NeighbourTable | None:
        try:
            return self._stack.enter_context(
                netns.run_in(
                    netns.namespace_name(self._testbed, name),
                    lambda: NeighbourTable(TAP_INTERFACE),
                )
            )
        except OSError:  # without a TAP it knows nobody
            return None


def _result(tally: Tally) -> PairResult:
    times = tally.times_us
    return PairResult(
        source=tally.source,
        target=tally.target,
        family=tally.family,
        sent=tally.sent,
        received=len(times),
        rtt_min_us=min(times, default=None),
        rtt_mean_us=sum(times) / len(times) if times else None,
        rtt_max_us=max(times, default=None),
        error=tally.error if tally.sent or tally.error else _NOT_ASKED,
    )
