"""recvmmsg in, AF_XDP out: frames are received into memory that AF_XDP sends from.

For the wire. AF_XDP spares a frame that leaves some of what sendmmsg does for it; a program that
receives would have the neighbour's CPU copy frames, and take the interface away from others, so
here the packet socket goes on receiving. What AF_XDP cannot send goes by sendmmsg (`xsk_sending`).
The TAP's engine is lent such memory to receive into. Must not know what frames mean.
"""

from __future__ import annotations

from typing import ClassVar, Final

from agent.batch import HEADROOM, FrameBatch
from agent.engines import xsk_sending
from agent.engines.base import EngineCounters, Port, Probe, Rows, SendResult, Side
from agent.engines.mmsg import MmsgEngine
from agent.engines.xsk_sending import XskSender
from agent.linux import link, xsk
from agent.linux.xsk import XskTransmit

_LINE: Final = 64


class XskTxEngine(MmsgEngine):
    """recvmmsg on the port's AF_PACKET socket, AF_XDP on its interface to send.

    :raises NotImplementedError: AF_XDP cannot send on this interface without losing something.
    """

    name: ClassVar[str] = "xsk-tx"

    def __init__(self, port: Port, batch_size: int) -> None:
        super().__init__(port, batch_size)
        try:
            found = link.describe(port.ifname)
            why_not = xsk_sending.why_not(found)
            if why_not:
                raise NotImplementedError(why_not)
            # An odd number of cache lines, so that rows spread over all of a cache.
            lines = (HEADROOM + port.frame_limit + 1 + _LINE - 1) // _LINE | 1
            self._xsk = xsk.when_free(
                lambda: XskTransmit(
                    found.index,
                    chunks=2 * batch_size,
                    chunk_bytes=lines * _LINE,
                    entries=max(4, 1 << (batch_size - 1).bit_length()),
                )
            )
        except BaseException:
            super().close()
            raise
        self._sender = XskSender(self._xsk, place=0, frame_limit=port.frame_limit)
        self._first_row: dict[FrameBatch, int] = {}

    @classmethod
    def probe(cls, side: Side) -> Probe:
        if side is not Side.WIRE:
            return Probe(available=False, why_not="a TAP descriptor is no interface's queue")
        available, why_not = xsk.probe_sending()
        note = "on a veth without a queue" if available else None
        return Probe(available=available, why_not=None if available else why_not, note=note)

    def new_batch(self) -> FrameBatch:
        batch = self._batch_at(0, self.port.frame_limit + 1)
        if batch is None:
            return super().new_batch()
        self._receive_into(batch)
        return batch

    def lend_batch(self, frame_bytes: int) -> FrameBatch | None:
        return self._batch_at(self.batch_size, frame_bytes)

    def _batch_at(self, first: int, frame_bytes: int) -> FrameBatch | None:
        """Rows `first` and following, unless somebody has them or they are too short."""
        if first in self._first_row.values() or HEADROOM + frame_bytes > self._xsk.chunk_bytes:
            return None
        batch = FrameBatch(self.batch_size, frame_bytes, rows=self._xsk.frames[first:])
        self._first_row[batch] = first
        return batch

    def send_rows(self, batch: FrameBatch, rows: Rows | None = None) -> SendResult:
        first = self._first_row.get(batch)
        if first is None:
            return super().send_rows(batch, rows)
        return self._sender.send_or_else(batch, first, rows, self.counters, super().send_rows)

    def read_counters(self) -> EngineCounters:
        counters = super().read_counters()
        if self._sender.calls:
            counters.syscalls["sendto"] += self._sender.calls
            self._sender.calls = 0
        return counters

    def close(self) -> None:
        self._xsk.close()
        super().close()
