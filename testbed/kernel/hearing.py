"""Who hears what comes in at a port of the medium: the requests of `tcmessages`, sent and answered.

Holds sockets in the medium's namespace, so that no thread has to go there again. Must not know
nodes or topologies.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from agent.linux import netif, netlink
from testbed.errors import TestbedError
from testbed.kernel import netns, tcmessages

_SIOCGIFINDEX: Final = 0x8933
_SOL_NETLINK: Final = 270
_NETLINK_CAP_ACK: Final = 10
_NETLINK_EXT_ACK: Final = 11
_NLMSGERR_ATTR_MSG: Final = 1


class KernelError(TestbedError):
    """The kernel refused an operation."""


class MediumPorts:
    """The ports of one medium. Close it: its sockets keep the namespace alive."""

    def __init__(self, medium: str) -> None:
        """`medium` is the name of the namespace. FileNotFoundError if there is none."""
        self._name = medium
        self._netlink, self._lookup = netns.run_in(medium, _open_sockets)

    def close(self) -> None:
        """Let go of the namespace."""
        self._netlink.close()
        self._lookup.close()

    def prepare(self, port: str) -> None:
        """Make a new port ready; nobody hears it yet.

        :raises KernelError: there is no such port, or the kernel refused.
        """
        self._talk(tcmessages.prepare_port(self._index(port)), port)

    def set_hearing(self, port: str, peers: Sequence[str]) -> None:
        """From the next frame on, exactly the ports `peers` hear what comes in at `port`.

        Each frame meets the old set or the new one: none is lost or doubled by the change.

        :raises KernelError: a port is not there, or the kernel refused.
        """
        interface = self._index(port)
        listeners = [self._index(peer) for peer in peers]
        old = self._chains(interface)
        # Never one that was in use a moment ago: the kernel lets go of a chain in its own time.
        new = max(old, default=0) % tcmessages.LAST_CHAIN + 1
        self._talk(tcmessages.set_peers(interface, listeners, chain=new), port)
        for chain in old:
            # For the same reason one may be listed and be gone when it is to be removed.
            with suppress(KernelError):
                if chain:
                    self._talk([tcmessages.drop_chain(interface, chain)], port)

    def _index(self, port: str) -> int:
        request = struct.pack("16s24x", port.encode())
        try:
            # Asked through a socket that was made in there: netdevice(7) answers for its namespace.
            answer = fcntl.ioctl(self._lookup, _SIOCGIFINDEX, request)
        except OSError as error:
            raise KernelError(f"{self._name}: port {port}: {error.strerror}") from error
        return int(struct.unpack_from("=i", answer, 16)[0])

    def _talk(self, messages: Sequence[bytes], port: str) -> None:
        """Send requests one after the other, each acknowledged; the first refusal is raised."""
        for message in messages:
            self._netlink.send(message)
            answer = next(netlink.messages(self._netlink.recv(1 << 16)))
            if answer.kind != netlink.NLMSG_ERROR:
                raise KernelError(f"{self._name} {port}: answer of unexpected type {answer.kind}")
            if number := netlink.error_number(answer.payload):
                what = f"{os.strerror(number)}{_reason(answer.payload)}"
                raise KernelError(f"{self._name} {port}: {what}")

    def _chains(self, interface: int) -> list[int]:
        self._netlink.send(tcmessages.list_chains(interface))
        chains: list[int] = []
        last = False
        while not last:
            more, last = tcmessages.parse_chains(self._netlink.recv(1 << 16))
            chains += more
        return chains


def _open_sockets() -> tuple[socket.socket, socket.socket]:
    asking = netlink.open_socket()
    for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK):
        asking.setsockopt(_SOL_NETLINK, option, 1)
    return asking, netif.any_socket()


def _reason(payload: bytes) -> str:
    """What the kernel says about an error in words, if it does (NETLINK_EXT_ACK, netlink(7))."""
    # Behind the number and the header of the request, which is all of it that comes back (CAP_ACK).
    told = dict(netlink.attributes(payload[4 + netlink.HEADER_BYTES :]))
    words = told.get(_NLMSGERR_ATTR_MSG, b"").rstrip(b"\0").decode(errors="replace")
    return f" ({words})" if words else ""
