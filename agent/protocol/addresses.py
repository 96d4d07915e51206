"""MAC addresses as the protocol handles them: six raw bytes.

Must not know messages or nodes.
"""

from __future__ import annotations

import re
from typing import Final

MAC_BYTES = 6
BROADCAST = b"\xff" * MAC_BYTES

_MAC: Final = re.compile(r"[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5}")


def is_group(mac: bytes) -> bool:
    """Whether `mac` is a multicast or broadcast address (low bit of its first byte)."""
    return mac[0] & 1 == 1


def format_mac(mac: bytes) -> str:
    """``02:00:00:00:00:01``, lower case."""
    return mac.hex(":")


def parse_mac(text: str) -> bytes:
    """The six bytes of ``02:00:00:00:00:01``; ValueError for anything else."""
    if _MAC.fullmatch(text) is None:
        raise ValueError(f"not a MAC address: {text!r} (expected six pairs of hexadecimal digits)")
    return bytes.fromhex(text.replace(":", ""))


def checked_mac(mac: bytes, what: str) -> bytes:
    """`mac` itself if it can be the address of one station, else ValueError naming `what`."""
    if len(mac) != MAC_BYTES or is_group(mac):
        raise ValueError(f"{what} must be 6 bytes of a unicast MAC address, got {mac!r}")
    return bytes(mac)
