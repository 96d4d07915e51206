"""Which of the frames that an engine sends may stand in front of others in one frame.

A control message has a length of its own, so that a receiver finds the next one behind it; a data
message has none, and takes all that follows for its own. That, and the first bytes by which to
tell the two apart, is all that an engine must know about frames that share one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agent.engines.base import Buffer

_KIND: Final = slice(12, 16)
_SIZES: Final = {b"\x30\x30\x00\x00": 46, b"\x30\x30\x00\x01": 52}
"""Bytes of a heartbeat and of a reply, headers included, by marker, type and subtype."""
_LONGEST: Final = max(_SIZES.values())


def ends_itself(frame: Buffer) -> bool:
    """Whether `frame` is one control message and nothing else: what follows it can be read."""
    size = len(frame)
    return size <= _LONGEST and _SIZES.get(bytes(frame[_KIND])) == size


def readable(frames: Sequence[Buffer]) -> int:
    """How many of `frames`, back to back in one frame on the radio, a receiver can tell apart."""
    for place, frame in enumerate(frames):
        if not ends_itself(frame):
            return place + 1
    return len(frames)
