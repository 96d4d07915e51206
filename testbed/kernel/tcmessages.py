"""Traffic control requests of the medium as bytes: frames of one port, mirrored to others.

Each port has one filter at the root, which is replaced whole: the kernel swaps it in one step, so
that a frame meets either the old set of peers or the new one (u32_replace_knode in cls_u32.c). What
does not fit its 32 actions stands in a chain of its own, made before the swap and removed after.
Pure. Must not know sockets, names or topologies, only interface indexes.
Source: linux/rtnetlink.h, linux/pkt_cls.h, linux/tc_act/tc_mirred.h, tc-mirred(8), tc-u32(8).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import Final

from agent.linux import netlink
from agent.linux.netlink import attribute

ACTIONS_PER_FILTER: Final = 32
"""TCA_ACT_MAX_PRIO: the kernel takes no more actions in one filter."""

LAST_CHAIN: Final = 0x0FFFFFFF
"""The highest number of a chain (TC_ACT_EXT_VAL_MASK)."""

ROOT_HANDLE: Final = 0x80000800
"""800::800, which u32 gives to the first filter of an interface; asked for by number here."""

_RTM_NEWQDISC: Final = 36
_RTM_NEWTFILTER: Final = 44
_RTM_DELCHAIN: Final = 101
_RTM_GETCHAIN: Final = 102

_TCMSG_BYTES: Final = 20
_TC_H_INGRESS: Final = 0xFFFFFFF1
_INGRESS_HANDLE: Final = 0xFFFF0000
_INGRESS_PARENT: Final = 0xFFFFFFF2
_TCA_KIND: Final = 1
_TCA_OPTIONS: Final = 2
_TCA_CHAIN: Final = 11
_TCA_U32_CLASSID: Final = 1
_TCA_U32_SEL: Final = 5
_TCA_U32_ACT: Final = 7
_TC_U32_TERMINAL: Final = 1
_TCA_ACT_KIND: Final = 1
_TCA_ACT_OPTIONS: Final = 2
_TCA_MIRRED_PARMS: Final = 2
_EGRESS_REDIRECT: Final = 1
_EGRESS_MIRROR: Final = 2
_CONTINUE: Final = -1  # TC_ACT_UNSPEC: go on with the next filter
_PIPE: Final = 3  # TC_ACT_PIPE: go on with the next action
_STOLEN: Final = 4  # TC_ACT_STOLEN: nobody else sees this frame
_GOTO_CHAIN: Final = 0x20000000
_ETH_P_ALL: Final = 3

_MATCH_EVERYTHING: Final = struct.pack(
    "=BBBxHHhhI IIii", _TC_U32_TERMINAL, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0
)


def _request(kind: int, flags: int, body: bytes) -> bytes:
    return netlink.message(kind, flags | netlink.NLM_F_ACK, body)


def _tcmsg(interface: int, handle: int, parent: int, info: int) -> bytes:
    return struct.pack("=BxxxiIII", socket.AF_UNSPEC, interface, handle, parent, info)


def _mirred(peer: int, what: int, then: int) -> bytes:
    parameters = struct.pack("=IIiiiiI", 0, 0, then, 0, 0, what, peer)
    return attribute(_TCA_ACT_KIND, b"mirred\0") + attribute(
        _TCA_ACT_OPTIONS | netlink.NLA_F_NESTED, attribute(_TCA_MIRRED_PARMS, parameters)
    )


def _actions(peers: Sequence[int], then: int | None) -> list[bytes]:
    """Copies to all `peers`; after the last one `then`, or, with None, hand it the frame itself."""
    *first, last = peers
    copies = [_mirred(peer, _EGRESS_MIRROR, _PIPE) for peer in first]
    if then is None:
        return [*copies, _mirred(last, _EGRESS_REDIRECT, _STOLEN)]
    return [*copies, _mirred(last, _EGRESS_MIRROR, then)]


def _filter(
    interface: int, flags: int, actions: Sequence[bytes], *, chain: int, priority: int, handle: int
) -> bytes:
    options = attribute(_TCA_U32_SEL, _MATCH_EVERYTHING)
    options += attribute(_TCA_U32_CLASSID, bytes(4))
    if actions:
        options += attribute(
            _TCA_U32_ACT,
            b"".join(attribute(order, action) for order, action in enumerate(actions, start=1)),
        )
    body = _tcmsg(interface, handle, _INGRESS_PARENT, priority << 16 | socket.htons(_ETH_P_ALL))
    body += attribute(_TCA_KIND, b"u32\0")
    body += attribute(_TCA_CHAIN, struct.pack("=I", chain))
    body += attribute(_TCA_OPTIONS, options)
    return _request(_RTM_NEWTFILTER, flags, body)


def prepare_port(interface: int) -> list[bytes]:
    """An ingress qdisc and the root filter; nobody hears this port yet."""
    qdisc = _tcmsg(interface, _INGRESS_HANDLE, _TC_H_INGRESS, 0) + attribute(
        _TCA_KIND, b"ingress\0"
    )
    create = netlink.NLM_F_CREATE | netlink.NLM_F_EXCL
    return [
        _request(_RTM_NEWQDISC, create, qdisc),
        # Without an action the frame goes up the stack of the medium, where nothing takes it.
        _filter(interface, create, [], chain=0, priority=1, handle=ROOT_HANDLE),
    ]


def set_peers(interface: int, peers: Sequence[int], *, chain: int) -> list[bytes]:
    """Let exactly `peers` hear what comes in at `interface`, from one frame to the next.

    `chain` (1 and up) must not be the one in use; only more than 32 peers make use of it.
    """
    rest = [
        peers[start : start + ACTIONS_PER_FILTER]
        for start in range(ACTIONS_PER_FILTER, len(peers), ACTIONS_PER_FILTER)
    ]
    messages = [
        _filter(
            interface,
            netlink.NLM_F_CREATE | netlink.NLM_F_EXCL,
            _actions(part, None if part is rest[-1] else _CONTINUE),
            chain=chain,
            priority=priority,
            handle=0,
        )
        for priority, part in enumerate(rest, start=1)
    ]
    first = peers[:ACTIONS_PER_FILTER]
    then = _GOTO_CHAIN | chain if rest else None
    root = _actions(first, then) if first else []
    return [
        *messages,
        _filter(interface, netlink.NLM_F_REPLACE, root, chain=0, priority=1, handle=ROOT_HANDLE),
    ]


def drop_chain(interface: int, chain: int) -> bytes:
    """Remove a chain that the root filter does not lead to any more."""
    body = _tcmsg(interface, 0, _INGRESS_PARENT, 0)
    return _request(_RTM_DELCHAIN, 0, body + attribute(_TCA_CHAIN, struct.pack("=I", chain)))


def list_chains(interface: int) -> bytes:
    """Ask for the chains at the ingress of `interface`; `parse_chains` reads what comes back."""
    return _request(_RTM_GETCHAIN, netlink.NLM_F_DUMP, _tcmsg(interface, 0, _INGRESS_PARENT, 0))


def parse_chains(data: bytes) -> tuple[list[int], bool]:
    """Chain numbers in one datagram of the answer, and whether it was the last one."""
    chains: list[int] = []
    for answer in netlink.messages(data):
        if answer.kind in (netlink.NLMSG_DONE, netlink.NLMSG_ERROR):
            return chains, True
        for kind, value in netlink.attributes(answer.payload[_TCMSG_BYTES:]):
            if kind == _TCA_CHAIN:
                chains.append(struct.unpack("=I", value)[0])
    return chains, False
