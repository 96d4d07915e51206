"""What an OBU remembers of one RSU: its heartbeats, who passed them on, and how often they come.

Must not know other RSUs, selection or frames.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

DEFAULT_PERIOD_MS: Final = 5000
"""The hello period assumed until an RSU's own is known."""
LATE_COPY_NS: Final = 1_000_000_000
"""A copy of a known heartbeat that comes later than this after the first one is no copy: the RSU
has started anew and counts from zero again."""
MAX_NEIGHBOURS: Final = 128
"""Neighbours remembered per RSU."""

_MIN_DIFFERENCES: Final = 3
_MIN_PERIOD_NS: Final = 1_000_000
_MAX_PERIOD_NS: Final = 60_000_000_000


class HelloPeriod:
    """An RSU's hello period, from the duration and id of its heartbeats.

    It is the largest difference of the last few, so that an extra heartbeat out of turn does not
    make the period look short. Held between 1 ms and 60 s: a forged duration must not keep an RSU
    for ever.
    """

    def __init__(self, differences: int) -> None:
        self._differences: deque[int] = deque(maxlen=max(differences, _MIN_DIFFERENCES))
        self._last: tuple[int, int] | None = None

    def heard(self, hello_id: int, duration_ms: int) -> None:
        """Take a new heartbeat into account."""
        if self._last is None:
            self._last = (hello_id, duration_ms)
            return
        last_id, last_duration_ms = self._last
        if hello_id > last_id and duration_ms > last_duration_ms:
            difference_ms = duration_ms - last_duration_ms
            self._differences.append(difference_ms * 1_000_000 // (hello_id - last_id))
            self._last = (hello_id, duration_ms)

    @property
    def known(self) -> bool:
        """Whether enough heartbeats were heard; until then the default holds."""
        return len(self._differences) >= _MIN_DIFFERENCES

    @property
    def period_ns(self) -> int:
        if not self.known:
            return DEFAULT_PERIOD_MS * 1_000_000
        return min(max(max(self._differences), _MIN_PERIOD_NS), _MAX_PERIOD_NS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Hello:
    """The first reception of one heartbeat: when, from which neighbour, with which hop count."""

    received_ns: int
    via: bytes
    hops: int


@dataclass(kw_only=True, slots=True)
class Neighbour:
    """A neighbour that passed on heartbeats of one RSU."""

    last_id: int
    hops: int
    """As in the newest heartbeat that it passed on; the smallest, if it did so more than once."""
    heard_ns: int
    answered_id: int = -1
    """The newest heartbeat that it answered through us."""
    latencies_us: dict[int, int] = field(default_factory=dict)
    """By heartbeat, from answers that were not addressed to us alone."""

    @property
    def downstream(self) -> bool:
        """It has its newest heartbeat from us: what we sent it would come back."""
        return self.answered_id >= self.last_id

    def heard(self, hello_id: int, hops: int, now_ns: int) -> bool:
        """Note another heartbeat; whether anything that selection looks at has changed."""
        before = (self.hops, self.downstream)
        if hello_id > self.last_id:
            self.last_id = hello_id
            self.hops = hops
        elif hello_id == self.last_id:
            self.hops = min(self.hops, hops)
        self.heard_ns = now_ns
        return (self.hops, self.downstream) != before


class RsuHistory:
    """The last `hello_history` heartbeats of one RSU and the neighbours they came through."""

    def __init__(self, hello_history: int) -> None:
        self._hello_history = hello_history
        self.hellos: dict[int, Hello] = {}
        self.neighbours: dict[bytes, Neighbour] = {}
        self.period = HelloPeriod(hello_history)

    def restarted(self, hello_id: int, now_ns: int) -> bool:
        """Whether this heartbeat shows that the RSU has started anew."""
        if not self.hellos:
            return False
        known = self.hellos.get(hello_id)
        if known is not None:
            return now_ns - known.received_ns > LATE_COPY_NS
        return hello_id < min(self.hellos)

    def remember(self, hello_id: int, hello: Hello, duration_ms: int) -> int | None:
        """Keep a new heartbeat; the id that must be forgotten for it (see `forget`)."""
        self.hellos[hello_id] = hello
        self.period.heard(hello_id, duration_ms)
        return min(self.hellos) if len(self.hellos) > self._hello_history else None

    def forget(self, hello_id: int) -> list[bytes]:
        """Drop a heartbeat; the neighbours that it had measured."""
        del self.hellos[hello_id]
        return [
            mac
            for mac, neighbour in self.neighbours.items()
            if neighbour.latencies_us.pop(hello_id, None) is not None
        ]

    @property
    def heard_ns(self) -> int:
        """When the RSU was last heard, through whichever neighbour."""
        return max(neighbour.heard_ns for neighbour in self.neighbours.values())

    @property
    def timeout_ns(self) -> int:
        """How long a neighbour may be silent: `hello_history` periods, and half a one of grace."""
        return self.period.period_ns * (2 * self._hello_history + 1) // 2
