"""Letting go of rights for good: user, groups, capabilities, and the way back to them.

Sources: capabilities(7), prctl(2), credentials(7). Must not know what the rights were for.
"""

from __future__ import annotations

import ctypes
import errno
import os
from dataclasses import dataclass
from typing import Final

CAP_SETGID: Final = 6
CAP_SETUID: Final = 7
CAP_SETPCAP: Final = 8
CAP_NET_ADMIN: Final = 12
CAP_NET_RAW: Final = 13
CAP_SYS_ADMIN: Final = 21

_PR_CAPBSET_READ: Final = 23
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_CAPABILITY_VERSION_3: Final = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rights:
    """What /proc/PID/status says about a process: four capability sets as bit masks."""

    effective: int
    permitted: int
    inheritable: int
    bounding: int
    ambient: int
    no_new_privs: bool
    uids: tuple[int, int, int, int]
    gids: tuple[int, int, int, int]
    groups: tuple[int, ...]

    @property
    def none_left(self) -> bool:
        """No capability in any set, and no way to get one by starting a program."""
        return self.no_new_privs and not (
            self.effective | self.permitted | self.inheritable | self.bounding | self.ambient
        )

    def has(self, capability: int) -> bool:
        """Whether `capability` (CAP_…) is effective."""
        return bool(self.effective >> capability & 1)


def rights_of(pid: int | None = None) -> Rights:
    """Rights of a process (this one by default) as its kernel shows them (proc(5), status)."""
    fields: dict[str, str] = {}
    with open(f"/proc/{'thread-self' if pid is None else pid}/status") as file:
        for line in file:
            key, _, value = line.partition(":")
            fields[key] = value.strip()
    return Rights(
        effective=int(fields["CapEff"], 16),
        permitted=int(fields["CapPrm"], 16),
        inheritable=int(fields["CapInh"], 16),
        bounding=int(fields["CapBnd"], 16),
        ambient=int(fields["CapAmb"], 16),
        no_new_privs=fields["NoNewPrivs"] == "1",
        uids=_four(fields["Uid"]),
        gids=_four(fields["Gid"]),
        groups=tuple(int(one) for one in fields["Groups"].split()),
    )


def _four(text: str) -> tuple[int, int, int, int]:
    a, b, c, d = (int(one) for one in text.split())
    return a, b, c, d


def drop_all(run_as: tuple[int, int] | None = None) -> Rights:
    """Give up every capability in every set, for good; with `run_as` also become (uid, gid).

    Acts on the calling thread, so it belongs where there is only one. Returns what is left, as
    the kernel shows it.

    :raises PermissionError: changing user or bounding set is not allowed to this process.
    :raises OSError: the kernel refused a step, or rights were left.
    """
    before = rights_of()
    if before.bounding and before.has(CAP_SETPCAP):
        # Beyond the last capability that the kernel knows, reading the set fails (EINVAL).
        capability = 0
        while _libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) >= 0:
            _prctl(_PR_CAPBSET_DROP, capability)
            capability += 1
    if run_as is not None:
        uid, gid = run_as
        if before.has(CAP_SETGID):
            os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _capset_none()
    after = rights_of()
    held = after.effective | after.permitted | after.inheritable | after.ambient
    if held or not after.no_new_privs or (before.has(CAP_SETPCAP) and after.bounding):
        raise OSError(errno.EPERM, f"rights were left after dropping them: {after}")
    return after


def _prctl(option: int, argument: int) -> None:
    if _libc.prctl(option, argument, 0, 0, 0) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}, {argument}): {os.strerror(number)}")


def _capset_none() -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    if _libc.capset(header, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"capset: {os.strerror(number)}")
