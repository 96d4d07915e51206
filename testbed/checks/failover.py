"""What becomes of traffic when the neighbour that carries it falls silent.

In a cell one OBU loses the RSU, then the OBU that took over; each time traffic has to go on by
the next candidate. It flows both ways at a steady pace, and what is lost is what did not arrive.
Must not know how a node notices, or whom it prefers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Literal

from testbed.checks import air, numbered
from testbed.checks.site import Exchange, Site
from testbed.results import CheckFailover

_GAP_S: Final = 0.002
_BEFORE_S: Final = 0.1
_AFTER_S: Final = 0.1
"""Traffic flows so long before the neighbour falls silent, and after it has been resumed."""

Direction = Literal["up", "down"]
Rewire = Callable[[Mapping[str, Collection[str]]], object]
"""Changes who hears each of the nodes that are keys, by the names of the site."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FailedOver:
    """Both directions of one failover, and what is wrong (None: nothing)."""

    failovers: list[CheckFailover]
    why: str | None


def check_failover(
    site: Site,
    rewire: Rewire,
    *,
    far: str,
    rsu: str,
    silence: Mapping[str, Collection[str]],
    within_s: float,
) -> FailedOver:
    """Apply `silence`, and see traffic between `far` and `rsu` go on within `within_s`, both ways.

    Traffic has to flow before: if it does not, that is what is wrong.
    """
    flow = _Flow(site, far, rsu)
    flow.go_for(_BEFORE_S)
    carrier = flow.carrier("up")
    if carrier is None or flow.carrier("down") is None:
        return FailedOver(failovers=[], why=f"no traffic flowed between {far} and {rsu} before")
    flow.cut(lambda: rewire(silence))
    deadline = time.monotonic() + within_s
    while not flow.resumed and time.monotonic() < deadline:
        flow.go_for(_GAP_S)
    flow.go_for(_AFTER_S)
    made = [flow.outcome("up", carrier), flow.outcome("down", carrier)]
    failed = [one for one in made if one.outage_ns is None]
    return FailedOver(
        failovers=made,
        why="; ".join(
            f"{one.node} lost {one.silenced}, and nothing got through "
            f"{'from it to ' + rsu if one.direction == 'up' else 'to it from ' + rsu} "
            f"for {within_s:g} s"
            for one in failed
        )
        or None,
    )


class _Flow:
    """Steady traffic both ways, and what came of each frame of it."""

    def __init__(self, site: Site, far: str, rsu: str) -> None:
        self._site = site
        self._far, self._rsu = far, rsu
        self._ends: Mapping[Direction, tuple[str, str]] = {"up": (far, rsu), "down": (rsu, far)}
        self._sent: dict[Direction, dict[int, int]] = {"up": {}, "down": {}}
        self._got: dict[Direction, dict[int, int]] = {"up": {}, "down": {}}
        self._by: dict[Direction, str] = {}
        self._names = {
            bytes.fromhex(node.mac.replace(":", "")): node.name for node in site.topology.nodes
        }
        self._cut_ns: int | None = None

    def go_for(self, seconds: float) -> None:
        """Send a frame each way every few milliseconds, and take what arrives."""
        stop = time.monotonic() + seconds
        while True:
            for direction, (source, destination) in self._ends.items():
                number, frame = self._site.frame(source, destination, numbered.SHORTEST)
                self._sent[direction][number] = time.monotonic_ns()
                self._site.put(source, frame)
            self._take(self._site.listen(_GAP_S))
            if time.monotonic() >= stop:
                return

    def cut(self, cut: Callable[[], object]) -> None:
        """Let the neighbour fall silent while traffic flows; what is sent after that goes anew."""
        with ThreadPoolExecutor(1, thread_name_prefix="cut") as pool:
            cutting = pool.submit(cut)
            while not cutting.done():
                self.go_for(0.0)
            cutting.result()
        self._cut_ns = time.monotonic_ns()

    def carrier(self, direction: Direction) -> str | None:
        """The neighbour by which the far node's frames went or came last; None if none arrived."""
        return self._by.get(direction) if self._got[direction] else None

    @property
    def resumed(self) -> bool:
        """Whether frames sent after the cut have arrived, in both directions."""
        return all(self._after(direction) is not None for direction in self._ends)

    def outcome(self, direction: Direction, silenced: str) -> CheckFailover:
        """The outage in one direction."""
        assert self._cut_ns is not None
        first = self._after(direction)
        sent, got = self._sent[direction], self._got[direction]
        before = max(
            (at for number, at in got.items() if sent[number] < self._cut_ns), default=None
        )
        lost = None
        if first is not None:
            lost = sum(number not in got for number in sent if number < first)
        start = self._cut_ns if before is None else before
        return CheckFailover(
            node=self._far,
            direction=direction,
            silenced=silenced,
            resumed_by=None if first is None else self.carrier(direction),
            outage_ns=None if first is None else max(0, got[first] - start),
            lost=lost,
        )

    def _after(self, direction: Direction) -> int | None:
        """The first frame that was sent after the cut and arrived."""
        if self._cut_ns is None:
            return None
        sent = self._sent[direction]
        return min(
            (number for number in self._got[direction] if sent[number] > self._cut_ns), default=None
        )

    def _take(self, heard: Exchange) -> None:
        for arrival in heard.arrived:
            if numbered.damage(arrival.frame) is not None:
                continue
            number = numbered.number_of(arrival.frame)
            for direction, (_, destination) in self._ends.items():
                if arrival.node == destination and number in self._sent[direction]:
                    self._got[direction].setdefault(number, arrival.at_ns)
        for message in air.data(heard.aired):
            receiver = self._names.get(message.receiver)
            if message.sender == self._far and receiver is not None:
                self._by["up"] = receiver
            elif receiver == self._far:
                self._by["down"] = message.sender
