"""The payload of test traffic: where its fields stand, and a checksum that numpy can do in bulk.

A probe is an ordinary IPv4/UDP packet in an Ethernet frame of 60 bytes or more, so that any node
and any kernel treats it as the traffic of an application. Must not know who sends or counts it.

| offset | bytes | field |
|---|---|---|
| 0 | 14 | Ethernet: destination, source, 0x0800 |
| 14 | 20 | IPv4: 198.18.a.b → 198.19.a.b, a.b is the flow (RFC 2544 keeps 198.18/15 for this) |
| 34 | 6 | UDP: both ports 12336, length |
| 40 | 8 | sequence number from 0; its upper 16 bits stay 0 and are UDP's "no checksum" |
| 48 | 8 | time of sending, CLOCK_REALTIME in ns |
| 56 | 4 | check over the whole frame |
| 60 | … | filler, the same in every probe |

All integers are big-endian. The check is a multilinear hash: the frame as little-endian 32-bit
words x (the last one filled with zeros, the check itself taken as zero), odd 64-bit weights w
drawn once by splitmix64, and the length L as one more word::

    check = ((L·w₀ + Σ xᵢ·wᵢ₊₁) mod 2⁶⁴) >> 32

It sees every changed, missing, added or swapped byte with a chance of error of 2⁻³² (Lemire and
Kaser, "Strongly universal string hashing is fast"), and, unlike CRC-32, a table of frames is one
matrix product.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Bytes2D = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]

PORT: Final = 0x3030
MIN_FRAME_BYTES: Final = 60
MAX_FRAME_BYTES: Final = 9216
MAX_FLOWS: Final = 1 << 16
MAX_SEQUENCE: Final = (1 << 48) - 1

SOURCE_NET: Final = 198 << 8 | 18
DESTINATION_NET: Final = 198 << 8 | 19

IP_LENGTH_AT: Final = 16
SOURCE_NET_AT: Final = 26
FLOW_AT: Final = 28
PORT_AT: Final = 36
SEQUENCE_AT: Final = 40
TIMESTAMP_AT: Final = 48
CHECK_AT: Final = 56

_CHECK_WORD: Final = CHECK_AT // 4
_MASK: Final = (1 << 64) - 1


def _splitmix64(count: int) -> Words:
    """`count` odd 64-bit weights, always the same (Steele, Lea and Flood, 2014)."""
    state = 0x3030_3030_3030_3030
    found = np.zeros(count, np.uint64)
    for index in range(count):
        state = (state + 0x9E3779B97F4A7C15) & _MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        found[index] = (z ^ (z >> 31)) | 1
    return found


_DRAWN: Final = _splitmix64(1 + MAX_FRAME_BYTES // 4)
LENGTH_WEIGHT: Final = int(_DRAWN[0])
WEIGHTS: Final = _DRAWN[1:].copy()
"""One weight for each 32-bit word of a frame; the word that holds the check weighs nothing."""
WEIGHTS[_CHECK_WORD] = 0

STAMP_WORDS: Final = slice(SEQUENCE_AT // 4, CHECK_AT // 4)
"""The four words that a sender changes from frame to frame."""

_FILLER: Final = np.frombuffer(_splitmix64(MAX_FRAME_BYTES // 8).tobytes(), np.uint8).tobytes()


def filler(count: int) -> bytes:
    """The first `count` bytes of the filler."""
    return _FILLER[:count]


def addresses(flow: int) -> tuple[str, str]:
    """Source and destination address of a flow, 0 to 65535.

    :raises ValueError: there is no such flow.
    """
    if not 0 <= flow < MAX_FLOWS:
        raise ValueError(f"flows are numbered 0 to {MAX_FLOWS - 1}, not {flow}")
    return f"198.18.{flow >> 8}.{flow & 255}", f"198.19.{flow >> 8}.{flow & 255}"


def sums(frames: Bytes2D, frame_bytes: int) -> Words:
    """The 64-bit sums behind the checks of `frames`, of which `frame_bytes` columns count.

    A row may be longer than its frame. The columns of one row must be contiguous.
    """
    whole = frame_bytes // 4
    words = frames[:, : 4 * whole].view("<u4").astype(np.uint64)
    total: Words = words @ WEIGHTS[:whole]
    total += np.uint64(frame_bytes * LENGTH_WEIGHT & _MASK)
    left = frame_bytes % 4
    if left:
        last = np.zeros((len(frames), 4), np.uint8)
        last[:, :left] = frames[:, 4 * whole : frame_bytes]
        total += last.view("<u4")[:, 0].astype(np.uint64) * WEIGHTS[whole]
    return total


def checks(frames: Bytes2D, frame_bytes: int) -> npt.NDArray[np.uint32]:
    """The checks that `frames` should carry."""
    return (sums(frames, frame_bytes) >> np.uint64(32)).astype(np.uint32)


def sealed(frame: bytes) -> bytes:
    """The frame with its check filled in."""
    whole = np.frombuffer(frame, np.uint8).reshape(1, -1)
    check = int(checks(whole, len(frame))[0])
    return frame[:CHECK_AT] + check.to_bytes(4, "big") + frame[CHECK_AT + 4 :]


def intact(frame: bytes) -> bool:
    """Whether one inner frame is a probe that arrived as it was sent."""
    if len(frame) < MIN_FRAME_BYTES:
        return False
    whole = np.frombuffer(frame, np.uint8).reshape(1, -1)
    said = int.from_bytes(frame[CHECK_AT : CHECK_AT + 4], "big")
    total = int.from_bytes(frame[IP_LENGTH_AT : IP_LENGTH_AT + 2], "big")
    return total + 14 == len(frame) and int(checks(whole, len(frame))[0]) == said
