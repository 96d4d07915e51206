"""AF_PACKET raw sockets: whole Ethernet frames of one EtherType on one interface.

Source: packet(7). Must not know what the frames mean.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import Final

ETHERTYPE: Final = 0x3030
DEFAULT_BUFFER_BYTES: Final = 4 << 20

PACKET_STATISTICS: Final = 6

# Not in Python's socket module (asm-generic/socket.h).
_SO_ATTACH_FILTER: Final = 26
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33
_SOL_PACKET: Final = 263


def open_packet_socket(
    ifname: str,
    *,
    protocol: int = ETHERTYPE,
    filter: bytes | None = None,
    rcvbuf_bytes: int = DEFAULT_BUFFER_BYTES,
) -> socket.socket:
    """A non-blocking SOCK_RAW socket bound to `ifname` for frames with EtherType `protocol`.

    `filter` is an assembled classic BPF program; it is attached before the socket can hear
    anything. `rcvbuf_bytes` is asked for past the system's limit and, without the right to do
    that, within it. Frames sent on the socket need a complete Ethernet header.

    :raises OSError: no such interface, or CAP_NET_RAW is lacking.
    """
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    try:
        if filter is not None:
            attach_filter(sock, filter)
        set_receive_buffer(sock, rcvbuf_bytes)
        sock.bind((ifname, protocol))
    except BaseException:
        sock.close()
        raise
    return sock


def attach_filter(sock: socket.socket, program: bytes) -> None:
    """Attach an assembled classic BPF program to any socket (socket(7), SO_ATTACH_FILTER)."""
    memory = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(memory))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)


def set_receive_buffer(sock: socket.socket, size_bytes: int) -> int:
    """Ask for a receive buffer of `size_bytes`; the size that the kernel granted, in bytes."""
    return _set_buffer(sock, _SO_RCVBUFFORCE, socket.SO_RCVBUF, size_bytes)


def set_send_buffer(sock: socket.socket, size_bytes: int) -> int:
    """Ask for a send buffer of `size_bytes`; the size that the kernel granted, in bytes."""
    return _set_buffer(sock, _SO_SNDBUFFORCE, socket.SO_SNDBUF, size_bytes)


def _set_buffer(sock: socket.socket, forced: int, plain: int, size_bytes: int) -> int:
    # The kernel doubles what it is given, for its own bookkeeping.
    try:
        sock.setsockopt(socket.SOL_SOCKET, forced, size_bytes)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, plain, size_bytes)
    return sock.getsockopt(socket.SOL_SOCKET, plain) // 2


def packet_statistics(sock: socket.socket) -> tuple[int, int]:
    """Frames that passed the filter and frames dropped for want of buffer, since the last call.

    The kernel starts both counts again from zero with every call, and the first includes the
    second (packet(7), PACKET_STATISTICS).
    """
    raw = sock.getsockopt(_SOL_PACKET, PACKET_STATISTICS, 8)
    packets, drops = struct.unpack("II", raw)
    return packets, drops
