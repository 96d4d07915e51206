"""Network interfaces of the namespace the caller is in: addresses, MTU, MAC, state, counters.

Sources: netdevice(7) for the ioctls, rtnetlink(7) for addresses. Must not know what the
interfaces are for.
"""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import socket
import struct
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Final

from agent.linux import netlink

Address = ipaddress.IPv4Interface | ipaddress.IPv6Interface

IFF_UP: Final = 0x1
IFF_RUNNING: Final = 0x40
ARPHRD_ETHER: Final = 1

_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_SIOCGIFMTU: Final = 0x8921
_SIOCSIFMTU: Final = 0x8922
_SIOCSIFHWADDR: Final = 0x8924
_SIOCGIFHWADDR: Final = 0x8927

_RTM_NEWADDR: Final = 20
_RTM_GETADDR: Final = 22
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_IFA_BROADCAST: Final = 4
_IFA_F_NODAD: Final = 0x02


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkCounters:
    """What the kernel counted for one interface since it was made (proc(5), net/dev)."""

    rx_bytes: int
    rx_packets: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_dropped: int


def index(name: str) -> int:
    """The interface's number; OSError ENODEV where there is none of that name."""
    try:
        return socket.if_nametoindex(name)
    except OSError as error:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), name) from error


def exists(ifindex: int) -> bool:
    """Whether this namespace has an interface of that number."""
    try:
        socket.if_indextoname(ifindex)
    except OSError:
        return False
    return True


def any_socket() -> socket.socket:
    """A socket through which interfaces are asked for; it stays in the namespace it was made in."""
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)


def _ioctl(name: str, request: int, payload: bytes = b"") -> bytes:
    with any_socket() as sock:
        return _ioctl_through(sock, name, request, payload)


def _ioctl_through(sock: socket.socket, name: str, request: int, payload: bytes = b"") -> bytes:
    answer = fcntl.ioctl(sock.fileno(), request, struct.pack("16s24s", name.encode(), payload))
    return answer[16:]


def mac(name: str) -> bytes:
    """The six bytes of an Ethernet interface's address; OSError EAFNOSUPPORT for other kinds."""
    answer = _ioctl(name, _SIOCGIFHWADDR)
    (family,) = struct.unpack_from("H", answer)
    if family != ARPHRD_ETHER:
        raise OSError(errno.EAFNOSUPPORT, "not an Ethernet interface", name)
    return answer[2:8]


def set_mac(name: str, address: bytes) -> None:
    """Give an Ethernet interface the six bytes of `address`."""
    _ioctl(name, _SIOCSIFHWADDR, struct.pack("H6s", ARPHRD_ETHER, address))


def mtu(name: str) -> int:
    """Bytes of payload that one frame may carry."""
    (value,) = struct.unpack_from("i", _ioctl(name, _SIOCGIFMTU))
    return int(value)


def set_mtu(name: str, value: int) -> None:
    """Set the bytes of payload that one frame may carry; OSError EINVAL where it cannot be."""
    _ioctl(name, _SIOCSIFMTU, struct.pack("i", value))


def flags(name: str, *, through: socket.socket | None = None) -> int:
    """IFF_… bits as netdevice(7) has them, in the namespace of the socket `through` if given."""
    with any_socket() if through is None else nullcontext(through) as sock:
        (value,) = struct.unpack_from("H", _ioctl_through(sock, name, _SIOCGIFFLAGS))
    return int(value)


def set_up(name: str, up: bool = True) -> None:
    """Switch an interface on or off."""
    now = flags(name)
    _ioctl(name, _SIOCSIFFLAGS, struct.pack("H", now | IFF_UP if up else now & ~IFF_UP))


def set_ipv6_option(name: str, option: str, value: int) -> None:
    """Write /proc/sys/net/ipv6/conf/NAME/OPTION; OSError where there is no IPv6 or no right."""
    if "/" in name or "/" in option:
        raise ValueError(f"no name of an interface or option: {name!r}, {option!r}")
    with open(f"/proc/sys/net/ipv6/conf/{name}/{option}", "w") as file:
        file.write(str(value))


def counters(name: str) -> LinkCounters:
    """Counters of one interface; OSError ENODEV where there is none of that name."""
    with open("/proc/thread-self/net/dev") as file:
        for line in file:
            label, _, rest = line.partition(":")
            if label.strip() == name:
                n = [int(field) for field in rest.split()]
                return LinkCounters(
                    rx_bytes=n[0],
                    rx_packets=n[1],
                    rx_dropped=n[3],
                    tx_bytes=n[8],
                    tx_packets=n[9],
                    tx_dropped=n[11],
                )
    raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), name)


def add_address(name: str, address: Address) -> None:
    """Give an interface one more address; IPv6 without duplicate address detection.

    :raises FileExistsError: it has that address already.
    :raises OSError: what the kernel answered.
    """
    is_v4 = address.version == 4
    packed = address.ip.packed
    body = struct.pack(
        "BBBBi",
        socket.AF_INET if is_v4 else socket.AF_INET6,
        address.network.prefixlen,
        0 if is_v4 else _IFA_F_NODAD,
        0,
        index(name),
    )
    body += netlink.attribute(_IFA_LOCAL, packed) + netlink.attribute(_IFA_ADDRESS, packed)
    if is_v4 and address.network.prefixlen < 31:
        body += netlink.attribute(_IFA_BROADCAST, address.network.broadcast_address.packed)
    netlink.acknowledged(_RTM_NEWADDR, netlink.NLM_F_CREATE | netlink.NLM_F_EXCL, body)


def addresses() -> dict[ipaddress.IPv4Address | ipaddress.IPv6Address, str]:
    """Every address of this namespace and the interface that has it."""
    found: dict[ipaddress.IPv4Address | ipaddress.IPv6Address, str] = {}
    everything = struct.pack("BBBBi", 0, 0, 0, 0, 0)
    for payload in netlink.request(_RTM_GETADDR, netlink.NLM_F_DUMP, everything):
        family, _, _, _, ifindex = struct.unpack_from("BBBBi", payload)
        if family not in (socket.AF_INET, socket.AF_INET6):
            continue
        by_type = dict(netlink.attributes(payload[8:]))
        # IPv4 tells its own address in IFA_LOCAL; IPv6 mostly has IFA_ADDRESS alone.
        raw = by_type.get(_IFA_LOCAL, by_type.get(_IFA_ADDRESS))
        if raw is not None:
            try:
                found[ipaddress.ip_address(raw)] = socket.if_indextoname(ifindex)
            except OSError:  # the interface left in between
                continue
    return found
