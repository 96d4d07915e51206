"""Which sort of damage a test frame has taken. Pure; must not know where the frame came from."""

from __future__ import annotations

from typing import Final

from testbed.traffic import probe

UNKNOWN: Final = "unknown"
"""A whole test frame all the same: of a flow that nobody expects."""


def what_is_wrong(frame: bytes, *, step: int) -> tuple[str | None, int]:
    """Which sort of damage an inner frame has, and how many whole test frames hang on its tail.

    `UNKNOWN` is no damage; None is no test traffic. `step` is how many bytes of headers stand
    between the end of one inner frame and the beginning of the next one on its tail.
    """
    source = frame[probe.SOURCE_NET_AT : probe.SOURCE_NET_AT + 2]
    port = frame[probe.PORT_AT : probe.PORT_AT + 2]
    if source != probe.SOURCE_NET.to_bytes(2, "big") and port != probe.PORT.to_bytes(2, "big"):
        return None, 0
    said = int.from_bytes(frame[probe.IP_LENGTH_AT : probe.IP_LENGTH_AT + 2], "big") + 14
    if probe.intact(frame):
        return UNKNOWN, 0
    if len(frame) < said:
        return "truncated", 0
    if len(frame) > said and probe.intact(frame[:said]):
        return "tailed", _whole_frames(frame[said:], step)
    return "damaged", 0


def _whole_frames(tail: bytes, step: int) -> int:
    found = 0
    while len(tail) >= step + probe.MIN_FRAME_BYTES:
        inner = tail[step:]
        at = probe.IP_LENGTH_AT
        size = int.from_bytes(inner[at : at + 2], "big") + 14
        if not probe.intact(inner[:size]):
            break
        found += 1
        tail = inner[size:]
    return found
