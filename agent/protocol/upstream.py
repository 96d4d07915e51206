"""How an OBU reaches an RSU: what it has heard of each, and what its neighbours are worth for that.

Must not know frames or sockets; the time is an argument. Heard heartbeats go in, a current
upstream and a few candidates to fall back on come out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from agent.protocol.hello import MAX_NEIGHBOURS, Hello, Neighbour, RsuHistory
from agent.protocol.routing import score_us
from agent.protocol.selection import Candidate, Selection

MAX_RSUS: Final = 256
"""RSUs remembered; further ones are not heard until one expires."""
MAX_ENTRIES: Final = 4096
"""Pairs of RSU and neighbour remembered in all."""

HelloKey: TypeAlias = tuple[bytes, int]
"""(RSU, heartbeat id)."""


class Upstreams:
    """Heartbeat history per RSU, candidates, and the current upstream with its hysteresis.

    `changed` is called when the current upstream or a candidate has become another one; `forget`
    with every heartbeat that is remembered no more.
    """

    def __init__(
        self,
        changed: Callable[[], None],
        forget: Callable[[HelloKey], None],
        *,
        hello_history: int,
        cached_candidates: int,
    ) -> None:
        if hello_history < 1:
            raise ValueError(f"hello_history must be at least 1, got {hello_history}")
        self._forget = forget
        self._hello_history = hello_history
        self._selection = Selection(changed, kept=cached_candidates)
        self._rsus: dict[bytes, RsuHistory] = {}
        # The same neighbours by their own address: neighbour → RSU → what it is for that RSU.
        self._heard_of: dict[bytes, dict[bytes, Neighbour]] = {}
        self._entries = 0
        self._failed_ns: dict[bytes, int] = {}
        self.deadline_ns: int | None = None
        """When `expire` must be called next; it may turn out that nothing expires then."""

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The current upstream, then the best of the others: `cached_candidates` in all."""
        return self._selection.candidates

    @property
    def current(self) -> Candidate | None:
        return self.candidates[0] if self.candidates else None

    @property
    def rsus(self) -> dict[bytes, RsuHistory]:
        return self._rsus

    def next_hop(self, came_from: bytes | None = None) -> bytes | None:
        """The current upstream, or the best candidate that is not `came_from`."""
        for candidate in self.candidates:
            if candidate.mac != came_from:
                return candidate.mac
        return None

    def hello(self, rsu: bytes, hello_id: int) -> Hello | None:
        """The first reception of that heartbeat, while it is remembered."""
        history = self._rsus.get(rsu)
        return None if history is None else history.hellos.get(hello_id)

    def heard(
        self, *, rsu: bytes, hello_id: int, duration_ms: int, hops: int, via: bytes, now_ns: int
    ) -> bool | None:
        """Note a heartbeat: True if it is a new one, False for a copy, None if a table is full."""
        history = self._rsus.get(rsu)
        affected: set[bytes] = set()
        if history is not None and history.restarted(hello_id, now_ns):
            affected.update(history.neighbours)
            self._forget_rsu(rsu)
            history = None
        if (history is None or via not in history.neighbours) and self._is_full(history):
            self._update(affected)
            return None
        if history is None:
            history = self._rsus[rsu] = RsuHistory(self._hello_history)

        new = hello_id not in history.hellos
        if new:
            forgotten = history.remember(
                hello_id, Hello(received_ns=now_ns, via=via, hops=hops), duration_ms
            )
            if forgotten is not None:
                affected.update(history.forget(forgotten))
                self._forget((rsu, forgotten))

        neighbour = history.neighbours.get(via)
        if neighbour is None:
            neighbour = Neighbour(last_id=hello_id, hops=hops, heard_ns=now_ns)
            history.neighbours[via] = neighbour
            self._heard_of.setdefault(via, {})[rsu] = neighbour
            self._entries += 1
            affected.add(via)
        elif neighbour.heard(hello_id, hops, now_ns):
            affected.add(via)
        if self._failed_ns.pop(via, None) is not None:
            affected.add(via)
        silent_since_ns = min(n.heard_ns for n in history.neighbours.values()) if new else now_ns
        expires_ns = silent_since_ns + history.timeout_ns
        if self.deadline_ns is None or expires_ns < self.deadline_ns:
            self.deadline_ns = expires_ns
        self._update(affected)
        return new

    def answered(
        self, rsu: bytes, hello_id: int, neighbour_mac: bytes, latency_us: int, *, through_us: bool
    ) -> None:
        """`neighbour_mac` has answered a heartbeat itself.

        `through_us`: addressed to this node, so it has the heartbeat from us and is downstream.
        Otherwise it went to a group address, and measures that neighbour.
        """
        history = self._rsus.get(rsu)
        neighbour = None if history is None else history.neighbours.get(neighbour_mac)
        if history is None or neighbour is None or hello_id not in history.hellos:
            return
        if through_us:
            was = neighbour.downstream
            neighbour.answered_id = max(neighbour.answered_id, hello_id)
            if neighbour.downstream == was:
                return
        else:
            neighbour.latencies_us.setdefault(hello_id, latency_us)
        self._update((neighbour_mac,))

    def send_failed(self, mac: bytes, now_ns: int) -> None:
        """A send to `mac` failed: the next candidate takes over, until `mac` is heard again."""
        if mac in self._heard_of:
            # Never 0, which means that nothing failed.
            self._failed_ns[mac] = max(now_ns, 1)
            self._update((mac,))

    def expire(self, now_ns: int) -> None:
        """Forget the neighbours, and the RSUs, that have been silent for too long."""
        expired: set[bytes] = set()
        deadlines_ns: list[int] = []
        for rsu, history in list(self._rsus.items()):
            timeout_ns = history.timeout_ns
            for mac, neighbour in list(history.neighbours.items()):
                expires_ns = neighbour.heard_ns + timeout_ns
                if expires_ns > now_ns:
                    deadlines_ns.append(expires_ns)
                else:
                    self._forget_neighbour(rsu, mac)
                    expired.add(mac)
            if not history.neighbours:
                self._forget_rsu(rsu)
        self.deadline_ns = min(deadlines_ns, default=None)
        self._update(expired)

    def _is_full(self, history: RsuHistory | None) -> bool:
        """Whether there is no room for another neighbour of `history`, or for another RSU."""
        if self._entries >= MAX_ENTRIES:
            return True
        if history is None:
            return len(self._rsus) >= MAX_RSUS
        return len(history.neighbours) >= MAX_NEIGHBOURS

    def _forget_rsu(self, rsu: bytes) -> None:
        for mac in list(self._rsus[rsu].neighbours):
            self._forget_neighbour(rsu, mac)
        for hello_id in self._rsus.pop(rsu).hellos:
            self._forget((rsu, hello_id))

    def _forget_neighbour(self, rsu: bytes, mac: bytes) -> None:
        del self._rsus[rsu].neighbours[mac]
        self._entries -= 1
        rsus = self._heard_of[mac]
        del rsus[rsu]
        if not rsus:
            del self._heard_of[mac]
            self._failed_ns.pop(mac, None)

    def _update(self, macs: Iterable[bytes]) -> None:
        self._selection.update((mac, self._candidate(mac)) for mac in macs)

    def _candidate(self, mac: bytes) -> Candidate | None:
        """`mac` as a candidate for the RSU that it serves best; None if it is none."""
        candidates = (
            Candidate(
                mac=mac,
                rsu=rsu,
                hops=neighbour.hops,
                score_us=score_us(neighbour.latencies_us.values()),
                failed_ns=self._failed_ns.get(mac, 0),
            )
            for rsu, neighbour in self._heard_of.get(mac, {}).items()
            if not neighbour.downstream
        )
        return min(candidates, key=lambda candidate: candidate.rank, default=None)
