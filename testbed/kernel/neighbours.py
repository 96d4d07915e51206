"""Gives back entries of the neighbour table, which all namespaces of a machine share.

Must not know why there are entries. Source: rtnetlink(7), arp(7).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from types import TracebackType
from typing import Final

from agent.linux import netlink

_RTM_DELNEIGH: Final = 29
_NDA_DST: Final = 1


class NeighbourTable:
    """The entries of one interface in the namespace of the thread that makes this."""

    def __init__(self, interface: str) -> None:
        """OSError if there is no such interface."""
        self._index = socket.if_nametoindex(interface)
        self._netlink = netlink.open_socket()

    def forget(self, addresses: Iterable[IPv4Address | IPv6Address]) -> None:
        """Remove what is known of these addresses; nothing is said of those that are unknown."""
        messages = b"".join(self._message(address) for address in addresses)
        if messages:
            self._netlink.send(messages)
            self._drain()

    def _message(self, address: IPv4Address | IPv6Address) -> bytes:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        body = struct.pack("=BxxxiHBB", family, self._index, 0, 0, 0)
        body += netlink.attribute(_NDA_DST, address.packed)
        return netlink.message(_RTM_DELNEIGH, 0, body)

    def _drain(self) -> None:
        # Without a wish for acknowledgement only refusals come: such an entry was not there.
        try:
            while self._netlink.recv(1 << 16, socket.MSG_DONTWAIT):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Let go of the namespace."""
        self._netlink.close()

    def __enter__(self) -> NeighbourTable:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()
