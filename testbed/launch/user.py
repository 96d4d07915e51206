"""Becoming another user, with the two rights that a node needs in its namespace, and no others.

A node makes a TAP and opens packet sockets, which takes CAP_NET_ADMIN and CAP_NET_RAW; they stay
with a program that is executed, as ambient capabilities. Sources: capabilities(7), prctl(2). Must
not know what is executed.
"""

from __future__ import annotations

import ctypes
import os
import pwd
from dataclasses import dataclass
from typing import Final

from agent.linux.rights import CAP_NET_ADMIN, CAP_NET_RAW

_KEPT: Final = (CAP_NET_ADMIN, CAP_NET_RAW)
_PR_SET_KEEPCAPS: Final = 8
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_RAISE: Final = 2
_CAPABILITY_VERSION_3: Final = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class User:
    """Somebody that a process can run as."""

    uid: int
    gid: int
    groups: tuple[int, ...]


def find(name: str) -> User:
    """The user of that name, or of that number, which need not have a name.

    :raises LookupError: there is none of that name.
    """
    try:
        found = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    except KeyError:
        if name.isdigit():
            return User(uid=int(name), gid=int(name), groups=())
        raise LookupError(f"there is no user {name} on this machine") from None
    groups = os.getgrouplist(found.pw_name, found.pw_gid)
    return User(uid=found.pw_uid, gid=found.pw_gid, groups=tuple(groups))


def become(user: User) -> None:
    """Run as that user from here on; what is executed keeps the two rights and gains no other.

    Belongs to a process with one thread. OSError where the kernel refuses a step.
    """
    _prctl(_PR_SET_KEEPCAPS, 1)
    os.setgroups(user.groups)
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    mask = sum(1 << capability for capability in _KEPT)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # Effective, permitted, inheritable of the lower 32 capabilities, then of the others.
    data = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
    if _libc.capset(header, data) < 0:
        _raise("capset")
    for capability in _KEPT:
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _prctl(option: int, *arguments: int) -> None:
    padded = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    if _libc.prctl(option, *padded) < 0:
        _raise(f"prctl({option})")


def _raise(what: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, f"{what}: {os.strerror(number)}")
