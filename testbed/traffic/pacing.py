"""When the next frame is due: evenly spaced, never made up for in a lump.

Time is cut into slots of 1/rate. A slot belongs to one frame; what cannot be sent within the bound
after its slot is counted as not offered and never sent later. Must not know sockets or frames, nor
read a clock: time is an argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MAX_BURST_NS: Final = 1_000_000
"""Frames that are sent at one go never stand for more than this much of the schedule."""

_PICO: Final = 10**12


@dataclass(frozen=True, kw_only=True, slots=True)
class PacingReport:
    """How the schedule was kept. `intended` is None if it was "as fast as possible"."""

    intended: int | None
    offered: int
    skipped: int
    """Slots that passed without a frame because sending it then would have been a lump."""
    worst_burst: int
    """Most frames sent at one go."""
    worst_burst_ns: int
    """How far apart the first and the last of them should have been."""
    worst_lag_ns: int
    """Longest time by which a frame was sent after its slot."""
    wakeups: int


class Pacer:
    """Hands out slots between `start_ns` and `stop_ns` (any one clock).

    `rate_pps` None hands out `unpaced` frames whenever asked. `burst` > 1 groups that many slots
    and makes them due together, for traffic that shall be bursty; the mean rate stays.
    """

    __slots__ = (
        "_burst",
        "_lag",
        "_limit",
        "_longest",
        "_next",
        "_offered",
        "_rate",
        "_skipped",
        "_start",
        "_stop",
        "_unpaced",
        "_wakeups",
    )

    def __init__(
        self,
        *,
        rate_pps: float | None,
        start_ns: int,
        stop_ns: int,
        burst: int = 1,
        unpaced: int = 64,
        max_burst_ns: int = MAX_BURST_NS,
    ) -> None:
        if rate_pps is not None and not rate_pps >= 0.001:
            raise ValueError("a rate is at least 0.001 pps")
        if burst < 1:
            raise ValueError("a burst has at least one frame")
        # In thousandths of a packet per second, so that slots are exact over any time.
        self._rate = None if rate_pps is None else round(rate_pps * 1000)
        self._start = start_ns
        self._stop = stop_ns
        self._burst = burst
        self._unpaced = unpaced
        self._limit = max(burst, 1 + int((rate_pps or 0) * max_burst_ns / 1e9))
        if (
            self._rate is not None
            and self._limit > burst
            and self._span(self._limit) >= (max_burst_ns)
        ):
            self._limit -= 1
        self._next = 0
        self._offered = 0
        self._skipped = 0
        self._longest = 0
        self._lag = 0
        self._wakeups = 0

    def due(self, now_ns: int) -> int:
        """How many frames to send now; skips what is too late to be sent without a lump."""
        if now_ns < self._start or now_ns >= self._stop:
            return 0
        if self._rate is None:
            return self._unpaced
        passed = (now_ns - self._start) * self._rate // (_PICO * self._burst) + 1
        pending = passed * self._burst - self._next
        if pending > self._limit:
            late = pending - self._limit
            self._next += late
            self._skipped += late
            pending = self._limit
        return pending

    def sent(self, count: int, now_ns: int) -> None:
        """`count` slots, the next ones, were used at `now_ns`."""
        if self._rate is not None:
            lag = now_ns - self._slot_ns(self._next)
            if lag > self._lag:
                self._lag = lag
        if count > self._longest:
            self._longest = count
        self._next += count
        self._offered += count
        self._wakeups += 1

    def next_ns(self) -> int:
        """When the next frame is due."""
        return self._start if self._rate is None else self._slot_ns(self._next)

    def slots_before(self, time_ns: int) -> int | None:
        """How many slots lie before that time, within the whole schedule; None if unpaced."""
        if self._rate is None:
            return None
        until = min(time_ns, self._stop)
        if until <= self._start:
            return 0
        # Slot 0 is at the start itself; a slot at `until` is not before it.
        bursts = ((until - self._start) * self._rate - 1) // (_PICO * self._burst) + 1
        return bursts * self._burst

    def report(self) -> PacingReport:
        """How it went, once the schedule is over: slots left then count as skipped."""
        intended = self.slots_before(self._stop)
        return PacingReport(
            intended=intended,
            offered=self._offered,
            skipped=self._skipped if intended is None else intended - self._offered,
            worst_burst=self._longest,
            worst_burst_ns=0 if self._rate is None else self._span(self._longest),
            worst_lag_ns=self._lag,
            wakeups=self._wakeups,
        )

    def _slot_ns(self, slot: int) -> int:
        assert self._rate is not None
        return self._start - (-(slot // self._burst * self._burst) * _PICO // self._rate)

    def _span(self, frames: int) -> int:
        assert self._rate is not None
        return max(0, frames - 1) * _PICO // self._rate


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A rate, and from when on it is that of the schedule (any one clock)."""

    rate_pps: float
    from_ns: int


class SteppedPacer:
    """Hands out slots at one rate after another, as a `Pacer` does at one.

    The first step begins with `start_ns`, each ends where the next begins, the last at `stop_ns`.
    What a step could not send in time is not carried over into the next.
    """

    __slots__ = ("_at", "_ends", "_pacers")

    def __init__(
        self, steps: Sequence[Step], *, start_ns: int, stop_ns: int, burst: int = 1
    ) -> None:
        starts = [start_ns, *(step.from_ns for step in steps[1:])]
        self._ends = [*starts[1:], stop_ns]
        self._pacers = [
            Pacer(rate_pps=step.rate_pps, start_ns=start, stop_ns=end, burst=burst)
            for step, start, end in zip(steps, starts, self._ends, strict=True)
        ]
        self._at = 0

    def due(self, now_ns: int) -> int:
        """How many frames may be sent now."""
        while self._at < len(self._pacers) - 1 and now_ns >= self._ends[self._at]:
            self._at += 1
        return self._pacers[self._at].due(now_ns)

    def sent(self, count: int, now_ns: int) -> None:
        """`count` slots, the next ones, were used at `now_ns`."""
        self._pacers[self._at].sent(count, now_ns)

    def next_ns(self) -> int:
        """When the next frame is due."""
        due, end = self._pacers[self._at].next_ns(), self._ends[self._at]
        return due if due < end or self._at == len(self._pacers) - 1 else end

    def slots_before(self, time_ns: int) -> int:
        """How many slots lie before that time, within the whole schedule."""
        return sum(pacer.slots_before(time_ns) or 0 for pacer in self._pacers)

    def report(self) -> PacingReport:
        """How it went, once the schedule is over."""
        parts = [pacer.report() for pacer in self._pacers]
        return PacingReport(
            intended=sum(part.intended or 0 for part in parts),
            offered=sum(part.offered for part in parts),
            skipped=sum(part.skipped for part in parts),
            worst_burst=max(part.worst_burst for part in parts),
            worst_burst_ns=max(part.worst_burst_ns for part in parts),
            worst_lag_ns=max(part.worst_lag_ns for part in parts),
            wakeups=sum(part.wakeups for part in parts),
        )


def tick_ns(rate_pps: float) -> int:
    """Least time between two wake-ups of a sender at this rate.

    At up to 20 000 pps every frame goes out by itself. Above that a wake-up for each would cost
    more than the frame; what goes out together then stands for 0.1 ms at most.
    """
    if rate_pps <= 20_000:
        return 0
    return 50_000 if rate_pps <= 150_000 else 100_000
