"""Watches the radio of a program that is an OBU for its first reply to a heartbeat.

That is how one sees from outside that a node has joined: it heard an RSU, and told it so. Listening
costs the node a copy of each frame that it sends, so it ends with the first reply. Must not know
what is made of it. Sources: packet(7); the kernel's Documentation/networking/filter.rst.
"""

from __future__ import annotations

import socket
from typing import Any, Final

from agent.linux import bpf, packet
from agent.protocol.codec import parse
from agent.protocol.messages import HeartbeatReply
from testbed.kernel import netns

_ETH_P_ALL: Final = 3
_MARKER: Final = 0x3030
_CONTROL: Final = 0
_LONGEST_FRAME: Final = 2048
_AT_A_TIME: Final = 32

_OWN_CONTROL: Final = bpf.assemble(
    [
        (bpf.LD_B_ABS, 0, 0, bpf.SKF_AD_PKTTYPE),
        (bpf.JEQ_K, 0, 5, socket.PACKET_OUTGOING),
        (bpf.LD_H_ABS, 0, 0, 12),
        (bpf.JEQ_K, 0, 3, _MARKER),
        (bpf.LD_B_ABS, 0, 0, 14),
        (bpf.JEQ_K, 0, 1, _CONTROL),
        (bpf.RET_K, 0, 0, 0xFFFFFFFF),
        (bpf.RET_K, 0, 0, 0),
    ]
)
"""Lets pass what the node itself sends and what begins with a control message."""


class Answering:
    """A socket on the radio `ifname` in the namespace `inside`. Close it."""

    def __init__(self, inside: str, ifname: str) -> None:
        """Listen. OSError where there is no such interface, or no right."""

        def listen() -> socket.socket:
            # With protocol 0 nothing comes until it is bound, and then only what the filter lets.
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
            try:
                packet.attach_filter(sock, _OWN_CONTROL)
                sock.bind((ifname, _ETH_P_ALL))
            except BaseException:
                sock.close()
                raise
            return sock

        self._sock = netns.run_in(inside, listen)

    def fileno(self) -> int:
        """For a selector: readable once the node has sent a control frame."""
        return self._sock.fileno()

    def look(self) -> dict[str, Any] | None:
        """The first reply of the node's own, if one came; its neighbour, the RSU and the hops."""
        for _ in range(_AT_A_TIME):
            try:
                frame = self._sock.recv(_LONGEST_FRAME)
            except OSError:  # nothing there, or the interface went down: more may come
                return None
            for message in parse(frame):
                if isinstance(message, HeartbeatReply) and message.sender == message.transmitter:
                    return {
                        "mac": message.receiver.hex(":"),
                        "rsu": message.rsu.hex(":"),
                        "hops": message.hops,
                    }
        return None

    def close(self) -> None:
        """Listen no longer; twice is fine."""
        self._sock.close()
