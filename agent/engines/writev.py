"""writev as documented: all that one batch brings goes to the kernel in a single call.

Here to show what that does, not to be used. On a packet socket and on a TAP one writev is one
frame: its buffers are gathered into it (packet(7): one write, one packet;
Documentation/networking/tuntap.rst). Of several data messages only the first can be read, with
the others as its tail; control messages in front of it can be read as well. Must not know what
frames mean beyond that.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from errno import EMSGSIZE
from functools import partial
from typing import ClassVar

from agent.engines.base import (
    RETRIED,
    UNREACHABLE,
    Buffer,
    Patience,
    Port,
    Probe,
    SendResult,
    Side,
    drop_cause,
)
from agent.engines.joining import readable
from agent.engines.perpacket import PerPacketEngine

SWALLOWED = "swallowed"
"""Left in the frame of another one, behind a data message: nobody can read it there."""
BATCH_TOO_LONG = "batch_too_long"
"""Together with the rest of its batch longer than the interface carries: the call failed."""


class WritevEngine(PerPacketEngine):
    """One writev for everything that it is given at once; it receives frame by frame.

    A call that fails for good loses all of its frames, since nothing says which of them could have
    gone.
    """

    name: ClassVar[str] = "writev"
    batches: ClassVar[bool] = True
    joins: ClassVar[bool] = True
    gathers: ClassVar[bool] = True

    def __init__(self, port: Port, batch_size: int = 1) -> None:
        super().__init__(port, batch_size)
        self._writev = partial(os.writev, port.fd)
        self.send_one = self._write_one
        self.send_call = "writev"

    @classmethod
    def probe(cls, side: Side) -> Probe:
        return Probe(
            available=True,
            note="a batch leaves as one frame, of which one packet arrives; never chosen by auto",
        )

    def _write_one(self, frame: Buffer) -> int:
        return self._writev((frame,))

    def send_frames(self, frames: Sequence[Buffer]) -> SendResult:
        count = len(frames)
        if not count:
            return SendResult(0)
        number = self._try(frames)
        if number in RETRIED:
            patience = Patience(self.port.fd)
            while number in RETRIED and patience.wait(number):
                number = self._try(frames)
            self._count_polls(patience)
        if number:
            return self._lose(frames, number)
        if count == 1:
            return SendResult(1)
        counters = self.counters
        counters.carried[count] += 1
        # Inner frames do not tell where they end, so whatever follows one is its tail.
        arriving = 1 if self.side is Side.TAP else readable(frames)
        if arriving < count:
            counters.drops[SWALLOWED] += count - arriving
        return SendResult(arriving, count - arriving)

    def _try(self, frames: Sequence[Buffer]) -> int:
        """One call with all of `frames`; 0 or the errno."""
        counters = self.counters
        counters.syscalls[self.send_call] += 1
        try:
            size = self._writev(frames)
        except OSError as error:
            return error.errno or -1
        counters.tx_frames += 1
        counters.tx_bytes += size
        return 0

    def _lose(self, frames: Sequence[Buffer], number: int) -> SendResult:
        """Count all of `frames`, that errno `number` kept from being sent."""
        together = number == EMSGSIZE and len(frames) > 1
        cause = BATCH_TOO_LONG if together else drop_cause(number)
        self.counters.drops[cause] += len(frames)
        failed: dict[bytes, None] = {}
        if number in UNREACHABLE and self.side is Side.WIRE:
            failed = dict.fromkeys(bytes(frame[:6]) for frame in frames)
        return SendResult(0, len(frames), tuple(failed))
