"""A log line for each batch that was sent, at a level below debug.

Where that level is off nothing of this is in the way: the driver then does not wrap anything. Must
not know what a batch held.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from agent.batch import FrameBatch
from agent.engines.base import EngineCounters

TRACE: Final = 5
logging.addLevelName(TRACE, "TRACE")

log = logging.getLogger("agent")

Receive = Callable[[FrameBatch], int]
Drain = Callable[[int], int]


class Tracer:
    """Tells after each batch what came of it, by the counters of both sides."""

    def __init__(self, wire: EngineCounters, tap: EngineCounters) -> None:
        self._wire = wire
        self._tap = tap
        self._before = self._now()

    def receiving(self, receive: Receive) -> Receive:
        """`receive`, and before it a line about the batch that was received before."""

        def traced(batch: FrameBatch) -> int:
            self._tell()
            return receive(batch)

        return traced

    def draining(self, drain: Drain) -> Drain:
        """`drain`, and after it a line about the last batch."""

        def traced(now_ns: int) -> int:
            # What was sent of the node's own accord belongs to no batch.
            self._before = self._now()
            try:
                return drain(now_ns)
            finally:
                self._tell()

        return traced

    def _now(self) -> tuple[int, int, int, int]:
        wire, tap = self._wire, self._tap
        return wire.tx_frames, tap.tx_frames, wire.tx_bytes, tap.tx_bytes

    def _tell(self) -> None:
        now, before = self._now(), self._before
        if now != before:
            log.log(
                TRACE,
                "batch sent wire_count=%d tap_count=%d wire_bytes=%d tap_bytes=%d",
                *(n - m for n, m in zip(now, before, strict=True)),
            )
            self._before = now


def tracer(wire: EngineCounters, tap: EngineCounters) -> Tracer | None:
    """Something that tells, where anybody listens; else None."""
    return Tracer(wire, tap) if log.isEnabledFor(TRACE) else None
