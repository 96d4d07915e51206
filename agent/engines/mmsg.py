"""recvmmsg and sendmmsg: a batch of frames with one system call, straight from array memory.

For sockets only: a TAP descriptor is none. Must not know what frames mean.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar, Final

import numpy as np

from agent.batch import HEADROOM, FrameBatch
from agent.engines.base import (
    Engine,
    EngineCounters,
    Patience,
    Port,
    Probe,
    Rows,
    SendResult,
    Side,
    merge,
)
from agent.linux import mmsg

_DONTWAIT: Final = int(socket.MSG_DONTWAIT)
_ALL: Final = slice(None)


class MmsgEngine(Engine):
    """recvmmsg/sendmmsg on an AF_PACKET socket."""

    name: ClassVar[str] = "mmsg"
    sides: ClassVar[frozenset[Side]] = frozenset({Side.WIRE})
    batches: ClassVar[bool] = True

    def __init__(self, port: Port, batch_size: int) -> None:
        super().__init__(port, batch_size)
        self._sock = socket.socket(fileno=os.dup(port.fd))
        self._sock.setblocking(False)
        # A single frame costs less by the plain calls.
        self.recv_one, self.send_one = self._sock.recv, self._sock.send
        self.recv_call, self.send_call = "recvfrom", "sendto"
        self._into: FrameBatch | None = None
        self._recv_table: mmsg.MsgTable
        self._in_place: mmsg.MsgTable
        self._most = batch_size
        self._fd = port.fd
        self._recv_calls = 0
        self._send_calls = 0
        # Made once: most calls end with one of them.
        self._sent = [SendResult(count) for count in range(batch_size + 1)]

    @cached_property
    def _send_table(self) -> mmsg.MsgTable:
        """For rows that do not stand where they were received."""
        return mmsg.MsgTable(self._copies.data)

    @classmethod
    def probe(cls, side: Side) -> Probe:
        if side is not Side.WIRE:
            return Probe(available=False, why_not="a TAP descriptor is no socket")
        why_not = mmsg.supported()
        return Probe(available=why_not is None, why_not=why_not)

    def new_batch(self) -> FrameBatch:
        batch = super().new_batch()
        self._receive_into(batch)
        return batch

    def _receive_into(self, batch: FrameBatch) -> None:
        """Build the tables for a batch: one to receive, one to send rows from where they are."""
        table = mmsg.MsgTable(batch.data)
        table.reset_receive(offset=HEADROOM)
        table.iov_len[:] = batch.frame_bytes
        self._recv_table = table
        self._in_place = mmsg.MsgTable(batch.data)
        self._in_place.reset_receive(offset=HEADROOM)
        # What all entries of that have for a length, 0 where that is not known.
        self._in_place_bytes = 0
        self._into = batch
        self._most = min(batch.capacity, self.batch_size)
        # Where the kernel writes the lengths is where the batch has them.
        batch.length = table.msg_len

    def recv_batch(self, batch: FrameBatch) -> int:
        if batch is not self._into:
            self._receive_into(batch)
        table = self._recv_table
        self._recv_calls += 1
        try:
            n = table.recv(self._fd, min(self._most, batch.limit), _DONTWAIT)
        except BlockingIOError:
            batch.received(0)
            return 0
        batch.received(n)
        counters = self.counters
        counters.rx_frames += n
        counters.rx_bytes += batch.total_bytes
        counters.fill[n] += 1
        return n

    def send_rows(self, batch: FrameBatch, rows: Rows | None = None) -> SendResult:
        if batch is self._into and not batch.moved and not isinstance(rows, np.ndarray):
            return self._send_in_place(batch, _ALL if rows is None else rows)
        if rows is None:
            rows = slice(0, batch.count)
        address = batch.row_address[rows]
        count = len(address)
        if count > self.batch_size:
            whole = np.arange(batch.capacity)[rows]
            step = self.batch_size
            return merge(
                [self.send_rows(batch, whole[i : i + step]) for i in range(0, count, step)]
            )
        table = self._send_table
        np.add(address, batch.start[rows], out=table.iov_base[:count])
        table.iov_len[:count] = batch.length[rows]
        done, number = self._try(table, 0, count)
        self.counters.tx_bytes += sum(table.iov_len[:done].tolist())
        if done == count:
            return SendResult(done)
        numbers = np.arange(batch.capacity)[rows].tolist()
        return self._finish(batch, numbers, table, done, number)

    def _send_in_place(self, batch: FrameBatch, rows: slice) -> SendResult:
        """Send rows that stand where they were received: their addresses are in a table already."""
        first, end, _ = rows.indices(batch.count)
        table = self._in_place
        size = batch.alike
        if not size or size != self._in_place_bytes:
            table.iov_len[first:end] = batch.length[first:end]
            self._in_place_bytes = size if end - first == batch.capacity else 0
        done, number = self._try(table, first, end - first)
        self.counters.tx_bytes += size * done or sum(batch.length[first : first + done].tolist())
        if first + done == end:
            return self._sent[done]
        result = self._finish(batch, range(end), table, first + done, number)
        return result._replace(sent=result.sent - first)

    def _try(self, table: mmsg.MsgTable, first: int, count: int) -> tuple[int, int]:
        """One call for entries from `first` on: how many went, and the errno if none did."""
        if count <= 0:
            return 0, 0
        self._send_calls += 1
        try:
            done = table.send(self._fd, first, count, _DONTWAIT)
        except OSError as error:
            return 0, error.errno or -1
        self.counters.tx_frames += done
        return done, 0

    def _finish(
        self,
        batch: FrameBatch,
        numbers: Sequence[int],
        table: mmsg.MsgTable,
        first: int,
        number: int,
    ) -> SendResult:
        """Send entries from `first` on, the first of which the kernel did not take (`number` says
        why, 0: unknown). `numbers` has the row of each entry; all before `first` count as sent."""
        sent = first
        patience = Patience(self._fd)
        late: list[SendResult] = []
        while first < len(numbers):
            if not number:
                done, number = self._try(table, first, len(numbers) - first)
                self.counters.tx_bytes += sum(table.iov_len[first : first + done].tolist())
                first += done
                sent += done
                continue
            late.append(self._settle(batch.view(numbers[first]), number, patience))
            first += 1
            number = 0
        self._count_polls(patience)
        return merge([SendResult(sent), *late])

    def read_counters(self) -> EngineCounters:
        counters = self.counters
        for name, calls in (("recvmmsg", self._recv_calls), ("sendmmsg", self._send_calls)):
            if calls:
                counters.syscalls[name] += calls
        self._recv_calls = self._send_calls = 0
        return counters

    def close(self) -> None:
        self._sock.close()
