"""How full a socket's queues are, as the kernel tells.

Source: sock(7) says nothing of it; linux/sock_diag.h (SO_MEMINFO). Must not know what is queued.
"""

from __future__ import annotations

import socket
import struct
from typing import Final, NamedTuple

_SO_MEMINFO: Final = 55
_COUNT: Final = 9


class Depth(NamedTuple):
    """Memory of one queue in bytes, the kernel's own for each packet included, and its limit."""

    used_bytes: int
    limit_bytes: int


def depths(sock: socket.socket) -> tuple[Depth, Depth]:
    """The receive and the send queue of a socket. OSError before Linux 4.12."""
    raw = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4 * _COUNT)
    receive, receive_limit, send, send_limit, *_ = struct.unpack(f"{_COUNT}I", raw)
    return Depth(receive, receive_limit), Depth(send, send_limit)
