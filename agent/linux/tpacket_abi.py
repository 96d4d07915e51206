"""Numbers and layouts of mapped AF_PACKET rings (linux/if_packet.h, packet(7)).

Only constants and what can be computed from them.
"""

from __future__ import annotations

from typing import Final

SOL_PACKET: Final = 263
RX_RING: Final = 5
VERSION: Final = 10
RESERVE: Final = 12

V2: Final = 1

STATUS_KERNEL: Final = 0
STATUS_USER: Final = 1 << 0

# struct tpacket2_hdr: byte offsets of its fields.
V2_STATUS: Final = 0
V2_LEN: Final = 4
V2_SNAPLEN: Final = 8
V2_MAC: Final = 12

ALIGNMENT: Final = 16
_SOCKADDR_LL: Final = 20
_ETHERNET: Final = 14


def _align(size: int) -> int:
    return (size + ALIGNMENT - 1) & ~(ALIGNMENT - 1)


V2_HEADER: Final = _align(32) + _SOCKADDR_LL


def frame_offset(header: int, reserve_bytes: int) -> int:
    """Where the kernel puts a frame behind its ring header, for an Ethernet device."""
    return _align(header + max(_ETHERNET, 16)) - _ETHERNET + reserve_bytes
