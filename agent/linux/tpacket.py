"""Mapped AF_PACKET rings: what to import, and whether they can be used here.

`RxRing` (tpacket_rx) receives into equal slots, `BlockRing` (tpacket_blocks) into blocks that the
kernel hands over when full or timed out, `TxRing` (tpacket_tx) sends. Must not know batches,
engines or protocols.

Sources: packet(7), Documentation/networking/packet_mmap.rst.
"""

from __future__ import annotations

import errno
import socket

from agent.linux.tpacket_blocks import Block, BlockRing
from agent.linux.tpacket_rx import RxRing
from agent.linux.tpacket_tx import TxRing

__all__ = ["Block", "BlockRing", "RxRing", "TxRing", "probe"]


def probe() -> tuple[bool, str]:
    """Whether this process may map AF_PACKET rings, and if not, why not.

    Makes a socket that is bound to nothing, with the smallest receive ring; leaves nothing.
    """
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
            RxRing(sock, slots=2, slot_bytes=2048).close()
    except NotImplementedError as error:
        return False, str(error)
    except PermissionError:
        return False, "AF_PACKET sockets need CAP_NET_RAW"
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            return False, "this kernel has no AF_PACKET sockets"
        return False, f"mapped packet ring: {error}"
    return True, ""
