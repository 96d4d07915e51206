"""recvmmsg and sendmmsg: a batch of frames with one system call, straight from array memory.

For sockets only: a TAP descriptor is none. Must not know what frames mean.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from agent.batch import HEADROOM, FrameBatch
from agent.engines.base import (
    Buffer,
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
        self._copies = self.new_batch()
        self._send_table = mmsg.MsgTable(self._copies.data)
        # Sums by row, added up only when somebody asks: adding two arrays is the cheaper half.
        self._rx_bytes: npt.NDArray[np.uint64] = np.zeros(batch_size, np.uint64)
        self._tx_bytes: npt.NDArray[np.uint64] = np.zeros(batch_size, np.uint64)
        self._recv_calls = 0
        self._send_calls = 0

    @classmethod
    def probe(cls, side: Side) -> Probe:
        if side is not Side.WIRE:
            return Probe(available=False, why_not="a TAP descriptor is no socket")
        why_not = mmsg.supported()
        return Probe(available=why_not is None, why_not=why_not)

    def recv_batch(self, batch: FrameBatch) -> int:
        if batch is not self._into:
            self._receive_into(batch)
        table = self._recv_table
        self._recv_calls += 1
        try:
            n = table.recv(self.port.fd, min(batch.capacity, self.batch_size), socket.MSG_DONTWAIT)
        except BlockingIOError:
            batch.count = 0
            return 0
        batch.count = n
        batch.start[:n] = HEADROOM
        length = batch.length[:n]
        length[:] = table.msg_len[:n]
        self._rx_bytes[:n] += length
        counters = self.counters
        counters.rx_frames += n
        counters.fill[n] += 1
        return n

    def _receive_into(self, batch: FrameBatch) -> None:
        table = mmsg.MsgTable(batch.data)
        table.reset_receive(offset=HEADROOM)
        table.iov_len[:] = batch.frame_bytes
        self._recv_table = table
        self._into = batch

    def send_rows(self, batch: FrameBatch, rows: Rows | None = None) -> SendResult:
        if rows is None:
            rows = slice(0, batch.count)
        address = batch.row_address[rows]
        n = len(address)
        if n > self.batch_size:
            whole = np.arange(batch.capacity)[rows]
            step = self.batch_size
            return merge([self.send_rows(batch, whole[i : i + step]) for i in range(0, n, step)])
        table = self._send_table
        np.add(address, batch.start[rows], out=table.iov_base[:n])
        length = batch.length[rows]
        table.iov_len[:n] = length
        self._send_calls += 1
        try:
            done = table.send(self.port.fd, 0, n, socket.MSG_DONTWAIT) if n else 0
        except OSError as error:
            return self._finish(batch, rows, 0, n, error.errno or -1)
        if done < n:
            return self._finish(batch, rows, done, n, 0)
        self._tx_bytes[:n] += length
        self.counters.tx_frames += n
        return SendResult(n)

    def _finish(
        self, batch: FrameBatch, rows: Rows, first: int, count: int, number: int
    ) -> SendResult:
        """Send entries from `first` on, after the kernel has stopped there (0: reason unknown)."""
        table = self._send_table
        row_numbers = np.arange(batch.capacity)[rows].tolist()
        taken = first
        self._count_sent(0, first)
        patience = Patience(self.port.fd)
        late: list[SendResult] = []
        while first < count:
            if not number:
                self._send_calls += 1
                try:
                    done = table.send(self.port.fd, first, count - first, socket.MSG_DONTWAIT)
                    self._count_sent(first, done)
                    first += done
                    taken += done
                    continue
                except OSError as error:
                    number = error.errno or -1
            late.append(self._settle(batch.view(row_numbers[first]), number, patience))
            first += 1
            number = 0
        self._count_polls(patience)
        return merge([SendResult(taken), *late])

    def _count_sent(self, first: int, count: int) -> None:
        self._tx_bytes[:count] += self._send_table.iov_len[first : first + count]
        self.counters.tx_frames += count

    def send_frames(self, frames: Sequence[Buffer]) -> SendResult:
        copies = self._copies
        limit = copies.frame_bytes
        results: list[SendResult] = []
        copies.clear()
        for frame in frames:
            if len(frame) > limit:
                # Too long for a row and for the interface: let the kernel say so itself.
                self._flush(results)
                results.append(self._send_alone(frame))
                continue
            copies.append(frame)
            if copies.count == copies.capacity:
                self._flush(results)
        self._flush(results)
        return results[0] if len(results) == 1 else merge(results)

    def _flush(self, results: list[SendResult]) -> None:
        if self._copies.count:
            results.append(self.send_rows(self._copies))
            self._copies.clear()

    def _send_alone(self, frame: Buffer) -> SendResult:
        self.counters.syscalls[self.send_call] += 1
        try:
            self.send_one(frame)
        except OSError as error:
            return self.settle(frame, error)
        self.counters.tx_frames += 1
        self.counters.tx_bytes += len(frame)
        return SendResult(1)

    def read_counters(self) -> EngineCounters:
        counters = self.counters
        for name, calls in (("recvmmsg", self._recv_calls), ("sendmmsg", self._send_calls)):
            if calls:
                counters.syscalls[name] += calls
        self._recv_calls = self._send_calls = 0
        counters.rx_bytes += int(self._rx_bytes.sum())
        counters.tx_bytes += int(self._tx_bytes.sum())
        self._rx_bytes.fill(0)
        self._tx_bytes.fill(0)
        return counters

    def close(self) -> None:
        self._sock.close()
