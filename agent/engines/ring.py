"""A mapped receive ring: frames are found in memory shared with the kernel, without a system call.

For the wire. A batch is a window over the ring: frames are rewritten where the kernel put them and
sent from there by sendmmsg, and their slots go back when the batch is done with. Must not know
what frames mean.

Slots of equal size (TPACKET_V2), not blocks (TPACKET_V3): a frame in a block is visible when the
block is full or its timer has run out, a millisecond at least. sendmmsg, not a transmit ring: that
takes a copy into its slots, and as long per frame as sendmmsg does from where they lie.
"""

from __future__ import annotations

import os
import socket
from functools import cache
from typing import ClassVar, Final

from agent.batch import HEADROOM
from agent.engines.base import Port, Probe, Side
from agent.engines.mmsg import MmsgEngine
from agent.engines.window import WindowEngine
from agent.linux import tpacket, tpacket_abi
from agent.linux.tpacket import RxRing

SLOTS: Final = 2048
"""Frames that may wait to be taken: 4 MB of memory for frames of an Ethernet's size."""


class RingEngine(WindowEngine):
    """Receives through a ring of slots, sends by sendmmsg."""

    name: ClassVar[str] = "ring"

    def __init__(self, port: Port, batch_size: int) -> None:
        super().__init__(port, batch_size)
        try:
            self._rows = self._ring = _open_ring(self._sock, port.frame_limit + 1)
        except BaseException:
            MmsgEngine.close(self)
            raise

    @classmethod
    def probe(cls, side: Side) -> Probe:
        if side is not Side.WIRE:
            return Probe(available=False, why_not="a TAP descriptor is no socket")
        available, why_not = _probe(os.getpid())
        return Probe(available=available, why_not=None if available else why_not)

    def _error(self) -> int:
        return self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def close(self) -> None:
        self._ring.close()
        super().close()


def _open_ring(sock: socket.socket, frame_bytes: int) -> RxRing:
    needed = tpacket_abi.frame_offset(tpacket_abi.V2_HEADER, HEADROOM) + frame_bytes
    slot_bytes = max(256, 1 << (needed - 1).bit_length())
    return RxRing(sock, slots=SLOTS, slot_bytes=slot_bytes, headroom_bytes=HEADROOM)


@cache
def _probe(process: int) -> tuple[bool, str]:
    """Whether the process with this id, which is the caller, may map rings: tried once."""
    return tpacket.probe()
