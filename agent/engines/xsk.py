"""AF_XDP: frames leave the driver for memory of our own before the network stack sees them.

For the wire. Frames are received without a system call and copied once, into the rows of the
batch. Must not know what frames mean; which ones are for this node is for the program to say
that is put on the interface.

Sending is sendmmsg's: a veth has no AF_XDP transmission but the copying one, which passes by the
interface's queue and tells neither which frames were too long nor which were not taken, so that
frames would be lost silently.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import ExitStack
from errno import EBUSY, ENETDOWN
from functools import cache
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from agent.batch import HEADROOM, FrameBatch
from agent.engines.base import (
    Buffer,
    EngineCounters,
    Patience,
    Port,
    Probe,
    SendResult,
    Side,
)
from agent.engines.mmsg import MmsgEngine
from agent.linux import netif, xsk
from agent.linux.xsk import RX_HEADROOM, XskSocket
from agent.linux.xsk_abi import AF_XDP

CHUNKS: Final = 2048
"""Frames that the memory holds; half of them wait to be received into."""
QUEUE: Final = 0
_RELEASE_S: Final = 2.0
"""The kernel gives a queue free some time after the end of the socket that had it."""
_NO_CALL: Final = ""


class XskEngine(MmsgEngine):
    """Receives through an AF_XDP socket on the port's interface, sends by sendmmsg.

    Serves the interface's first receive queue; a veth made in the usual way has no other. The
    port's own socket hears nothing as long as the engine is open.
    """

    name: ClassVar[str] = "xsk"

    def __init__(self, port: Port, batch_size: int) -> None:
        super().__init__(port, batch_size)
        self._looks = 0
        self._counted_drops = 0
        with ExitStack() as stack:
            stack.callback(super().close)
            index = netif.index(port.ifname)
            frame_bytes = RX_HEADROOM + port.frame_limit + 1
            chunk_bytes = max(2048, 1 << (frame_bytes - 1).bit_length())
            self._xsk = stack.enter_context(_open(index, chunk_bytes))
            self._chunk_shift = np.uint64(chunk_bytes.bit_length() - 1)
            # Asks only for errors; the socket's own object has no such call.
            self._errors = stack.enter_context(
                socket.socket(AF_XDP, socket.SOCK_RAW, 0, fileno=os.dup(self._xsk.fileno()))
            )
            attachment, self.why_not_native = xsk.attach(index, netif.mac(port.ifname))
            stack.callback(attachment.close)
            attachment.feed(QUEUE, self._xsk.fileno())
            self._open = stack.pop_all()
        self.recv_one = self._recv_one
        self.recv_call = _NO_CALL

    @classmethod
    def probe(cls, side: Side) -> Probe:
        if side is not Side.WIRE:
            return Probe(available=False, why_not="a TAP descriptor is no interface's queue")
        available, why_not = _probe(os.getpid())
        return Probe(available=available, why_not=None if available else why_not)

    def fileno(self) -> int:
        return self._xsk.fileno()

    def recv_batch(self, batch: FrameBatch) -> int:
        addresses, lengths = self._xsk.receive(min(batch.limit, self.batch_size))
        n = len(addresses)
        if not n:
            batch.received([])
            self._look_for_errors()
            return 0
        sizes: list[int] = np.minimum(lengths, np.uint32(batch.frame_bytes)).tolist()
        chunks = addresses >> self._chunk_shift
        # Frames begin at the same place in every chunk.
        begin = int(addresses[0] - (chunks[0] << self._chunk_shift))
        longest = max(sizes)
        batch.data[:n, HEADROOM : HEADROOM + longest] = self._xsk.memory[
            chunks.astype(np.intp), begin : begin + longest
        ]
        self._give_back(addresses)
        batch.received(sizes)
        batch.length[:n] = sizes
        counters = self.counters
        counters.rx_frames += n
        counters.rx_bytes += sum(sizes)
        counters.fill[n] += 1
        return n

    def _recv_one(self, size: int) -> bytes | None:
        addresses, lengths = self._xsk.receive(1)
        if not len(addresses):
            self._look_for_errors()
            return None
        begin = int(addresses[0])
        frame = self._xsk.flat[begin : begin + min(size, int(lengths[0]))].tobytes()
        self._give_back(addresses)
        return frame

    def _give_back(self, addresses: npt.NDArray[np.uint64]) -> None:
        self._xsk.release(addresses)
        self._xsk.refill()

    def _look_for_errors(self) -> None:
        """The interface may be gone, and until that is asked for the socket stays readable."""
        self._looks += 1
        number = self._errors.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number))

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

    def read_counters(self) -> EngineCounters:
        counters = super().read_counters()
        counters.syscalls.pop(_NO_CALL, None)
        if self._looks:
            counters.syscalls["getsockopt"] += self._looks
            self._looks = 0
        if self._xsk.fileno() >= 0:
            found = self._xsk.statistics()
            drops = found["rx_dropped"] + found.get("rx_ring_full", 0)
            if drops > self._counted_drops:
                counters.drops["receive_ring_full"] += drops - self._counted_drops
                self._counted_drops = drops
        return counters

    def close(self) -> None:
        self._open.close()


def _open(ifindex: int, chunk_bytes: int) -> XskSocket:
    deadline = time.monotonic() + _RELEASE_S
    while True:
        try:
            return XskSocket(ifindex, queue=QUEUE, chunks=CHUNKS, chunk_bytes=chunk_bytes)
        except OSError as error:
            if error.errno != EBUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.001)


@cache
def _probe(process: int) -> tuple[bool, str]:
    """Whether the process with this id, which is the caller, may use AF_XDP: tried once."""
    return xsk.probe()
