"""Echo requests and replies, and the sockets for them (RFC 792, RFC 4443, icmp(7), raw(7)).

Must not know who asks whom, or when.
"""

from __future__ import annotations

import socket
import struct
from typing import Final, Literal

Family = Literal[4, 6]

_ECHO4: Final = 8
_REPLY4: Final = 0
_ECHO6: Final = 128
_REPLY6: Final = 129
_ICMP_FILTER: Final = 1
_ICMP6_FILTER: Final = 1
_SOL_RAW: Final = 255


def open_socket(family: Family) -> socket.socket:
    """A non-blocking socket in the namespace of the calling thread, which hears replies alone.

    :raises PermissionError: CAP_NET_RAW is lacking. :raises OSError: no such family here.
    """
    if family == 4:
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        # Bits that are set are types that are kept away (icmp(7)).
        sock.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", ~(1 << _REPLY4) & 0xFFFFFFFF))
    else:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        blocked = [0xFFFFFFFF] * 8
        blocked[_REPLY6 >> 5] &= ~(1 << (_REPLY6 & 31))
        sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("=8I", *blocked))
    sock.setblocking(False)
    return sock


def request(family: Family, identifier: int, sequence: int, payload: bytes) -> bytes:
    """An echo request; the kernel adds what stands in front, and the checksum of ICMPv6."""
    kind = _ECHO4 if family == 4 else _ECHO6
    message = struct.pack("!BBHHH", kind, 0, 0, identifier, sequence & 0xFFFF) + payload
    if family == 6:
        return message
    return message[:2] + struct.pack("!H", checksum(message)) + message[4:]


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    words: tuple[int, ...] = struct.unpack(f"!{len(data) // 2}H", data)
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def reply_payload(family: Family, data: bytes) -> bytes | None:
    """The payload of an echo reply as a socket of `open_socket` gives it; None if it is none."""
    # An IPv4 raw socket hands over the IP header as well, an IPv6 one does not.
    offset = (data[0] & 0xF) * 4 if family == 4 and data else 0
    if len(data) < offset + 8 or data[offset] != (_REPLY4 if family == 4 else _REPLY6):
        return None
    return data[offset + 8 :]
