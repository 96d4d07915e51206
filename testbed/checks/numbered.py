"""Test frames one by one: each with a number of its own and a check over all its bytes.

They look as the frames of `testbed.traffic.probe` do, IPv4 in a network that no host has, so that
a node takes them for the traffic of an application. Must not know who sends them, or where to.
"""

from __future__ import annotations

import struct
from typing import Final

from testbed.reach.echo import checksum
from testbed.traffic import probe
from testbed.traffic.damage import UNKNOWN, what_is_wrong

SHORTEST: Final = probe.MIN_FRAME_BYTES
ETHERNET_BYTES: Final = 14
BROADCAST: Final = b"\xff" * 6
ALL_HOSTS: Final = bytes.fromhex("01005e000001")
"""The multicast address of all hosts on an Ethernet (RFC 1112)."""

_SOURCE, _DESTINATION = (bytes(map(int, text.split("."))) for text in probe.addresses(0))


def frame(*, dst: bytes, src: bytes, number: int, frame_bytes: int) -> bytes:
    """An inner Ethernet frame of that length, without checksum, `SHORTEST` or more.

    :raises ValueError: too short or too long for a test frame.
    """
    if not SHORTEST <= frame_bytes <= probe.MAX_FRAME_BYTES:
        raise ValueError(f"{frame_bytes} bytes are no length of a test frame")
    ip_bytes = frame_bytes - ETHERNET_BYTES
    ip = struct.pack("!BBHHHBBH", 0x45, 0, ip_bytes, 0, 0x4000, 64, 17, 0) + _SOURCE + _DESTINATION
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    udp = struct.pack("!HHH", probe.PORT, probe.PORT, ip_bytes - 20)
    body = struct.pack("!QQI", number, 0, 0) + probe.filler(frame_bytes - SHORTEST)
    return probe.sealed(dst + src + b"\x08\x00" + ip + udp + body)


def number_of(inner: bytes) -> int:
    """The number in a test frame, of which at least the first 48 bytes are there."""
    return int.from_bytes(inner[probe.SEQUENCE_AT : probe.SEQUENCE_AT + 8], "big")


def said_bytes(inner: bytes) -> int:
    """How long the frame was when it was sent, as its IPv4 header says."""
    at = probe.IP_LENGTH_AT
    return int.from_bytes(inner[at : at + 2], "big") + ETHERNET_BYTES


def is_test_frame(inner: bytes) -> bool:
    """Whether it is one of these, whole or not."""
    return len(inner) >= SHORTEST and what_is_wrong(inner, step=0)[0] is not None


def damage(inner: bytes) -> str | None:
    """`truncated`, `tailed` or `damaged`; None for a frame that arrived as it was sent."""
    wrong, _ = what_is_wrong(inner, step=0)
    return None if wrong == UNKNOWN else (wrong or "damaged")
