"""Which of several candidates an OBU sends to, and when it leaves one for another.

Must not know heartbeats, frames or time: it is told what each neighbour is worth now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import nsmallest
from typing import TypeAlias

Rank: TypeAlias = tuple[int, int, int, bytes, bytes]


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
    def rank(self) -> Rank:
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


class Selection:
    """The current upstream with its hysteresis, and the best of the others to fall back on.

    At most `kept` in all. `changed` is called when one of them has become another one.
    """

    def __init__(self, changed: Callable[[], None], *, kept: int) -> None:
        if kept < 1:
            raise ValueError(f"cached_candidates must be at least 1, got {kept}")
        self._changed = changed
        self._kept = kept
        # Ranks differ in the MAC at least, so that candidates themselves are never compared.
        self._worth: dict[bytes, tuple[Rank, Candidate]] = {}
        self.candidates: tuple[Candidate, ...] = ()
        """The current upstream first."""

    def update(self, worth: Iterable[tuple[bytes, Candidate | None]]) -> None:
        """Replace what these neighbours are worth; None: they are no candidates, for now."""
        matters = False
        for mac, candidate in worth:
            matters |= self._put(mac, candidate)
        if matters:
            self._choose()

    def _put(self, mac: bytes, candidate: Candidate | None) -> bool:
        """Whether this can change the choice: most neighbours are not, and do not become, kept."""
        kept = any(other.mac == mac for other in self.candidates)
        if candidate is None:
            self._worth.pop(mac, None)
            return kept
        rank = candidate.rank
        self._worth[mac] = (rank, candidate)
        return (
            kept
            or len(self.candidates) < self._kept
            or any(rank < other.rank for other in self.candidates)
        )

    def _choose(self) -> None:
        best = [candidate for _, candidate in nsmallest(self._kept, self._worth.values())]
        if self.candidates and self.candidates[0].mac in self._worth:
            # Hysteresis: the current one stays unless the best one is so much better.
            _, current = self._worth[self.candidates[0].mac]
            if current is not best[0] and not best[0].worth_leaving(current):
                others = [candidate for candidate in best if candidate is not current]
                best = [current, *others][: self._kept]
        if tuple(best) != self.candidates:
            self.candidates = tuple(best)
            self._changed()
