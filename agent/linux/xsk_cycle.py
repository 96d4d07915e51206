"""An AF_XDP socket whose chunks go round in order, so that what arrived is a row of arrays.

The kernel receives into chunks in the order in which the fill ring offers them. Here they are
always offered in the order of memory, and the receive ring has an entry for each: so entry i of
both rings is chunk i for ever, frames that wait lie in consecutive rows, and a batch is walked,
rewritten and given back as in a mapped ring of slots (`tpacket`, the same interface), by moving
two counts.

From the same rows, and from some more that are lent, frames are sent (`xsk_transmit`).

One thread at a time. Knows nothing of protocols.
Source: Documentation/networking/af_xdp.rst.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agent.linux.xsk_base import RX_HEADROOM
from agent.linux.xsk_transmit import XskTransmit


class XskCycle(XskTransmit):
    """A socket with `slots` rows to receive into and `lent` more, of `chunk_bytes` each.

    `slots` is a power of two. Of `frames`, (slots + lent, chunk_bytes) uint8, those that have
    arrived are rows `head` and following, from column `frame_start` on, with their bytes in
    `length`.
    """

    def __init__(
        self, ifindex: int, *, slots: int, lent: int, chunk_bytes: int, queue: int = 0
    ) -> None:
        super().__init__(
            ifindex, queue=queue, chunks=slots + lent, chunk_bytes=chunk_bytes, entries=slots
        )
        self.slots = slots
        self.frame_start = RX_HEADROOM
        self.length: npt.NDArray[np.uint32] = self._rx.elements["len"]
        self._received_at: npt.NDArray[np.uint64] = self._rx.elements["addr"]
        # Offered once, for ever in this order: later a count says which are free again.
        self._fill.elements["addr"] = np.arange(slots) * chunk_bytes
        self._fill.publish(slots)

    @property
    def head(self) -> int:
        """The row of the frame that has waited longest."""
        return self._rx.consumer[0] & self._mask

    def ready(self, limit: int) -> int:
        """How many frames, at most `limit`, lie in rows `head` and following.

        Never past the last row: what wrapped around is announced after the next `release`.
        """
        consumer = self._rx.consumer[0]
        count = (self._rx.producer[0] - consumer) & 0xFFFFFFFF
        if not count:
            return 0
        head = consumer & self._mask
        if int(self._received_at[head]) != head * self.chunk_bytes + RX_HEADROOM:
            raise RuntimeError("received into another row than the next one")
        return min(count, limit, self.slots - head)

    def release(self, count: int) -> None:
        """Give the first `count` rows from `head` back, to be received into again."""
        self._rx.consume(count)
        self._fill.publish(count)
