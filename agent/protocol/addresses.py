"""MAC addresses as the protocol handles them: six raw bytes.

Must not know messages or nodes.
"""

from __future__ import annotations

MAC_BYTES = 6
BROADCAST = b"\xff" * MAC_BYTES


def is_group(mac: bytes) -> bool:
    """Whether `mac` is a multicast or broadcast address (low bit of its first byte)."""
    return mac[0] & 1 == 1


def checked_mac(mac: bytes, what: str) -> bytes:
    """`mac` itself if it can be the address of one station, else ValueError naming `what`."""
    if len(mac) != MAC_BYTES or is_group(mac):
        raise ValueError(f"{what} must be 6 bytes of a unicast MAC address, got {mac!r}")
    return bytes(mac)
