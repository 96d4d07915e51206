"""Numbers and layouts of mapped AF_PACKET rings (linux/if_packet.h, packet(7)).

Only constants and what can be computed from them.
"""

from __future__ import annotations

from typing import Final

SOL_PACKET: Final = 263
RX_RING: Final = 5
VERSION: Final = 10
RESERVE: Final = 12
TX_RING: Final = 13
VNET_HDR: Final = 15
TX_HAS_OFF: Final = 19

V2: Final = 1
V3: Final = 2

STATUS_KERNEL: Final = 0
STATUS_USER: Final = 1 << 0
STATUS_LOSING: Final = 1 << 2
STATUS_BLOCK_TIMEOUT: Final = 1 << 5

STATUS_AVAILABLE: Final = 0
STATUS_SEND_REQUEST: Final = 1 << 0
STATUS_SENDING: Final = 1 << 1
STATUS_WRONG_FORMAT: Final = 1 << 2

# struct tpacket2_hdr: byte offsets of its fields.
V2_STATUS: Final = 0
V2_LEN: Final = 4
V2_SNAPLEN: Final = 8
V2_MAC: Final = 12

# struct tpacket3_hdr
V3_NEXT_OFFSET: Final = 0
V3_SNAPLEN: Final = 12
V3_LEN: Final = 16
V3_MAC: Final = 24

# struct tpacket_block_desc
BLOCK_STATUS: Final = 8
BLOCK_PACKETS: Final = 12
BLOCK_FIRST: Final = 16

ALIGNMENT: Final = 16
_SOCKADDR_LL: Final = 20
_ETHERNET: Final = 14


def _align(size: int) -> int:
    return (size + ALIGNMENT - 1) & ~(ALIGNMENT - 1)


V2_HEADER: Final = _align(32) + _SOCKADDR_LL
V3_HEADER: Final = _align(48) + _SOCKADDR_LL


def frame_offset(header: int, reserve_bytes: int) -> int:
    """Where the kernel puts a frame behind its ring header, for an Ethernet device."""
    return _align(header + max(_ETHERNET, 16)) - _ETHERNET + reserve_bytes


# The first place in a transmit slot where a frame may begin.
TX_FIRST: Final = V2_HEADER - _SOCKADDR_LL
VNET_BYTES: Final = 10
