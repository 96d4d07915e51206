"""Frames as somebody hostile would send them: nearly right, cut, swollen, mixed, and mere noise.

Made by the thousand with numpy, from a seed, into the memory that an engine would receive into.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agent.batch import HEADROOM, FrameBatch
from agent.protocol.codec import encode
from agent.protocol.messages import (
    DownstreamData,
    Heartbeat,
    HeartbeatReply,
    Message,
    UpstreamData,
)

BROADCAST = b"\xff" * 6
GROUP = b"\x01\x00\x5e\x00\x00\x01"
OWN = b"\x02\x00\x00\x00\x00\x01"
NEIGHBOURS = [bytes([2, 0, 0, 0, 0, n]) for n in range(2, 6)]
RSUS = [bytes([2, 0, 0, 0, 1, n]) for n in (1, 2)]
CLIENTS = [bytes([6, 0, 0, 0, 0, n]) for n in (1, 2, 3)]

_MACS_AT = {0: (0, 6), 1: (36, 42), 2: (16, 22), 3: (16, 22, 28)}
"""Where addresses stand in the bodies of the four kinds, beside the header's at 0 and 6."""


class Hostile:
    """An endless supply of frames of up to `frame_bytes`, and one byte more; the same per seed."""

    def __init__(self, seed: int, frame_bytes: int, *, own: bytes = OWN) -> None:
        self._rng = np.random.default_rng(seed)
        self._own = own
        self._width = frame_bytes + 1
        templates = [_padded(encode(one), self._width) for one in _messages(own)]
        self._templates = np.array(templates, np.uint8)
        self._sizes = np.array([len(encode(one)) for one in _messages(own)])
        self._kinds = np.array([_kind(one) for one in _messages(own)])
        macs = [own, own, own, own, BROADCAST, GROUP, *NEIGHBOURS, *RSUS, *CLIENTS, bytes(6)]
        self._macs = np.frombuffer(b"".join(macs), np.uint8).reshape(len(macs), 6)

    def honest(self, hello_id: int, own_hello_id: int) -> list[bytes]:
        """What keeps a node joined meanwhile: a heartbeat, and answers to it and to its own."""
        answers = [(RSUS[0], hello_id, obu) for obu in NEIGHBOURS[1:]]
        answers += [(self._own, own_hello_id, obu) for obu in NEIGHBOURS]
        return [
            encode(
                Heartbeat(
                    receiver=BROADCAST,
                    transmitter=NEIGHBOURS[0],
                    duration_ms=hello_id * 100,
                    hello_id=hello_id,
                    hops=1,
                    rsu=RSUS[0],
                )
            ),
            *(
                encode(
                    HeartbeatReply(
                        receiver=self._own,
                        transmitter=obu,
                        duration_ms=0,
                        hello_id=number,
                        hops=1,
                        rsu=rsu,
                        sender=obu,
                    )
                )
                for rsu, number, obu in answers
            ),
        ]

    def fill_calmly(self, batch: FrameBatch) -> None:
        """Fill all rows with data in short runs, hardly any of it broken: for kept decisions."""
        rng, n = self._rng, batch.capacity
        data = np.flatnonzero(self._kinds >= 2)
        chosen = np.repeat(rng.choice(data, n // 4 + 1), 4)[:n]
        frames = self._templates[chosen]
        sizes = self._sizes[chosen].copy()
        runs = np.repeat(rng.integers(0, len(NEIGHBOURS), n // 8 + 1), 8)[:n]
        frames[:, 16:22] = np.frombuffer(b"".join(NEIGHBOURS), np.uint8).reshape(-1, 6)[runs]
        spoiled = np.flatnonzero(rng.random(n) < 0.02)
        frames[spoiled, rng.integers(0, sizes[spoiled])] ^= 0x55
        cut = np.flatnonzero(rng.random(n) < 0.02)
        sizes[cut] = rng.integers(1, self._width + 1, len(cut))
        self._put(batch, frames, sizes)

    def fill(self, batch: FrameBatch) -> None:
        """Fill all rows of the batch anew."""
        rng, n, width = self._rng, batch.capacity, self._width
        chosen = rng.integers(0, len(self._templates), n)
        frames = self._templates[chosen]
        sizes = self._sizes[chosen].copy()
        self._readdress(frames, self._kinds[chosen])
        self._renumber(frames, self._kinds[chosen])
        # Several messages in one frame, as control messages may come; the second over the end.
        for row in np.flatnonzero(rng.random(n) < 0.1):
            other = int(rng.integers(0, len(self._templates)))
            begin = int(sizes[row])
            room = min(width - begin, int(self._sizes[other]))
            frames[row, begin : begin + room] = self._templates[other, :room]
            sizes[row] = begin + room
        # A few bytes of some frames, and all of others, are anything.
        spoiled = np.flatnonzero(rng.random(n) < 0.3)
        for _ in range(3):
            frames[spoiled, rng.integers(0, sizes[spoiled])] = rng.integers(
                0, 256, len(spoiled), np.uint8
            )
        noise = np.flatnonzero(rng.random(n) < 0.05)
        frames[noise, 14:] = rng.integers(0, 256, (len(noise), width - 14), np.uint8)
        # Cut, or longer than they say; also longer than any frame can be.
        other_size = np.flatnonzero(rng.random(n) < 0.2)
        sizes[other_size] = rng.integers(1, width + 1, len(other_size))
        self._put(batch, frames, sizes)

    def _put(
        self, batch: FrameBatch, frames: npt.NDArray[np.uint8], sizes: npt.NDArray[np.int64]
    ) -> None:
        n = batch.capacity
        batch.data[:n, HEADROOM : HEADROOM + self._width] = frames
        batch.length[:n] = sizes
        batch.received(n)

    def _readdress(self, frames: npt.NDArray[np.uint8], kinds: npt.NDArray[np.int64]) -> None:
        for kind, places in _MACS_AT.items():
            for place in (0, 6, *places):
                chance = 0.25 if place == 0 else 0.5
                rows = np.flatnonzero((kinds == kind) & (self._rng.random(len(kinds)) < chance))
                which = self._rng.integers(0, len(self._macs), len(rows))
                frames[rows, place : place + 6] = self._macs[which]
        # Addresses that nobody has seen yet, so that every table is filled to its limit.
        fresh = np.flatnonzero(self._rng.random(len(kinds)) < 0.3)
        for place in (6, 36, 46):
            frames[fresh, place + 3 : place + 6] = self._rng.integers(
                0, 256, (len(fresh), 3), np.uint8
            )

    def _renumber(self, frames: npt.NDArray[np.uint8], kinds: npt.NDArray[np.int64]) -> None:
        """Ids and hops of control messages: mostly small, sometimes at their limits."""
        rows = np.flatnonzero(kinds <= 1)
        for place in (35, 39):
            frames[rows, place] = self._rng.integers(0, 12, len(rows), np.uint8)
        limits = rows[self._rng.random(len(rows)) < 0.05]
        frames[limits, 16:40] = self._rng.choice(np.array([0, 255], np.uint8), (len(limits), 24))


def _padded(frame: bytes, width: int) -> list[int]:
    return [*frame, *bytes(width - len(frame))]


def _kind(message: Message) -> int:
    kinds = (Heartbeat, HeartbeatReply, UpstreamData, DownstreamData)
    return kinds.index(type(message))


def _messages(own: bytes) -> list[Message]:
    inner = CLIENTS[0] + CLIENTS[1] + b"\x08\x00" + bytes(40)
    there = NEIGHBOURS[0]
    return [
        Heartbeat(
            receiver=BROADCAST, transmitter=there, duration_ms=500, hello_id=1, hops=1, rsu=RSUS[0]
        ),
        *(
            HeartbeatReply(
                receiver=own,
                transmitter=there,
                duration_ms=500,
                hello_id=1,
                hops=1,
                rsu=rsu,
                sender=NEIGHBOURS[1],
            )
            for rsu in (RSUS[0], own)
        ),
        *(
            UpstreamData(receiver=own, transmitter=there, origin=NEIGHBOURS[1], inner=content)
            for content in (inner, GROUP + inner[6:])
        ),
        *(
            DownstreamData(
                receiver=own, transmitter=there, origin=RSUS[0], target=target, inner=inner
            )
            for target in (own, NEIGHBOURS[1], GROUP)
        ),
    ]
