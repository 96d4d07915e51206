"""Landlock: a process gives up reaching files, ports and other processes, for good.

It holds beside users and capabilities: a process that stays root without capabilities could still
write root's files, and agents of one user could signal each other. What is open stays usable, and
nothing is checked on reading and writing it, so that frames cost what they did.

Source: landlock(7) and linux/landlock.h; three system calls, for which the C library has no
functions. Must not know what a process wants to keep reaching.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Mapping
from enum import IntFlag
from types import TracebackType
from typing import Final, Self

_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
"""The same numbers on every architecture."""

_VERSION: Final = 1
_PATH_BENEATH: Final = 1


class Access(IntFlag):
    """What can be done to files beneath a directory (LANDLOCK_ACCESS_FS_…)."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_FILE = 1 << 5
    MAKE_REG = 1 << 8
    TRUNCATE = 1 << 14


READ: Final = Access.READ_FILE | Access.READ_DIR
REPLACE: Final = Access.WRITE_FILE | Access.MAKE_REG | Access.REMOVE_FILE | Access.TRUNCATE
"""To make a file, fill it, and put it in another's place."""

_FILES: Final = {1: 13, 2: 14, 3: 15, 5: 16}
"""From which version on how many kinds of access to files are known, counted from bit 0."""
_PORTS_SINCE: Final = 4
_PORTS: Final = 0b11
"""Binding and connecting TCP sockets."""
_SCOPES_SINCE: Final = 6
_SCOPES: Final = 0b11
"""Abstract sockets and signals of processes outside."""

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


def version() -> int:
    """The version of Landlock that this kernel has; 0 where it has none, or it is off."""
    found = _syscall(ctypes.c_long(_CREATE_RULESET), None, ctypes.c_size_t(0), _VERSION)
    return max(0, int(found))


class Confinement:
    """What is still to be reached, prepared while there is a right to look at the paths.

    Everything else that this kernel's version knows is denied: files, TCP ports to bind and connect
    to, and signals and abstract sockets across the border.
    """

    def __init__(self, allowed: Mapping[str, Access]) -> None:
        """`allowed` is what can be done beneath which directories.

        :raises OSError: no Landlock here (ENOSYS, EOPNOTSUPP), or no such directory.
        """
        self.version = version()
        if not self.version:
            raise OSError(errno.EOPNOTSUPP, "this kernel has no Landlock, or it is switched off")
        files = max(bits for since, bits in _FILES.items() if since <= self.version)
        self._handled = (1 << files) - 1
        values = [self._handled]
        if self.version >= _PORTS_SINCE:
            values.append(_PORTS)
        if self.version >= _SCOPES_SINCE:
            values.append(_SCOPES)
        attributes = struct.pack(f"={len(values)}Q", *values)
        self._fd = _call(
            _CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0)
        )
        try:
            for path, access in allowed.items():
                self._allow(path, access)
        except BaseException:
            self.close()
            raise

    def _allow(self, path: str, access: Access) -> None:
        directory = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            rule = struct.pack("=Qi", access & self._handled, directory)
            _call(_ADD_RULE, ctypes.c_int(self._fd), _PATH_BENEATH, rule, ctypes.c_uint(0))
        finally:
            os.close(directory)

    def enter(self) -> None:
        """Confine the calling thread, and those that it makes from now on.

        :raises OSError: no_new_privs is not set (EPERM), or there are too many layers (E2BIG).
        """
        _call(_RESTRICT_SELF, ctypes.c_int(self._fd), ctypes.c_uint(0))

    def close(self) -> None:
        """Let go of the preparation; who entered stays confined."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _call(number: int, *arguments: object) -> int:
    result = int(_syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"landlock: {os.strerror(code)}")
    return result
