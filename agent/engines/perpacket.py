"""One system call per frame: recv and send on the wire, read and write on the TAP.

The baseline that every batching engine is compared with, so it is as lean as plain Python lets
it be. Must not know what frames mean.
"""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Callable, Sequence
from errno import EAGAIN
from typing import ClassVar

import numpy as np

from agent.batch import FrameBatch
from agent.engines.base import (
    Buffer,
    Engine,
    Patience,
    Port,
    Probe,
    Rows,
    SendResult,
    Side,
    merge,
)


class PerPacketEngine(Engine):
    """recv/send or read/write; a batch of it is a loop."""

    name: ClassVar[str] = "per-packet"
    sides: ClassVar[frozenset[Side]] = frozenset(Side)
    batches: ClassVar[bool] = False

    def __init__(self, port: Port, batch_size: int = 1) -> None:
        super().__init__(port, batch_size)
        self._read_into: Callable[[memoryview], int | None]
        if self.side is Side.WIRE:
            sock = socket.socket(fileno=os.dup(port.fd))
            sock.setblocking(False)
            self._owned: socket.socket | io.FileIO = sock
            self.recv_one, self.send_one = sock.recv, sock.send
            self._read_into = sock.recv_into
            self.recv_call, self.send_call = "recvfrom", "sendto"
        else:
            # A raw file reports "nothing there" as None: no exception to build and to catch.
            file = io.FileIO(port.fd, "r+", closefd=False)
            self._owned = file
            self.recv_one, self.send_one = file.read, file.write
            self._read_into = file.readinto
            self.recv_call, self.send_call = "read", "write"

    @classmethod
    def probe(cls, side: Side) -> Probe:
        return Probe(available=True)

    def recv_batch(self, batch: FrameBatch) -> int:
        read_into = self._read_into
        views = batch.row_views
        lengths: list[int] = []
        limit = batch.limit
        calls = 0
        try:
            while len(lengths) < limit:
                calls += 1
                size = read_into(views[len(lengths)])
                if size is None:
                    break
                lengths.append(size)
        except BlockingIOError:
            pass
        except OSError:
            # What was read before stays good; the same error, if it lasts, comes with the next.
            if not lengths:
                self.counters.syscalls[self.recv_call] += calls
                raise
        n = len(lengths)
        counters = self.counters
        counters.syscalls[self.recv_call] += calls
        if n:
            batch.length[:n] = lengths
        batch.received(n)
        if n:
            counters.rx_frames += n
            counters.rx_bytes += batch.total_bytes
            if n < len(counters.fill):
                counters.fill[n] += 1
        return n

    def send_rows(self, batch: FrameBatch, rows: Rows | None = None) -> SendResult:
        if rows is None:
            rows = slice(0, batch.count)
        begins = (batch.start[rows] + batch.row_address[rows] - batch.row_address[0]).tolist()
        ends = np.add(begins, batch.length[rows].astype(np.int64)).tolist()
        memory = batch.memory
        return self.send_frames(
            [memory[begin:end] for begin, end in zip(begins, ends, strict=True)]
        )

    def send_frames(self, frames: Sequence[Buffer]) -> SendResult:
        send = self.send_one
        counters = self.counters
        late: list[SendResult] = []
        patience: Patience | None = None
        sent_bytes = 0
        for frame in frames:
            number = 0
            try:
                if send(frame) is None:
                    number = EAGAIN
            except OSError as error:
                number = error.errno or -1
            if not number:
                sent_bytes += len(frame)
                continue
            patience = patience or Patience(self.port.fd)
            late.append(self._settle(frame, number, patience))
        sent = len(frames) - len(late)
        counters.syscalls[self.send_call] += len(frames)
        counters.tx_frames += sent
        counters.tx_bytes += sent_bytes
        if patience is None:
            return SendResult(sent)
        self._count_polls(patience)
        return merge([SendResult(sent), *late])

    def close(self) -> None:
        self._owned.close()
