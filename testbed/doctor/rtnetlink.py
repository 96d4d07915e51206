"""The four rtnetlink requests that probes need, by hand: a link, a qdisc, a filter, a state.

By hand, so that a probe tells what the kernel says, whatever library the testbed drives it with.
Layouts: rtnetlink(7), linux/if_link.h, pkt_sched.h, pkt_cls.h, tc_act/tc_mirred.h.
Must not know what the answers mean for anybody.
"""

from __future__ import annotations

import socket
import struct

from agent.linux import netlink
from agent.linux.netlink import attribute

_RTM_NEWLINK, _RTM_NEWQDISC, _RTM_NEWTFILTER = 16, 36, 44

_IFLA_IFNAME, _IFLA_LINKINFO = 3, 18
_INFO_KIND, _INFO_DATA = 1, 2
_VETH_PEER = 1
_TCA_KIND, _TCA_OPTIONS = 1, 2
_INGRESS_PARENT, _INGRESS_HANDLE, _ROOT_PARENT = 0xFFFFFFF1, 0xFFFF0000, 0xFFFFFFFF
_U32_SELECTOR, _U32_ACTIONS = 5, 7
_ACTION_KIND, _ACTION_OPTIONS = 1, 2
_MIRRED_PARAMETERS = 2
_PIPE, _EGRESS_MIRROR = 3, 2
_ETH_P_ALL = 3
_PRIORITY = 10


def add_veth(name: str, peer: str) -> None:
    """A veth pair, both ends in this network namespace."""
    other = _link_header() + attribute(_IFLA_IFNAME, _text(peer))
    data = attribute(_INFO_DATA, attribute(_VETH_PEER, other))
    info = attribute(_IFLA_LINKINFO, attribute(_INFO_KIND, b"veth") + data)
    _request(_RTM_NEWLINK, _link_header() + attribute(_IFLA_IFNAME, _text(name)) + info)


def add_ingress(interface: str) -> None:
    """The ingress qdisc, where filters see what arrives."""
    header = _traffic_header(interface, _INGRESS_HANDLE, _INGRESS_PARENT)
    _request(_RTM_NEWQDISC, header + attribute(_TCA_KIND, b"ingress\0"))


def add_mirror(interface: str, to: str) -> None:
    """A u32 filter at the ingress of `interface` that mirrors every frame out of `to`."""
    match_all = struct.pack("=BBBxHHhhI", 1, 0, 1, 0, 0, 0, 0, 0) + struct.pack("=IIii", 0, 0, 0, 0)
    mirror = struct.pack("=IIiiiiI", 0, 0, _PIPE, 0, 0, _EGRESS_MIRROR, socket.if_nametoindex(to))
    action = attribute(_ACTION_KIND, b"mirred\0") + attribute(
        _ACTION_OPTIONS, attribute(_MIRRED_PARAMETERS, mirror)
    )
    options = attribute(_U32_SELECTOR, match_all) + attribute(_U32_ACTIONS, attribute(1, action))
    info = _PRIORITY << 16 | socket.htons(_ETH_P_ALL)
    header = _traffic_header(interface, 0, _INGRESS_HANDLE, info)
    _request(
        _RTM_NEWTFILTER,
        header + attribute(_TCA_KIND, b"u32\0") + attribute(_TCA_OPTIONS, options),
    )


def _text(name: str) -> bytes:
    return name.encode() + b"\0"


def _link_header() -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0, 0, 0)


def _traffic_header(interface: str, handle: int, parent: int, info: int = 0) -> bytes:
    index = socket.if_nametoindex(interface)
    return struct.pack("=BxxxiIII", socket.AF_UNSPEC, index, handle, parent, info)


def _request(kind: int, payload: bytes) -> None:
    """Send one request and wait for its acknowledgement; OSError with the kernel's number."""
    netlink.acknowledged(kind, netlink.NLM_F_EXCL | netlink.NLM_F_CREATE, payload)
