"""One side of a node to send by, whichever engine does it.

Must not know what frames mean, or where they come from.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Final

from agent.batch import FrameBatch
from agent.engines.base import Engine, Rows, SendResult
from agent.protocol.node import Node

log = logging.getLogger("agent")

FEW: Final = 2
"""Up to so many frames cost less one by one than as a batch."""


class Outlet:
    """An engine to send by, that tells the node which next hops could not be reached."""

    def __init__(self, engine: Engine, node: Node) -> None:
        self.engine = engine
        self._node = node
        self._singly = 1 if engine.joins else FEW

    def send_rows(self, batch: FrameBatch, rows: Rows | None = None) -> None:
        result = self.engine.send_rows(batch, rows)
        if result.failed:
            self._report(result)

    def send_frames(self, frames: Sequence[bytes]) -> None:
        if len(frames) > self._singly:
            result = self.engine.send_frames(frames)
            if result.failed:
                self._report(result)
            return
        counters = self.engine.counters
        send = self.engine.send_one
        for frame in frames:
            try:
                taken = send(frame)
            except OSError as error:
                self.settle(frame, error)
            else:
                if taken is None:
                    self.settle(frame, None)
                else:
                    counters.tx_frames += 1
                    counters.tx_bytes += taken
        counters.syscalls[self.engine.send_call] += len(frames)

    def settle(self, frame: bytes, error: OSError | None) -> None:
        """See a frame through that the engine did not take at once."""
        result = self.engine.settle(frame, error)
        if result.failed:
            self._report(result)

    def _report(self, result: SendResult) -> None:
        for next_hop in result.failed:
            log.debug("send to %s failed", next_hop.hex(":"))
            self._node.on_send_failed(next_hop, time.monotonic_ns())
