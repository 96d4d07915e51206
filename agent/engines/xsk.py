"""AF_XDP: frames leave the driver for memory of our own before the network stack sees them.

For the wire. A batch is a window over that memory: frames are rewritten where the kernel put them
and sent from there, so that receiving takes no system call and no copy in user space. Must not know
what frames mean; which ones are for this node is for the program to say that is put on the
interface.

Sends from the same memory through AF_XDP what can go that way (`xsk_sending`), all else by
sendmmsg. The TAP's engine is lent memory to receive into, so that its frames come from here too.
"""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from errno import ENETDOWN
from functools import cache
from typing import ClassVar, Final

from agent.batch import HEADROOM, FrameBatch
from agent.engines import xsk_sending
from agent.engines.base import (
    Buffer,
    EngineCounters,
    Patience,
    Port,
    Probe,
    Rows,
    SendResult,
    Side,
)
from agent.engines.mmsg import MmsgEngine
from agent.engines.window import WindowEngine
from agent.engines.xsk_sending import XskSender
from agent.linux import link, netif, xsk
from agent.linux.xsk import RX_HEADROOM, XskCycle
from agent.linux.xsk_abi import AF_XDP

SLOTS: Final = 512
"""Frames that may wait to be taken: 1 MB of memory for frames of an Ethernet's size."""
QUEUE: Final = 0


class XskEngine(WindowEngine):
    """Receives and, on a veth, sends through an AF_XDP socket on the port's interface.

    Serves the interface's only receive queue. The port's own socket hears nothing as long as the
    engine is open.
    """

    name: ClassVar[str] = "xsk"

    def __init__(self, port: Port, batch_size: int) -> None:
        super().__init__(port, batch_size)
        self._counted_drops = 0
        self._windows: set[FrameBatch] = set()
        self._lent: FrameBatch | None = None
        with ExitStack() as stack:
            stack.callback(MmsgEngine.close, self)
            found = link.describe(port.ifname)
            if found.receive_queues != 1:
                raise NotImplementedError(
                    f"it has {found.receive_queues} receive queues, and AF_XDP serves one"
                )
            self.why_not_sending = xsk_sending.why_not(found)
            frame_bytes = RX_HEADROOM + port.frame_limit + 1
            chunk_bytes = max(2048, 1 << (frame_bytes - 1).bit_length())
            self._rows = self._xsk = stack.enter_context(
                xsk.when_free(
                    lambda: XskCycle(
                        found.index,
                        queue=QUEUE,
                        slots=SLOTS,
                        lent=batch_size,
                        chunk_bytes=chunk_bytes,
                    )
                )
            )
            self._sender = XskSender(
                self._xsk, place=RX_HEADROOM - HEADROOM, frame_limit=port.frame_limit
            )
            # Asks only for errors; the socket's own object has no such call.
            self._errors = stack.enter_context(
                socket.socket(AF_XDP, socket.SOCK_RAW, 0, fileno=os.dup(self._xsk.fileno()))
            )
            attachment, self.why_not_native = xsk.attach(found.index, netif.mac(port.ifname))
            stack.callback(attachment.close)
            attachment.feed(QUEUE, self._xsk.fileno())
            self._open = stack.pop_all()

    @classmethod
    def probe(cls, side: Side) -> Probe:
        if side is not Side.WIRE:
            return Probe(available=False, why_not="a TAP descriptor is no interface's queue")
        available, why_not = _probe(os.getpid())
        return Probe(available=available, why_not=None if available else why_not)

    def fileno(self) -> int:
        return self._xsk.fileno()

    def new_batch(self) -> FrameBatch:
        batch = super().new_batch()
        self._windows.add(batch)
        return batch

    def lend_batch(self, frame_bytes: int) -> FrameBatch | None:
        place = RX_HEADROOM - HEADROOM
        if self.why_not_sending or HEADROOM + frame_bytes > self._xsk.chunk_bytes - place:
            return None
        batch = FrameBatch(
            self.batch_size, frame_bytes, rows=self._xsk.frames[self._xsk.slots :, place:]
        )
        self._lent = batch
        return batch

    # -- sending -------------------------------------------------------------------------------

    def send_rows(self, batch: FrameBatch, rows: Rows | None = None) -> SendResult:
        if batch in self._windows and not self.why_not_sending:
            first = self._xsk.head
        elif batch is self._lent:
            first = self._xsk.slots
        else:
            return super().send_rows(batch, rows)
        return self._sender.send_or_else(batch, first, rows, self.counters, super().send_rows)

    def _settle(self, frame: Buffer, number: int, patience: Patience) -> SendResult:
        if number == ENETDOWN:
            # Perhaps of a moment that is over: nobody receives from the socket, so that what it
            # has to tell about the link waits for the next who sends.
            self.counters.syscalls[self.send_call] += 1
            try:
                sent = self.send_one(frame)
            except OSError as error:
                number = error.errno or 0
            else:
                assert sent is not None
                self.counters.tx_frames += 1
                self.counters.tx_bytes += sent
                return SendResult(1)
        return super()._settle(frame, number, patience)

    # -- the rest ------------------------------------------------------------------------------

    def _error(self) -> int:
        return self._errors.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def read_counters(self) -> EngineCounters:
        counters = super().read_counters()
        if self._sender.calls:
            counters.syscalls["sendto"] += self._sender.calls
            self._sender.calls = 0
        if self._xsk.fileno() >= 0:
            found = self._xsk.statistics()
            drops = found["rx_dropped"] + found.get("rx_ring_full", 0)
            if drops > self._counted_drops:
                counters.drops["receive_ring_full"] += drops - self._counted_drops
                self._counted_drops = drops
        return counters

    def close(self) -> None:
        self._open.close()


@cache
def _probe(process: int) -> tuple[bool, str]:
    """Whether the process with this id, which is the caller, may use AF_XDP: tried once."""
    return xsk.probe()
