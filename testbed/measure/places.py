"""Where the kernel can lose a frame, and how many it has counted there so far.

Reads interface counters, packet sockets and the per-CPU backlog; changes nothing. Must not know
what traffic passes or what a loss means for it.

Sources: proc(5) net/dev and net/softnet_stat, sock_diag(7) with linux/packet_diag.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.linux import netlink
from testbed.kernel.netns import run_in

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_SHOW_INFO: Final = 0x01
_SHOW_MEMORY: Final = 0x10
_ATTR_INFO: Final = 0
_ATTR_MEMORY: Final = 6
_MEMORY_RECEIVE: Final = 0
_MEMORY_BUFFER: Final = 1
_MEMORY_DROPS: Final = 8
_EVERY_PROTOCOL: Final = 3
"""ETH_P_ALL."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkCounts:
    """Counters of one interface since it was made.

    Of a veth pair, a frame that the receiving end does not take (it is down, or the CPU's backlog
    is full) is in the sender's `tx_dropped` and in the receiver's `rx_dropped`, and the sending
    program is told ENOBUFS: one loss in three places. Once the kernel has noticed that there is no
    carrier, within a second, nobody is told any more, and only `tx_dropped` has it. `rx_dropped`
    alone is a frame that arrived and that no protocol and no socket wanted. `tx_dropped` of a TAP
    is a frame for which the queue to the program had no room; nobody is told.
    """

    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int

    def since(self, earlier: LinkCounts) -> LinkCounts:
        """What came after `earlier`."""
        return LinkCounts(
            rx_packets=self.rx_packets - earlier.rx_packets,
            rx_errors=self.rx_errors - earlier.rx_errors,
            rx_dropped=self.rx_dropped - earlier.rx_dropped,
            tx_packets=self.tx_packets - earlier.tx_packets,
            tx_errors=self.tx_errors - earlier.tx_errors,
            tx_dropped=self.tx_dropped - earlier.tx_dropped,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PacketSocket:
    """An AF_PACKET socket. `drops` frames passed its filter and did not fit its buffer.

    The kernel does not count here what a socket with a mapped ring drops.
    """

    inode: int
    ifindex: int
    protocol: int
    """EtherType it is bound to; 3 is every one (ETH_P_ALL)."""
    drops: int
    queued_bytes: int
    buffer_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Softnet:
    """The backlog of one CPU: frames that found it full, and how often its time ran out."""

    processed: int
    dropped: int
    squeezed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class NamespaceCounts:
    """Everything that one network namespace counts, at one moment."""

    links: Mapping[str, LinkCounts]
    sockets: Mapping[int, PacketSocket]
    """By inode. None of them if the kernel cannot list packet sockets (`sockets_told`)."""
    ifindex: Mapping[str, int]
    sockets_told: bool = True

    def socket_drops(self, ifname: str, protocol: int, earlier: NamespaceCounts) -> int:
        """Frames dropped since `earlier` by sockets bound to that interface and EtherType.

        Where there is none, by those that take every EtherType, as other programs may open them. A
        socket opened in between counts with all it has.
        """
        total = 0
        there = {
            inode: found
            for inode, found in self.sockets.items()
            if found.ifindex == self.ifindex.get(ifname)
        }
        wanted = {found.protocol for found in there.values()} & {protocol} or {_EVERY_PROTOCOL}
        for inode, now in there.items():
            if now.protocol in wanted:
                before = earlier.sockets.get(inode)
                total += (now.drops - (before.drops if before else 0)) & 0xFFFFFFFF
        return total


def namespace_counts(netns: str) -> NamespaceCounts:
    """What the namespace of that name counts now; FileNotFoundError if there is none."""

    def look() -> NamespaceCounts:
        links = dict(_links())
        try:
            sockets = {found.inode: found for found in packet_sockets()}
            told = True
        except OSError:
            sockets, told = {}, False
        return NamespaceCounts(
            links=links,
            sockets=sockets,
            ifindex={name: index for index, name in socket.if_nameindex()},
            sockets_told=told,
        )

    return run_in(netns, look)


def softnet() -> tuple[Softnet, ...]:
    """The backlog counters of every CPU on line, for the whole machine."""
    found = []
    for line in Path("/proc/net/softnet_stat").read_text().splitlines():
        processed, dropped, squeezed = (int(field, 16) for field in line.split()[:3])
        found.append(Softnet(processed=processed, dropped=dropped, squeezed=squeezed))
    return tuple(found)


def _links() -> Iterator[tuple[str, LinkCounts]]:
    # Of this thread: it alone is in the namespace.
    for line in Path("/proc/thread-self/net/dev").read_text().splitlines()[2:]:
        name, _, values = line.partition(":")
        field = [int(value) for value in values.split()]
        yield (
            name.strip(),
            LinkCounts(
                rx_packets=field[1],
                rx_errors=field[2],
                rx_dropped=field[3],
                tx_packets=field[9],
                tx_errors=field[10],
                tx_dropped=field[11],
            ),
        )


def packet_sockets() -> Iterator[PacketSocket]:
    """The AF_PACKET sockets of the namespace the calling thread is in.

    :raises OSError: the kernel has no CONFIG_PACKET_DIAG.
    """
    wanted = struct.pack("=BBHIIII", socket.AF_PACKET, 0, 0, 0, _SHOW_INFO | _SHOW_MEMORY, 0, 0)
    answers = netlink.request(
        _SOCK_DIAG_BY_FAMILY, netlink.NLM_F_DUMP, wanted, family=_NETLINK_SOCK_DIAG
    )
    return map(_packet_socket, answers)


def _packet_socket(message: bytes) -> PacketSocket:
    _, _, protocol, inode = struct.unpack_from("BBHI", message)
    ifindex = drops = queued = size = 0
    for kind, body in netlink.attributes(message[16:]):
        if kind == _ATTR_INFO:
            (ifindex,) = struct.unpack_from("I", body)
        elif kind == _ATTR_MEMORY:
            words = struct.unpack(f"{len(body) // 4}I", body)
            queued, size, drops = (
                words[_MEMORY_RECEIVE],
                words[_MEMORY_BUFFER],
                words[_MEMORY_DROPS],
            )
    return PacketSocket(
        inode=inode,
        ifindex=ifindex,
        protocol=protocol,
        drops=drops,
        queued_bytes=queued,
        buffer_bytes=size,
    )
