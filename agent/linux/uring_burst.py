"""Bursts: a batch of frames sent from anywhere in memory by one io_uring_enter.

Why bursts keep their order. Requests of one `enter` are issued one after the other, each to its
end, unless one has to wait; RWF_NOWAIT and MSG_DONTWAIT make a request that would have to wait
fail with EAGAIN instead. So no links between them are needed, and when `enter` returns every
frame of the burst is sent or has a completion that says why not.

Knows frames as bytes and nothing of protocols. Source: io_uring_enter(2).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from agent.linux import uring_abi as abi
from agent.linux.uring_abi import Op
from agent.linux.uring_ring import Ring

_MSG_DONTWAIT: Final = 0x40


class Burst:
    """Sends batches of up to `capacity` frames to one descriptor, in order, each exactly once.

    Uses slots `slot` … `slot + capacity - 1` of `ring.sqes`. `operation` is WRITE (TAP) or SEND
    (socket); the ring does not hold the file behind `fd`, which the kernel lets go of only some
    time after a ring's end. Only failures complete, with `user_data` + the frame's place in its
    burst: EAGAIN (no room now), EMSGSIZE, ENETDOWN, EIO (TAP down) … as the kernel has it.
    """

    def __init__(
        self,
        ring: Ring,
        *,
        operation: Op,
        slot: int,
        capacity: int,
        fd: int,
        user_data: int,
    ) -> None:
        if operation not in (Op.WRITE, Op.SEND):
            raise ValueError("a burst goes by WRITE or SEND")
        self._ring = ring
        self._slot = slot
        self.capacity = capacity
        slots = ring.sqes[slot : slot + capacity]
        if len(slots) != capacity:
            raise ValueError(f"the ring has {ring.entries} slots")
        slots[:] = np.zeros((), abi.SQE)
        slots["opcode"] = operation
        slots["flags"] = abi.SQE_CQE_SKIP_SUCCESS
        slots["fd"] = fd
        slots["rw_flags"] = _MSG_DONTWAIT if operation is Op.SEND else abi.RWF_NOWAIT
        slots["user_data"] = user_data + np.arange(capacity)
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
