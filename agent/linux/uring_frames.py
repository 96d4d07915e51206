"""Frames through an io_uring: a stream of received ones, bursts of sent ones.

`Stream` reads one descriptor (TAP or AF_PACKET socket) by a single multishot request into the
rows of an array, in order. `Burst` sends a batch from anywhere in memory. `Watch` waits for a
descriptor that is read otherwise (a mapped ring, AF_XDP). All share a `Ring`, so one `enter` can
send a batch, re-arm what ended and wait for whatever comes first: one system call for all of it.

Why multishot. Reads that are posted ahead, several at a time, all wake for one frame; one gets it,
the others are armed again, and after 128 such disappointments a request fails with EAGAIN. Reads
that complete at once if there is nothing (RWF_NOWAIT) need a wake-up from somewhere else and a
guess at how many to post. A multishot request has one place in the wait queue, and takes all
there is in one go.

Why bursts keep their order. Requests of one `enter` are issued one after the other, each to its
end, unless one has to wait; RWF_NOWAIT and MSG_DONTWAIT make a request that would have to wait
fail with EAGAIN instead. So no links between them are needed, and when `enter` returns every
frame of the burst is sent or has a completion that says why not.

Knows frames as bytes and nothing of protocols. Sources: io_uring_enter(2), io_uring_prep_recv(3).
"""

from __future__ import annotations

import errno
import os
import select
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.linux import uring_abi as abi
from agent.linux.mapping import Mapping
from agent.linux.uring_abi import Op, Register
from agent.linux.uring_ring import Completions, Ring

_MSG_DONTWAIT: Final = 0x40
# What ends a multishot request and is mended by arming it again.
_MENDS: Final = frozenset({errno.ENOBUFS, errno.EAGAIN, errno.EINTR, errno.ENETDOWN})


class Stream:
    """Frames of one descriptor, received into the rows of `rows` in order of arrival.

    `rows` is (n, stride) uint8, n a power of two up to 32768, contiguous; frames begin at column
    `start`. Frame after frame goes into the next row; what has been received and not released
    are the `filled` rows from `head` on (mod n), with their bytes in `length`. Rows released
    are received into again, in the same order, so they never have to be named to the kernel.

    `slot` is the stream's own slot in `ring.sqes`, `file_index` the descriptor's place in
    `Ring.register_files`, `group` a number for its buffers, `user_data` what marks its
    completions. OSError as io_uring_register(2) has it (EINVAL before Linux 5.19; multishot
    reads of a TAP need 6.7).
    """

    def __init__(
        self,
        ring: Ring,
        rows: npt.NDArray[np.uint8],
        *,
        operation: Op,
        slot: int,
        file_index: int,
        group: int,
        user_data: int,
        start: int = 0,
    ) -> None:
        if operation not in (Op.READ_MULTISHOT, Op.RECV):
            raise ValueError("a stream reads by READ_MULTISHOT (TAP) or RECV (socket)")
        count = len(rows)
        if not count or count & (count - 1) or count > 1 << 15 or not rows.flags.c_contiguous:
            raise ValueError("rows must be contiguous and a power of two, at most 32768")
        self._ring = ring
        self.rows = rows
        self.start = start
        self.user_data = user_data
        self.length: npt.NDArray[np.int32] = np.zeros(count, np.int32)
        self.head = 0
        self.filled = 0
        self.armed = False
        self.ended = 0
        self.last_error = 0
        self._mask = count - 1
        self._slot = np.array([slot], np.uint32)
        self._group = group

        self._map = Mapping(abi.BUF.itemsize * count)
        request = np.zeros(1, abi.BUF_REG)
        request["ring_addr"], request["ring_entries"] = self._map.address, count
        request["bgid"] = group
        ring.register(Register.PBUF_RING, request.ctypes.data, 1)
        buffers = self._map.array(abi.BUF, count)
        stride = np.uint64(rows.strides[0])
        first = np.uint64(rows.ctypes.data + start)
        buffers["addr"] = first + np.arange(count, dtype=np.uint64) * stride
        buffers["len"] = rows.shape[1] - start
        buffers["bid"] = np.arange(count)
        self._tail_word = self._map.half(14)
        # Rows are offered and taken in one fixed order, so an entry never changes again.
        self._offered = count
        self._tail_word[0] = self._offered & 0xFFFF

        sqe = np.zeros((), abi.SQE)
        sqe["opcode"] = operation
        sqe["flags"] = abi.SQE_FIXED_FILE | abi.SQE_BUFFER_SELECT
        sqe["fd"] = file_index
        sqe["ioprio"] = abi.RECV_MULTISHOT if operation is Op.RECV else 0
        sqe["user_data"] = user_data
        sqe["buf_index"] = group
        ring.sqes[slot] = sqe
        self.arm()

    def arm(self) -> None:
        """Queue the request if it is not under way; the next `enter` submits it."""
        if not self.armed:
            self._ring.queue_slots(self._slot)
            self.armed = True

    def absorb(self, completions: Completions) -> int:
        """Take in the completions that carry `user_data`, in order; how many frames they brought.

        If the request ended it is queued again at once, unless all rows are filled: then the
        next `release` does it. OSError for an error that arming again does not mend.
        """
        results = completions["res"]
        flags = completions["flags"]
        count = len(completions)
        more = bool(flags[-1] & abi.CQE_MORE)
        if not more and results[-1] <= 0:
            count -= 1
        if count:
            first = (self.head + self.filled) & self._mask
            if flags[0] >> abi.CQE_BUFFER_SHIFT != first:
                raise RuntimeError("received into another row than the next one")
            end = first + count
            if end <= self._mask + 1:
                self.length[first:end] = results[:count]
            else:
                split = self._mask + 1 - first
                self.length[first:] = results[:split]
                self.length[: count - split] = results[split:count]
            self.filled += count
        if not more:
            self._end(int(results[-1]))
        return count

    def absorb_one(self, result: int, flags: int) -> int:
        """`absorb` for one completion, without arrays."""
        count = 0
        if result > 0:
            row = (self.head + self.filled) & self._mask
            if flags >> abi.CQE_BUFFER_SHIFT != row:
                raise RuntimeError("received into another row than the next one")
            self.length[row] = result
            self.filled += 1
            count = 1
        if not flags & abi.CQE_MORE:
            self._end(result)
        return count

    def _end(self, result: int) -> None:
        self.armed = False
        self.ended += 1
        if result <= 0:
            self.last_error = -result or errno.EPIPE
            if self.last_error not in _MENDS:
                words = f"multishot receive: {os.strerror(self.last_error)}"
                raise OSError(self.last_error, words)
        if self.filled <= self._mask:
            self.arm()

    def ready(self, limit: int) -> int:
        """Frames, at most `limit`, that lie in rows `head` and following, up to the last row."""
        return min(limit, self.filled, self._mask + 1 - self.head)

    def release(self, count: int) -> None:
        """The first `count` rows from `head` may be received into again."""
        self.head = (self.head + count) & self._mask
        self.filled -= count
        self._offered += count
        self._tail_word[0] = self._offered & 0xFFFF
        if not self.armed:
            self.arm()

    def close(self) -> None:
        """Take the rows back from the kernel (closing the ring does it too)."""
        request = np.zeros(1, abi.BUF_REG)
        request["bgid"] = self._group
        if self._ring.fd >= 0:
            self._ring.register(Register.UNREGISTER_PBUF_RING, request.ctypes.data, 1)
        self._map.release()


class Watch:
    """Completions whenever a descriptor becomes readable (a multishot poll, edge by edge).

    For what is received without the ring but waited for with it: after its completion, take all
    that is there, for only what comes later completes again. `slot`, `file_index` and
    `user_data` as in `Stream`.
    """

    def __init__(self, ring: Ring, *, slot: int, file_index: int, user_data: int) -> None:
        self._ring = ring
        self._slot = np.array([slot], np.uint32)
        self.user_data = user_data
        self.armed = False
        sqe = np.zeros((), abi.SQE)
        sqe["opcode"] = Op.POLL_ADD
        sqe["flags"] = abi.SQE_FIXED_FILE
        sqe["fd"] = file_index
        sqe["len"] = abi.POLL_ADD_MULTI
        sqe["rw_flags"] = select.POLLIN
        sqe["user_data"] = user_data
        ring.sqes[slot] = sqe
        self.arm()

    def arm(self) -> None:
        """Queue the request if it is not under way; the next `enter` submits it."""
        if not self.armed:
            self._ring.queue_slots(self._slot)
            self.armed = True

    def absorb_one(self, result: int, flags: int) -> int:
        """Take in one completion: the poll events that it brought. OSError if it is an error."""
        if not flags & abi.CQE_MORE:
            self.armed = False
            self.arm()
        if result < 0:
            raise OSError(-result, f"multishot poll: {os.strerror(-result)}")
        return result


class Burst:
    """Sends batches of up to `capacity` frames to one descriptor, in order, each exactly once.

    Uses slots `slot` … `slot + capacity - 1` of `ring.sqes`. `operation` is WRITE (TAP), SEND
    (socket), or WRITE_FIXED from memory registered as `buffer_index`. With `registered` false
    `file_index` is the descriptor itself: a little slower, but the ring does not hold the file,
    which the kernel lets go of only some time after a ring's end. Only failures complete,
    with `user_data` + the frame's place in its burst: EAGAIN (no room now), EMSGSIZE, ENETDOWN,
    EIO (TAP down) … as the kernel has it.
    """

    def __init__(
        self,
        ring: Ring,
        *,
        operation: Op,
        slot: int,
        capacity: int,
        file_index: int,
        user_data: int,
        buffer_index: int = 0,
        registered: bool = True,
    ) -> None:
        if operation not in (Op.WRITE, Op.SEND, Op.WRITE_FIXED):
            raise ValueError("a burst goes by WRITE, WRITE_FIXED or SEND")
        self._ring = ring
        self._slot = slot
        self.capacity = capacity
        self.user_data = user_data
        slots = ring.sqes[slot : slot + capacity]
        if len(slots) != capacity:
            raise ValueError(f"the ring has {ring.entries} slots")
        slots[:] = np.zeros((), abi.SQE)
        slots["opcode"] = operation
        slots["flags"] = abi.SQE_CQE_SKIP_SUCCESS | (abi.SQE_FIXED_FILE if registered else 0)
        slots["fd"] = file_index
        slots["rw_flags"] = _MSG_DONTWAIT if operation is Op.SEND else abi.RWF_NOWAIT
        slots["user_data"] = user_data + np.arange(capacity)
        slots["buf_index"] = buffer_index
        self._address = slots["addr"]
        self._length = slots["len"]

    def stage(
        self, address: npt.NDArray[np.uint64], length: npt.NDArray[np.integer], count: int
    ) -> None:
        """Queue `count` frames at these memory addresses; the next `enter` sends them.

        ValueError past `capacity` or the ring's `space`. The memory must not change before.
        """
        if count > self.capacity:
            raise ValueError(f"{count} frames to send, a burst has at most {self.capacity}")
        self._address[:count] = address[:count]
        self._length[:count] = length[:count]
        self._ring.queue(self._slot, count)

    def stage_one(self, address: int, length: int) -> None:
        """`stage` for one frame, without arrays."""
        self._address[0] = address
        self._length[0] = length
        self._ring.queue(self._slot, 1)
