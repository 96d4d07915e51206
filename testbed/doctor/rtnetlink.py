"""The four rtnetlink requests that probes need, by hand: a link, a qdisc, a filter, a state.

By hand, so that a probe tells what the kernel says, whatever library the testbed drives it with.
Layouts: rtnetlink(7), linux/if_link.h, pkt_sched.h, pkt_cls.h, tc_act/tc_mirred.h.
Must not know what the answers mean for anybody.
"""

from __future__ import annotations

import os
import socket
import struct

_RTM_NEWLINK, _RTM_NEWQDISC, _RTM_NEWTFILTER = 16, 36, 44
_REQUEST, _ACK, _EXCLUSIVE, _CREATE = 0x1, 0x4, 0x200, 0x400
_NLMSG_ERROR = 2

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
    other = _link_header() + _attribute(_IFLA_IFNAME, _text(peer))
    data = _attribute(_INFO_DATA, _attribute(_VETH_PEER, other))
    info = _attribute(_IFLA_LINKINFO, _attribute(_INFO_KIND, b"veth") + data)
    _request(_RTM_NEWLINK, _link_header() + _attribute(_IFLA_IFNAME, _text(name)) + info)


def add_ingress(interface: str) -> None:
    """The ingress qdisc, where filters see what arrives."""
    header = _traffic_header(interface, _INGRESS_HANDLE, _INGRESS_PARENT)
    _request(_RTM_NEWQDISC, header + _attribute(_TCA_KIND, b"ingress\0"))


def add_mirror(interface: str, to: str) -> None:
    """A u32 filter at the ingress of `interface` that mirrors every frame out of `to`."""
    match_all = struct.pack("=BBBxHHhhI", 1, 0, 1, 0, 0, 0, 0, 0) + struct.pack("=IIii", 0, 0, 0, 0)
    mirror = struct.pack("=IIiiiiI", 0, 0, _PIPE, 0, 0, _EGRESS_MIRROR, socket.if_nametoindex(to))
    action = _attribute(_ACTION_KIND, b"mirred\0") + _attribute(
        _ACTION_OPTIONS, _attribute(_MIRRED_PARAMETERS, mirror)
    )
    options = _attribute(_U32_SELECTOR, match_all) + _attribute(_U32_ACTIONS, _attribute(1, action))
    info = _PRIORITY << 16 | socket.htons(_ETH_P_ALL)
    header = _traffic_header(interface, 0, _INGRESS_HANDLE, info)
    _request(
        _RTM_NEWTFILTER,
        header + _attribute(_TCA_KIND, b"u32\0") + _attribute(_TCA_OPTIONS, options),
    )


def _text(name: str) -> bytes:
    return name.encode() + b"\0"


def _attribute(kind: int, payload: bytes) -> bytes:
    length = 4 + len(payload)
    return struct.pack("=HH", length, kind) + payload + b"\0" * (-length % 4)


def _link_header() -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0, 0, 0)


def _traffic_header(interface: str, handle: int, parent: int, info: int = 0) -> bytes:
    index = socket.if_nametoindex(interface)
    return struct.pack("=BxxxiIII", socket.AF_UNSPEC, index, handle, parent, info)


def _request(kind: int, payload: bytes) -> None:
    """Send one request and wait for its acknowledgement; OSError with the kernel's number."""
    flags = _REQUEST | _ACK | _EXCLUSIVE | _CREATE
    message = struct.pack("=IHHII", 16 + len(payload), kind, flags, 1, 0) + payload
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.bind((0, 0))
        netlink.send(message)
        while True:
            answer = netlink.recv(65536)
            if struct.unpack_from("=H", answer, 4)[0] == _NLMSG_ERROR:
                break
    (negative,) = struct.unpack_from("=i", answer, 16)
    if negative:
        raise OSError(-negative, os.strerror(-negative))
