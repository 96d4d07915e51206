"""io_uring: a batch of reads or of writes with one io_uring_enter, from and to array memory.

The one way to batch a TAP; on the wire it competes with recvmmsg and sendmmsg. Must not know what
frames mean.

How it reads. Readiness is the descriptor's own, so that any loop can wait for it; then as many
reads as the last batch suggests go out at once, straight into the rows of the batch, and those
that find nothing complete at once too (RWF_NOWAIT, MSG_DONTWAIT).

Few frames go by the plain calls: filling in a submission and entering the kernel by way of the
ring costs as much as several of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from errno import EAGAIN, EBUSY, EINTR, ENOMEM
from functools import cache
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from agent.batch import HEADROOM, FrameBatch
from agent.engines.base import (
    PATIENCE_NS,
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
from agent.engines.perpacket import PerPacketEngine
from agent.linux import uring, uring_abi
from agent.linux.uring import Burst, Op, Ring

FEW_WRITES: Final = 4
FEW_READS: Final = 6
"""Up to so many frames go by plain calls."""
_DONTWAIT: Final = 0x40
_BURST: Final = 1 << 32
"""Marks completions of writes; those of reads carry the number of their row."""
_NOTHING: Final = frozenset({-EAGAIN, -EINTR, 0})
_BUSY: Final = frozenset({EAGAIN, EBUSY, ENOMEM})


class UringEngine(PerPacketEngine):
    """Batches through an io_uring of its own, single frames by plain calls.

    A ring belongs to the thread that made it: the engine must be used where it was opened.
    """

    name: ClassVar[str] = "uring"
    batches: ClassVar[bool] = True

    def __init__(self, port: Port, batch_size: int = 1) -> None:
        super().__init__(port, batch_size)
        self._enters = 0
        self._expected = 0
        self._late_error = 0
        self._most = batch_size
        self._into: FrameBatch | None = None
        self._ring = Ring(2 * batch_size, cq_entries=max(4 * batch_size, 64))
        try:
            with suppress(OSError):  # the thread has 16 registered rings already: only slower
                self._ring.register_ring()
            wire = self.side is Side.WIRE
            self._reads = self._ring.sqes[:batch_size]
            self._reads["opcode"] = Op.RECV if wire else Op.READ
            self._reads["rw_flags"] = _DONTWAIT if wire else uring_abi.RWF_NOWAIT
            self._reads["fd"] = port.fd
            self._reads["user_data"] = np.arange(batch_size)
            # By descriptor: a registered file would outlive a killed process by a moment, and
            # with it the TAP, whose name the next one wants.
            self._burst = Burst(
                self._ring,
                operation=Op.SEND if wire else Op.WRITE,
                slot=batch_size,
                capacity=batch_size,
                fd=port.fd,
                user_data=_BURST,
            )
        except BaseException:
            self.close()
            raise

    @classmethod
    def probe(cls, side: Side) -> Probe:
        available, why_not = _probe(os.getpid(), side)
        return Probe(available=available, why_not=None if available else why_not)

    # -- receiving -----------------------------------------------------------------------------

    def new_batch(self) -> FrameBatch:
        batch = super().new_batch()
        self._receive_into(batch)
        return batch

    def _receive_into(self, batch: FrameBatch) -> None:
        """Point the reads at the rows of a batch."""
        self._most = most = min(batch.capacity, self.batch_size)
        self._reads["addr"][:most] = batch.row_address[:most] + np.uint64(HEADROOM)
        self._reads["len"] = batch.frame_bytes
        self._into = batch

    def recv_batch(self, batch: FrameBatch) -> int:
        if batch is not self._into:
            self._receive_into(batch)
        if self._late_error:
            number, self._late_error = self._late_error, 0
            batch.received(0)
            raise OSError(number, os.strerror(number))
        most = min(self._most, batch.limit)
        sizes: list[int] = []
        drained = False
        if self._expected < FEW_READS:
            drained = self._read_few(batch, sizes, min(most, FEW_READS))
        expected = self._expected
        while not drained and len(sizes) < most:
            # Twice what came last: reads in vain cost little, another call costs more.
            posted = min(most - len(sizes), max(2 * expected, FEW_READS))
            drained = self._read_many(batch, sizes, posted)
            expected = len(sizes)
        n = len(sizes)
        self._expected = n
        if n:
            batch.length[:n] = sizes
        batch.received(n)
        if not n:
            return 0
        counters = self.counters
        counters.rx_frames += n
        counters.rx_bytes += batch.total_bytes
        counters.fill[n] += 1
        return n

    def _read_few(self, batch: FrameBatch, sizes: list[int], most: int) -> bool:
        """Fill rows by plain reads; whether there was nothing more."""
        read_into, views = self._read_into, batch.row_views
        calls = 0
        try:
            while len(sizes) < most:
                calls += 1
                size = read_into(views[len(sizes)])
                if size is None:
                    return True
                sizes.append(size)
        except BlockingIOError:
            return True
        except OSError as error:
            if not sizes:
                batch.received(0)
                raise
            self._late_error = error.errno or 0
            return True
        finally:
            self.counters.syscalls[self.recv_call] += calls
        return False

    def _read_many(self, batch: FrameBatch, sizes: list[int], count: int) -> bool:
        """Fill `count` rows behind those in `sizes`; whether there was nothing more."""
        first = len(sizes)
        self._ring.queue(first, count)
        whole = self._enter(count) == count
        results: list[int] = self._ring.reap()["res"].tolist()
        if whole and min(results) > 0:
            sizes.extend(results)
            return False
        failed = 0
        for row, result in enumerate(results, first):
            if result > 0:
                if row != len(sizes):
                    # It came after reads of rows in front of it had found nothing.
                    batch.row_views[len(sizes)][:result] = batch.row_views[row][:result]
                sizes.append(result)
            elif result not in _NOTHING:
                failed = -result
        if failed:
            if not sizes:
                batch.received(0)
                raise OSError(failed, os.strerror(failed))
            self._late_error = failed
        return True

    def _enter(self, count: int) -> int:
        """Submit the `count` requests that are queued; how many the kernel took, of the first."""
        ring = self._ring
        left, deadline_ns = count, 0
        while True:
            self._enters += 1
            try:
                left -= ring.enter()
            except OSError as error:
                if error.errno not in _BUSY:
                    raise
            if not left:
                return count
            # The kernel has no memory for requests at the moment.
            now_ns = time.monotonic_ns()
            deadline_ns = deadline_ns or now_ns + PATIENCE_NS
            if now_ns > deadline_ns:
                ring.withdraw()
                return count - left
            time.sleep(50e-6)

    # -- sending -------------------------------------------------------------------------------

    def send_rows(self, batch: FrameBatch, rows: Rows | None = None) -> SendResult:
        if rows is None:
            rows = slice(0, batch.count)
        address = batch.row_address[rows] + batch.start[rows]
        count = len(address)
        if count <= FEW_WRITES:
            return super().send_rows(batch, rows)
        length = batch.length[rows]
        step = self.batch_size
        if count <= step:
            return self._send_burst(address, length, count, batch, rows)
        numbers = np.arange(batch.capacity)[rows]
        return merge(
            [
                self._send_burst(
                    address[i : i + step],
                    length[i : i + step],
                    min(step, count - i),
                    batch,
                    numbers[i : i + step],
                )
                for i in range(0, count, step)
            ]
        )

    def _send_burst(
        self,
        address: npt.NDArray[np.uint64],
        length: npt.NDArray[np.uint32],
        count: int,
        batch: FrameBatch,
        rows: Rows,
    ) -> SendResult:
        ring = self._ring
        self._burst.stage(address, length, count)
        taken = self._enter(count)
        counters = self.counters
        if taken == count and not ring.ready:
            counters.tx_frames += count
            counters.tx_bytes += int(length.sum())
            return SendResult(count)
        failed = dict.fromkeys(range(taken, count), EAGAIN)
        for user_data, result, _ in ring.reap().tolist():
            failed[user_data - _BURST] = -result
        numbers = np.arange(batch.capacity)[rows].tolist()
        patience = Patience(self.port.fd)
        sent = count - len(failed)
        counters.tx_frames += sent
        counters.tx_bytes += int(length.sum()) - sum(int(length[place]) for place in failed)
        late = [
            self._settle(batch.view(numbers[place]), number, patience)
            for place, number in sorted(failed.items())
        ]
        self._count_polls(patience)
        return merge([SendResult(sent), *late])

    def send_frames(self, frames: Sequence[Buffer]) -> SendResult:
        if len(frames) <= FEW_WRITES:
            return super().send_frames(frames)
        return Engine.send_frames(self, frames)

    # -- the rest ------------------------------------------------------------------------------

    def read_counters(self) -> EngineCounters:
        if self._enters:
            self.counters.syscalls["io_uring_enter"] += self._enters
            self._enters = 0
        return self.counters

    def close(self) -> None:
        self._ring.close()
        super().close()


@cache
def _probe(process: int, side: Side) -> tuple[bool, str]:
    """Whether the process with this id, which is the caller, may use io_uring: tried once."""
    return uring.probe(tap=side is Side.TAP)
