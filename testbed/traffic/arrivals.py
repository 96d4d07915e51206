"""What should arrive at a sink, and what did, as plain values.

Must not know sockets, arrays or how anything is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from testbed.measure.latency import Histogram
from testbed.traffic.sequence import StreamCounts

WARM_UP: Final = 0
TRIAL: Final = 1
"""The two phases of a count."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Expectation:
    """What should arrive: flows 0 … `flows` - 1, each at every receiver.

    Stream = flow * receivers + receiver. On the wire a stream's frames begin with its entry of
    `headers`, where `mask` has a one bit; receivers are told apart by the destination in the
    header, so with several of them those must differ in their last two bytes.
    """

    flows: int
    receivers: int = 1
    headers: tuple[bytes, ...] = ()
    mask: bytes = b""

    @property
    def streams(self) -> int:
        return self.flows * self.receivers


@dataclass(frozen=True, kw_only=True, slots=True)
class CountFrom:
    """The time stamp (CLOCK_REALTIME) from which frames are the trial phase, and of its steps.

    `fastest_pps` is the highest rate that will be offered; None is as fast as possible.
    """

    time_ns: int
    steps_ns: tuple[int, ...] = ()
    fastest_pps: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Damage:
    """Test frames that arrived otherwise than they were sent.

    `tailed` carried other bytes behind an intact frame, among them `swallowed` whole test frames;
    `truncated` were cut; `damaged` had the right length and wrong bytes; `misaddressed` were
    intact but not headed as expected.
    """

    tailed: int = 0
    swallowed: int = 0
    truncated: int = 0
    damaged: int = 0
    misaddressed: int = 0

    @property
    def corrupted(self) -> int:
        """Frames whose content did not arrive as it was sent."""
        return self.tailed + self.truncated + self.damaged


@dataclass(frozen=True, kw_only=True, slots=True)
class SinkResult:
    """What was counted; (warm-up, trial) where there are two.

    `stale` frames were sent before the sink was told to count. `other` is what is no test traffic
    at all. `drops` did not fit the socket's buffer: the sink could not see them. `latency` is of
    the trial phase alone, first copies only.
    """

    streams: tuple[tuple[StreamCounts, ...], tuple[StreamCounts, ...]]
    damage: tuple[Damage, Damage]
    latency: Histogram
    drops: int
    stale: int
    other: int
    first_ns: int | None
    last_ns: int | None
    """Kernel receive times of the first and the last counted frame of the trial phase."""
    fullest: int
    """Most frames ever found waiting at one emptying."""
    cpu_ns: int
    elapsed_ns: int
    quiet: bool
    """Whether nothing came any more when it stopped."""
    steps: tuple[Histogram, ...] = ()
    """Latency of each step of the trial phase, by the time of sending."""

    def total(self, phase: int | None = None) -> StreamCounts:
        """Sums over all streams of one phase or of both."""
        chosen = self.streams if phase is None else (self.streams[phase],)
        every = [counts for streams in chosen for counts in streams]
        return StreamCounts(
            delivered=sum(c.delivered for c in every),
            duplicated=sum(c.duplicated for c in every),
            reordered=sum(c.reordered for c in every),
        )
