"""Receiving through a mapped AF_PACKET ring of blocks (TPACKET_V3).

The kernel packs frames one after the other into a block and hands the block over when it is full
or its timer has run out: one wake-up per block, which is coalescing in the kernel, at the price
of up to the timer's time of latency for every frame. Frames lie as densely as they are long, so a
block of small frames takes little memory and cache.

Latency. `block_timeout_ms` is in whole milliseconds, at least 1, and runs freely, not from the
first frame on: a frame waits between nothing and the timeout for it, if the block does not fill.
With 0 the kernel computes a time from the block's size and the link's speed (measured on veth: 1
ms; 8 where the device tells no speed), so 0 is no way to less latency, and is refused here:
whoever wants none uses `tpacket_rx.RxRing`. Before Linux 6.18 the timer counts in ticks: with
HZ=250 one millisecond means four to eight.

The kernel fills blocks from other CPUs: strongly ordered machines only (see `ordering`).
Knows nothing of protocols. Sources: packet(7), Documentation/networking/packet_mmap.rst.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.linux import tpacket_abi as abi
from agent.linux.mapping import Mapping
from agent.linux.tpacket_rx import require_ordering

# A run of equally spaced frames shorter than this is walked faster one by one.
_SHORT_RUN = 8

Offsets = npt.NDArray[np.int64]


def walk(words: memoryview, view: npt.NDArray[np.uint32], first: int, count: int) -> Offsets:
    """Byte offsets of the `count` frame headers in a block, the first one at `first`.

    `words` and `view` are the block's memory as 32-bit words, twice the same. Each header says
    how far it is to the next. Frames of equal length are equally far apart, so a guess at the
    distance is tested for all of them in one comparison; where lengths change often it goes on
    header by header.
    """
    offsets = np.empty(count, np.int64)
    done, position, short_runs = 0, first, 0
    limit = 4 * len(view)
    while done < count and short_runs < 2:
        distance = words[position >> 2]
        left = count - done
        if left == 1 or distance == 0:
            offsets[done] = position
            return offsets[: done + 1]
        fits = min(left, (limit - position + distance - 1) // distance)
        headers = view[position >> 2 :: distance >> 2][:fits]
        differs = headers != distance
        odd = int(differs.argmax())
        run = odd + 1 if differs[odd] else fits
        offsets[done : done + run] = np.arange(position, position + run * distance, distance)
        done += run
        position = int(offsets[done - 1]) + words[int(offsets[done - 1]) >> 2]
        short_runs = short_runs + 1 if run < _SHORT_RUN else 0
    places: list[int] = []
    for _ in range(count - done):
        places.append(position)
        position += words[position >> 2]
    offsets[done:] = places
    return offsets


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The frames of one block: where they begin in `BlockRing.memory`, and their bytes."""

    start: Offsets
    length: npt.NDArray[np.uint32]
    wire_length: npt.NDArray[np.uint32]
    timed_out: bool


class BlockRing:
    """A receive ring of `blocks` blocks of `block_bytes` each on an AF_PACKET socket.

    `block_bytes` is a power of two, at least a page. The rules of `tpacket_rx.RxRing` hold: frames
    arrive only here, make it before the socket is bound, the socket stays the caller's.
    `memory` is the whole ring as bytes, at `address`.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        blocks: int = 64,
        block_bytes: int = 1 << 15,
        block_timeout_ms: int = 1,
        headroom_bytes: int = 64,
    ) -> None:
        require_ordering()
        if block_timeout_ms < 1:
            raise ValueError("block_timeout_ms must be at least 1; the kernel reads 0 as a default")
        if block_bytes & (block_bytes - 1) or block_bytes < 4096 or blocks < 2:
            raise ValueError("block_bytes must be a power of two from 4096 on, and two blocks")
        self._socket = sock
        self.blocks = blocks
        self.block_bytes = block_bytes
        sock.setsockopt(abi.SOL_PACKET, abi.VERSION, abi.V3)
        sock.setsockopt(abi.SOL_PACKET, abi.RESERVE, headroom_bytes)
        # The frame size only has to divide the block; frames are packed whatever it is.
        request = struct.pack(
            "=IIIIIII",
            block_bytes,
            blocks,
            2048,
            blocks * block_bytes // 2048,
            block_timeout_ms,
            0,
            0,
        )
        sock.setsockopt(abi.SOL_PACKET, abi.RX_RING, request)
        try:
            self._map = Mapping(blocks * block_bytes, fd=sock.fileno())
        except BaseException:
            sock.setsockopt(abi.SOL_PACKET, abi.RX_RING, bytes(28))
            raise
        self.address = self._map.address
        self.memory: npt.NDArray[np.uint8] = self._map.bytes()
        self._view: npt.NDArray[np.uint32] = self.memory.view(np.uint32)
        self._words = self._view.data
        self._halves: npt.NDArray[np.uint16] = self.memory.view(np.uint16)
        self.head = 0

    def next(self) -> Block | None:
        """The next block if the kernel has handed it over; the same again until `release`."""
        base = self.head * self.block_bytes
        words = self._words
        status = words[(base + abi.BLOCK_STATUS) >> 2]
        if not status & abi.STATUS_USER:
            return None
        count = words[(base + abi.BLOCK_PACKETS) >> 2]
        first = words[(base + abi.BLOCK_FIRST) >> 2]
        end = base + self.block_bytes
        headers = walk(words[base >> 2 : end >> 2], self._view[base >> 2 : end >> 2], first, count)
        headers += base
        at = headers >> 2
        return Block(
            start=headers + self._halves[(headers + abi.V3_MAC) >> 1],
            length=self._view[at + (abi.V3_SNAPLEN >> 2)],
            wire_length=self._view[at + (abi.V3_LEN >> 2)],
            timed_out=bool(status & abi.STATUS_BLOCK_TIMEOUT),
        )

    def release(self) -> None:
        """Give the block that `next` returned back to the kernel."""
        self._words[(self.head * self.block_bytes + abi.BLOCK_STATUS) >> 2] = abi.STATUS_KERNEL
        self.head = (self.head + 1) % self.blocks

    def close(self) -> None:
        """Unmap the ring and take it off the socket, if that is still open; twice is fine."""
        self._map.release()
        if self._socket.fileno() >= 0:
            self._socket.setsockopt(abi.SOL_PACKET, abi.RX_RING, bytes(28))
