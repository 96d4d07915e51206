"""What AF_XDP can send, and what is better sent otherwise.

AF_XDP's transmission passes by the socket's send path and the interface's queue, and tells little
of what it did not send. So it is used where that says nothing wrong: on a veth without a queue, for
batches that the link takes. It is for the engine to send all else, with the reason for each frame.
Must not know where frames come from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from agent.batch import HEADROOM, FrameBatch, alike
from agent.engines.base import EngineCounters, Rows, SendResult, merge
from agent.linux.link import Link
from agent.linux.xsk import XskTransmit

FEW: Final = 6
"""Up to so many frames go otherwise: filling in entries takes longer."""
_SHORTEST: Final = 14


class Sent(NamedTuple):
    """Of `given` frames the first `done` went, `size` bytes."""

    given: int
    done: int
    size: int


class XskSender:
    """Sends rows of batches that lie in the memory of `xsk`, each row from column `place` on.

    `frame_limit` is the size in bytes of the largest frame that the link takes.
    """

    def __init__(self, xsk: XskTransmit, *, place: int, frame_limit: int) -> None:
        self._xsk = xsk
        self._frame_limit = frame_limit
        self.calls = 0
        # Where a batch's rows, and unmoved frames in them, begin in the memory.
        rows = np.arange(xsk.chunks, dtype=np.uint64) * np.uint64(xsk.chunk_bytes)
        self._row_begins = rows + np.uint64(place)
        self._frame_begins = rows + np.uint64(place + HEADROOM)

    def send_or_else(
        self,
        batch: FrameBatch,
        first: int,
        rows: Rows | None,
        counters: EngineCounters,
        otherwise: Callable[[FrameBatch, Rows | None], SendResult],
    ) -> SendResult:
        """An engine's whole `send_rows`: what `send` leaves over goes `otherwise`."""
        chosen = slice(0, batch.count) if rows is None else rows
        given, done, size = self.send(batch, first, chosen)
        if not done:
            return otherwise(batch, rows)
        counters.tx_frames += done
        counters.tx_bytes += size
        if done == given:
            return SendResult(done)
        rest = np.arange(batch.capacity)[chosen][done:]
        return merge([SendResult(done), otherwise(batch, rest)])

    def send(self, batch: FrameBatch, first: int, rows: Rows) -> Sent:
        """Send rows of a batch whose row 0 is row `first` of the memory; none that is not for it.

        What went is a prefix; of the rest nothing is on its way.
        """
        lengths = batch.length[rows]
        count = len(lengths)
        if not FEW < count <= self._xsk.entries:
            return Sent(count, 0, 0)
        size = alike(lengths)
        sizes = [size] if size else lengths.tolist()
        if max(sizes) > self._frame_limit or min(sizes) < _SHORTEST:
            return Sent(count, 0, 0)
        if batch.moved:
            addresses = self._row_begins[first:][rows] + batch.start[rows]
        else:
            addresses = self._frame_begins[first:][rows]
        done, calls = self._xsk.send(addresses, lengths)
        self.calls += calls
        if done == count:
            return Sent(count, done, size * count or sum(sizes))
        return Sent(count, done, sum(lengths[:done].tolist()))


def why_not(link: Link) -> str:
    """Why frames cannot go out by AF_XDP on this interface, in words; empty if they can."""
    if link.kind != "veth":
        # Others may send from our memory after the call that hands a frame over.
        return f"its driver is {link.kind or 'unknown'}; frames are sent by AF_XDP on a veth"
    if link.queue != "noqueue":
        return f"AF_XDP would pass by its queue, {link.queue}"
    return ""
