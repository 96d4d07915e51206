"""Which neighbour leads to which OBU, from the heartbeat replies that were heard.

Must not know frames, sockets or time. Observations are kept per heartbeat (`key`) and forgotten
with it, so what is silent drops out by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Final

MAX_PER_HELLO: Final = 2048
"""Observations that one heartbeat can bring."""
MAX_OBSERVATIONS: Final = 32768
"""Observations in one table."""


def score_us(latencies_us: Iterable[int]) -> int | None:
    """Smallest plus mean latency in whole µs (the lower the better); None without a measurement."""
    known = list(latencies_us)
    if not known:
        return None
    return min(known) + sum(known) // len(known)


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """One way to a node; `score_us` is None where no latency was measured at that hop count."""

    next_hop: bytes
    hops: int
    score_us: int | None


class Routes:
    """Observations (node via next hop, hops, latency) and the routes that follow from them.

    `changed` is called whenever a route may have become another one.
    """

    def __init__(
        self,
        changed: Callable[[], None],
        *,
        max_per_hello: int = MAX_PER_HELLO,
        max_observations: int = MAX_OBSERVATIONS,
    ) -> None:
        self._changed = changed
        self._max_per_hello = max_per_hello
        self._max_observations = max_observations
        self._by_node: dict[bytes, dict[tuple[Hashable, bytes], tuple[int, int | None]]] = {}
        self._by_key: dict[Hashable, set[tuple[bytes, bytes]]] = {}
        self._ranked: dict[bytes, tuple[Route, ...]] = {}
        self._count = 0

    def __contains__(self, node: bytes) -> bool:
        return node in self._by_node

    def __len__(self) -> int:
        """Observations held."""
        return self._count

    @property
    def nodes(self) -> tuple[bytes, ...]:
        """Every node with a route, in order of MAC address."""
        return tuple(sorted(self._by_node))

    def observe(
        self, key: Hashable, node: bytes, *, via: bytes, hops: int, latency_us: int | None
    ) -> bool:
        """Remember that `node` was heard through the neighbour `via`; False if the table is full.

        The first measurement of a node through a neighbour counts for that heartbeat; it replaces
        an observation without latency.
        """
        pairs = self._by_key.get(key)
        if pairs is None or (node, via) not in pairs:
            if self._count >= self._max_observations:
                return False
            if pairs is None:
                pairs = self._by_key[key] = set()
            elif len(pairs) >= self._max_per_hello:
                return False
            pairs.add((node, via))
            self._count += 1
            self._by_node.setdefault(node, {})[key, via] = (hops, latency_us)
        else:
            if latency_us is None or self._by_node[node][key, via][1] is not None:
                return True
            self._by_node[node][key, via] = (hops, latency_us)
        self._ranked.pop(node, None)
        self._changed()
        return True

    def forget(self, key: Hashable) -> None:
        """Drop what that heartbeat brought."""
        pairs = self._by_key.pop(key, None)
        if not pairs:
            return
        for node, via in pairs:
            observations = self._by_node[node]
            del observations[key, via]
            if not observations:
                del self._by_node[node]
            self._ranked.pop(node, None)
        self._count -= len(pairs)
        self._changed()

    def ranked(self, node: bytes) -> tuple[Route, ...]:
        """Every way to `node`, the best first; empty if it is unknown.

        Per next hop only the observations of its smallest hop count count. Fewer hops come first,
        then measured before unmeasured, then the lower score, then the lower MAC.
        """
        ranked = self._ranked.get(node)
        if ranked is None:
            observations = self._by_node.get(node)
            if observations is None:
                return ()
            ranked = self._ranked[node] = _rank(observations)
        return ranked

    def next_hop(self, node: bytes, came_from: bytes | None = None) -> bytes | None:
        """The best next hop toward `node` that is not `came_from`; None if there is none."""
        for route in self.ranked(node):
            if route.next_hop != came_from:
                return route.next_hop
        return None


def _rank(
    observations: dict[tuple[Hashable, bytes], tuple[int, int | None]],
) -> tuple[Route, ...]:
    fewest: dict[bytes, int] = {}
    for (_, via), (hops, _) in observations.items():
        if hops < fewest.get(via, hops + 1):
            fewest[via] = hops
    latencies: dict[bytes, list[int]] = {via: [] for via in fewest}
    for (_, via), (hops, latency_us) in observations.items():
        if latency_us is not None and hops == fewest[via]:
            latencies[via].append(latency_us)
    routes = [
        Route(next_hop=via, hops=hops, score_us=score_us(latencies[via]))
        for via, hops in fewest.items()
    ]
    routes.sort(key=lambda r: (r.hops, r.score_us is None, r.score_us or 0, r.next_hop))
    return tuple(routes)
