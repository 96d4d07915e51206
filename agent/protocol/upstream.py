"""Which neighbour an OBU sends to, so that its traffic reaches an RSU.

Must not know frames or sockets; the time is an argument. Heard heartbeats go in, a current
upstream and a few candidates to fall back on come out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from agent.protocol.hello import MAX_NEIGHBOURS, Hello, Neighbour, RsuHistory
from agent.protocol.routing import score_us

MAX_RSUS: Final = 256
"""RSUs remembered; further ones are not heard until one expires."""
MAX_ENTRIES: Final = 4096
"""Pairs of RSU and neighbour remembered in all."""

HelloKey: TypeAlias = tuple[bytes, int]
"""(RSU, heartbeat id)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A neighbour through which an RSU can be reached.

    `hops` is the RSU's distance from this OBU; `score_us` is None where nothing was measured.
    `failed_ns` is when a send to it last failed, 0 if it has been heard since.
    """

    mac: bytes
    rsu: bytes
    hops: int
    score_us: int | None
    failed_ns: int = 0

    @property
    def rank(self) -> tuple[int, int, int, bytes, bytes]:
        """Smaller is better: not failed, measured by score, else by hops, then the lower MAC."""
        if self.score_us is None:
            return (self.failed_ns, 1, self.hops, self.mac, self.rsu)
        return (self.failed_ns, 0, self.score_us, self.mac, self.rsu)

    def worth_leaving(self, current: Candidate) -> bool:
        """Whether this one, ranked before `current`, is so much better that it takes its place."""
        if self.failed_ns < current.failed_ns:
            return True
        if self.score_us is None or current.score_us is None:
            return self.score_us is not None or self.hops < current.hops
        return self.hops < current.hops or (
            self.score_us < current.score_us and self.score_us * 10 <= current.score_us * 9
        )


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
        if cached_candidates < 1:
            raise ValueError(f"cached_candidates must be at least 1, got {cached_candidates}")
        self._changed = changed
        self._forget = forget
        self._hello_history = hello_history
        self._cached_candidates = cached_candidates
        self._rsus: dict[bytes, RsuHistory] = {}
        self._failed_ns: dict[bytes, int] = {}
        self.deadline_ns: int | None = None
        """When `expire` must be called next; it may turn out that nothing expires then."""
        self.candidates: tuple[Candidate, ...] = ()
        """The current upstream, then the best of the others: `cached_candidates` in all."""

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
        reselect_all = False
        if history is not None and history.restarted(hello_id, now_ns):
            self._forget_rsu(rsu)
            history = None
            reselect_all = True
        if (history is None or via not in history.neighbours) and self._is_full(history):
            return None
        if history is None:
            history = self._rsus[rsu] = RsuHistory(self._hello_history)

        new = hello_id not in history.hellos
        if new:
            hello = Hello(received_ns=now_ns, via=via, hops=hops)
            forgotten = history.remember(hello_id, hello)
            if forgotten is not None:
                reselect_all |= history.forget(forgotten)
                self._forget((rsu, forgotten))
            if history.period.heard(hello_id, duration_ms):
                self._set_deadline()

        reselect = self._failed_ns.pop(via, None) is not None
        neighbour = history.neighbours.get(via)
        if neighbour is None:
            history.neighbours[via] = Neighbour(last_id=hello_id, hops=hops, heard_ns=now_ns)
            reselect = True
        elif neighbour.heard(hello_id, hops, now_ns):
            reselect = True
        expires_ns = now_ns + history.timeout_ns
        if self.deadline_ns is None or expires_ns < self.deadline_ns:
            self.deadline_ns = expires_ns
        if reselect_all:
            self._select()
        elif reselect:
            self._reselect(via)
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
        self._reselect(neighbour_mac)

    def send_failed(self, mac: bytes, now_ns: int) -> None:
        """A send to `mac` failed: the next candidate takes over, until `mac` is heard again."""
        if any(mac in history.neighbours for history in self._rsus.values()):
            # Never 0, which means that nothing failed.
            self._failed_ns[mac] = max(now_ns, 1)
            self._select()

    def expire(self, now_ns: int) -> None:
        """Forget the neighbours, and the RSUs, that have been silent for too long."""
        expired = False
        for rsu, history in list(self._rsus.items()):
            timeout_ns = history.timeout_ns
            for mac, neighbour in list(history.neighbours.items()):
                if now_ns - neighbour.heard_ns >= timeout_ns:
                    del history.neighbours[mac]
                    expired = True
            if not history.neighbours:
                self._forget_rsu(rsu)
        if expired:
            self._select()
        self._set_deadline()

    def _is_full(self, history: RsuHistory | None) -> bool:
        """Whether there is no room for another neighbour of `history`, or for another RSU."""
        if history is None and len(self._rsus) >= MAX_RSUS:
            return True
        if history is not None and len(history.neighbours) >= MAX_NEIGHBOURS:
            return True
        return sum(len(known.neighbours) for known in self._rsus.values()) >= MAX_ENTRIES

    def _set_deadline(self) -> None:
        self.deadline_ns = min(
            (
                neighbour.heard_ns + history.timeout_ns
                for history in self._rsus.values()
                for neighbour in history.neighbours.values()
            ),
            default=None,
        )

    def _forget_rsu(self, rsu: bytes) -> None:
        for hello_id in self._rsus.pop(rsu).hellos:
            self._forget((rsu, hello_id))

    def _reselect(self, mac: bytes) -> None:
        """`_select`, unless only `mac` changed and it neither was nor becomes a candidate."""
        if len(self.candidates) == self._cached_candidates:
            now = self._candidate(mac)
            if all(candidate.mac != mac for candidate in self.candidates) and (
                now is None or all(now.rank > candidate.rank for candidate in self.candidates)
            ):
                return
        self._select()

    def _select(self) -> None:
        before = self.candidates
        heard = {mac for history in self._rsus.values() for mac in history.neighbours}
        for mac in self._failed_ns.keys() - heard:
            del self._failed_ns[mac]
        ranked = sorted(
            (candidate for mac in heard if (candidate := self._candidate(mac)) is not None),
            key=lambda candidate: candidate.rank,
        )
        chosen = self._choose(ranked, before[0].mac if before else None)
        if chosen is not None:
            ranked.remove(chosen)
            ranked.insert(0, chosen)
        self.candidates = tuple(ranked[: self._cached_candidates])
        if self.candidates != before:
            self._changed()

    @staticmethod
    def _choose(ranked: list[Candidate], current_mac: bytes | None) -> Candidate | None:
        if not ranked:
            return None
        best = ranked[0]
        for candidate in ranked:
            if candidate.mac == current_mac and candidate is not best:
                return best if best.worth_leaving(candidate) else candidate
        return best

    def _candidate(self, mac: bytes) -> Candidate | None:
        """`mac` as a candidate for the RSU that it serves best; None if it is none."""
        best: Candidate | None = None
        for rsu, history in self._rsus.items():
            neighbour = history.neighbours.get(mac)
            if neighbour is None or neighbour.downstream:
                continue
            candidate = Candidate(
                mac=mac,
                rsu=rsu,
                hops=neighbour.hops,
                score_us=score_us(neighbour.latencies_us.values()),
                failed_ns=self._failed_ns.get(mac, 0),
            )
            if best is None or candidate.rank < best.rank:
                best = candidate
        return best
