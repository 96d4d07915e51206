"""System calls by name, number and purpose, and which side of a node a descriptor belongs to.

Must not know how calls are counted.
"""

from __future__ import annotations

import enum
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from testbed.errors import Lacking


class CallClass(enum.StrEnum):
    """What a system call is for. `RING` submits, receives and waits in one (io_uring_enter)."""

    RECEIVE = "receive"
    SEND = "send"
    WAIT = "wait"
    RING = "ring"
    OTHER = "other"


class Side(enum.StrEnum):
    """Which side of a node a call works for; `UNKNOWN` where its descriptor does not tell."""

    WIRE = "wire"
    TAP = "tap"
    UNKNOWN = "unknown"


CLASSES: Final[Mapping[str, CallClass]] = {
    "read": CallClass.RECEIVE,
    "readv": CallClass.RECEIVE,
    "recvfrom": CallClass.RECEIVE,
    "recvmsg": CallClass.RECEIVE,
    "recvmmsg": CallClass.RECEIVE,
    "write": CallClass.SEND,
    "writev": CallClass.SEND,
    "sendto": CallClass.SEND,
    "sendmsg": CallClass.SEND,
    "sendmmsg": CallClass.SEND,
    "poll": CallClass.WAIT,
    "ppoll": CallClass.WAIT,
    "select": CallClass.WAIT,
    "pselect6": CallClass.WAIT,
    "epoll_wait": CallClass.WAIT,
    "epoll_pwait": CallClass.WAIT,
    "epoll_pwait2": CallClass.WAIT,
    "clock_nanosleep": CallClass.WAIT,
    "io_uring_enter": CallClass.RING,
}
"""Every call that a data plane is made of; all others are `OTHER`."""

ON_DESCRIPTOR: Final = frozenset(
    name for name, kind in CLASSES.items() if kind in (CallClass.RECEIVE, CallClass.SEND)
)

# Numbers from the kernel's unistd headers; a call that a machine does not have is left out.
_NUMBERS: Final[Mapping[str, Mapping[str, int]]] = {
    "x86_64": {
        "read": 0,
        "write": 1,
        "poll": 7,
        "readv": 19,
        "writev": 20,
        "select": 23,
        "sendto": 44,
        "recvfrom": 45,
        "sendmsg": 46,
        "recvmsg": 47,
        "clock_nanosleep": 230,
        "epoll_wait": 232,
        "pselect6": 270,
        "ppoll": 271,
        "epoll_pwait": 281,
        "recvmmsg": 299,
        "sendmmsg": 307,
        "io_uring_enter": 426,
        "epoll_pwait2": 441,
    },
    "aarch64": {
        "epoll_pwait": 22,
        "read": 63,
        "write": 64,
        "readv": 65,
        "writev": 66,
        "pselect6": 72,
        "ppoll": 73,
        "clock_nanosleep": 115,
        "sendto": 206,
        "recvfrom": 207,
        "sendmsg": 211,
        "recvmsg": 212,
        "recvmmsg": 243,
        "sendmmsg": 269,
        "io_uring_enter": 426,
        "epoll_pwait2": 441,
    },
}


def class_of(name: str) -> CallClass:
    """What sort of call that is."""
    return CLASSES.get(name, CallClass.OTHER)


def call_numbers() -> Mapping[str, int]:
    """The numbers of the calls in `CLASSES` on this machine; Lacking where they are not known."""
    try:
        return _NUMBERS[platform.machine()]
    except KeyError:
        raise Lacking(f"system call numbers of {platform.machine()} are not known") from None


def descriptor_sides(pid: int) -> dict[int, Side]:
    """Which open descriptors of a process are its wire (AF_PACKET) and its TAP (/dev/net/tun).

    A descriptor that vanishes meanwhile is left out. Any process is looked at in its own network
    namespace, where /proc/PID/net/packet lists the packet sockets.

    :raises ProcessLookupError: there is no such process.
    """
    root = Path(f"/proc/{pid}")
    try:
        packet = {
            line.split()[-1] for line in (root / "net/packet").read_text().splitlines()[1:] if line
        }
        numbers = os.listdir(root / "fd")
    except FileNotFoundError:
        raise ProcessLookupError(f"process {pid} is gone") from None
    found: dict[int, Side] = {}
    for number in numbers:
        try:
            target = os.readlink(root / "fd" / number)
        except FileNotFoundError:
            continue
        if target == "/dev/net/tun":
            found[int(number)] = Side.TAP
        elif target.startswith("socket:[") and target[8:-1] in packet:
            found[int(number)] = Side.WIRE
    return found
