"""The XDP program that hands node-protocol frames to an AF_XDP socket, and its attachment.

The program takes exactly what the agent's socket filter takes, so that an AF_XDP socket sees the
same frames as an AF_PACKET socket would: frames with the protocol's marker for the own MAC or a
group address, and frames for somebody else that start with a control message and go on after it
(another message in the same frame may be for us). Everything else goes on to the network stack.

Knows the first 16 bytes of a frame and nothing else of the protocol.
Sources: Documentation/networking/af_xdp.rst, linux/bpf.h.
"""

from __future__ import annotations

import contextlib
import os
import struct
from typing import Final

from agent.linux import ebpf

MODE_GENERIC: Final = 1 << 1  # XDP_FLAGS_SKB_MODE: after the socket buffer is made; any device
MODE_NATIVE: Final = 1 << 2  # XDP_FLAGS_DRV_MODE: in the driver

_PASS: Final = 2
_HELPER_REDIRECT_MAP: Final = 51

# struct xdp_md
_DATA: Final = 0
_DATA_END: Final = 4
_RX_QUEUE: Final = 16

_MARKER: Final = 0x3030  # a palindrome: the same in both byte orders
_ETHERNET: Final = 14
_HEADER: Final = 16
_HEARTBEAT: Final = 46
_REPLY: Final = 52


def redirect_program(mac: bytes, map_fd: int) -> bytes:
    """Instructions of the program for a node with this MAC and this map of sockets by queue."""
    if len(mac) != 6:
        raise ValueError(f"a MAC has 6 bytes, not {len(mac)}")
    first, last = struct.unpack("<IH", mac)
    context, data, end, probe, value = 6, 2, 3, 4, 5
    return ebpf.assemble(
        [
            ebpf.move(context, 1),
            ebpf.load(ebpf.WORD, data, context, _DATA),
            ebpf.load(ebpf.WORD, end, context, _DATA_END),
            ebpf.move(probe, data),
            ebpf.add_immediate(probe, _ETHERNET),
            ebpf.jump_above(probe, end, "pass"),
            ebpf.load(ebpf.HALF, value, data, 12),
            ebpf.jump_unequal(value, _MARKER, "pass"),
            ebpf.load(ebpf.BYTE, value, data, 0),
            ebpf.jump_set(value, 1, "take"),
            ebpf.load(ebpf.WORD, value, data, 0),
            ebpf.jump_unequal(value, first, "foreign"),
            ebpf.load(ebpf.HALF, value, data, 4),
            ebpf.jump_equal(value, last, "take"),
            ebpf.Label("foreign"),
            ebpf.add_immediate(probe, _HEADER - _ETHERNET),
            ebpf.jump_above(probe, end, "pass"),
            ebpf.load(ebpf.BYTE, value, data, 14),
            ebpf.jump_unequal(value, 0, "pass"),
            ebpf.load(ebpf.BYTE, value, data, 15),
            ebpf.move(probe, data),
            ebpf.jump_equal(value, 0, "heartbeat"),
            ebpf.jump_unequal(value, 1, "pass"),
            ebpf.add_immediate(probe, _REPLY + 1 - _HEARTBEAT - 1),
            ebpf.Label("heartbeat"),
            ebpf.add_immediate(probe, _HEARTBEAT + 1),
            ebpf.jump_above(probe, end, "pass"),
            ebpf.Label("take"),
            ebpf.load(ebpf.WORD, 2, context, _RX_QUEUE),
            *ebpf.load_map(1, map_fd),
            ebpf.move_immediate(3, _PASS),  # what to do when the map has no socket for the queue
            ebpf.call(_HELPER_REDIRECT_MAP),
            ebpf.leave(),
            ebpf.Label("pass"),
            ebpf.move_immediate(0, _PASS),
            ebpf.leave(),
        ]
    )


class Attachment:
    """The program on one interface, and the sockets that it feeds; detaches when closed.

    `mode` is MODE_GENERIC or MODE_NATIVE. OSError: EPERM without CAP_NET_ADMIN and CAP_BPF,
    EBUSY where another XDP program is, EOPNOTSUPP or EINVAL where the mode does not exist.
    If the process dies the kernel detaches it.
    """

    def __init__(self, ifindex: int, mac: bytes, *, mode: int, queues: int = 1) -> None:
        self.mode = mode
        self._fds: list[int] = []
        try:
            self._map = ebpf.create_map(
                ebpf.MAP_TYPE_XSKMAP, key_bytes=4, value_bytes=4, entries=queues
            )
            self._fds.append(self._map)
            program = ebpf.load_program(ebpf.PROG_TYPE_XDP, redirect_program(mac, self._map))
            self._fds.append(program)
            self._fds.append(ebpf.create_link(program, ifindex, ebpf.ATTACH_XDP, mode))
        except BaseException:
            self.close()
            raise

    def feed(self, queue: int, socket_fd: int) -> None:
        """Frames of this receive queue go to this bound AF_XDP socket from now on."""
        ebpf.update_map(self._map, queue, socket_fd)

    def close(self) -> None:
        """Detach; twice is fine."""
        while self._fds:
            with contextlib.suppress(OSError):
                os.close(self._fds.pop())
