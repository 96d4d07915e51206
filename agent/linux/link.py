"""What kind of device an interface is: its driver, its queueing discipline, its receive queues.

Sources: rtnetlink(7), linux/if_link.h, linux/ethtool.h. Must not know what the interface is for.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import socket
import struct
from dataclasses import dataclass
from typing import Final

from agent.linux import netif, netlink

_RTM_GETLINK: Final = 18
_IFLA_QDISC: Final = 6
_IFLA_LINKINFO: Final = 18
_IFLA_INFO_KIND: Final = 1
_SIOCETHTOOL: Final = 0x8946
_ETHTOOL_GCHANNELS: Final = 0x3C


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """`kind` is what made the device (veth, bridge …), empty for hardware; `queue` is the root
    queueing discipline, noqueue where frames do not wait."""

    index: int
    kind: str
    queue: str
    receive_queues: int


def describe(ifname: str) -> Link:
    """What the kernel says of one interface; OSError ENODEV where there is none of that name."""
    index = netif.index(ifname)
    body = struct.pack("BxHiII", socket.AF_UNSPEC, 0, index, 0, 0)
    (payload,) = netlink.request(_RTM_GETLINK, 0, body)
    found = dict(netlink.attributes(payload[16:]))
    info = dict(netlink.attributes(found.get(_IFLA_LINKINFO, b"")))
    return Link(
        index=index,
        kind=_text(info.get(_IFLA_INFO_KIND, b"")),
        queue=_text(found.get(_IFLA_QDISC, b"")),
        receive_queues=_receive_queues(ifname),
    )


def _receive_queues(ifname: str) -> int:
    """How many are in use; rtnetlink tells only for how many there is room."""
    # struct ethtool_channels: the command, four maxima, then rx, tx, other and combined.
    channels = ctypes.create_string_buffer(struct.pack("=I32x", _ETHTOOL_GCHANNELS), 36)
    request = struct.pack("16sP16x", ifname.encode(), ctypes.addressof(channels))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            fcntl.ioctl(sock, _SIOCETHTOOL, request)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            return 1  # a driver that has no channels has one queue
    receive, _, _, combined = struct.unpack_from("=4I", channels.raw, 20)
    return int(receive + combined)


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode()
