"""A root directory that looks like the one before it, and from which no user namespace can be made.

In a user namespace of its own a process without rights has all of them again, if only there: that
is the part of the kernel by which most ways to more rights begin. unshare(2) and clone(2) refuse
CLONE_NEWUSER (EPERM) to a process whose root is not that of its mount namespace. So it gets a copy
of the whole tree of mounts for a root: every path leads where it did, nothing is mounted anywhere
that others could see, and no system call becomes slower. The way back would be chroot(2),
pivot_root(2) or setns(2), each of which takes a capability.

Source: open_tree(2), chroot(2), user_namespaces(7). Must not know what else a process gives up.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

_OPEN_TREE: Final = 428
"""The same number on every architecture but alpha; older C libraries have no function for it."""
_AT_FDCWD: Final = -100
_AT_RECURSIVE: Final = 0x8000
_OPEN_TREE_CLONE: Final = 1

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


def copy() -> int:
    """A descriptor of a copy of `/` and of all that is mounted below it, attached nowhere.

    It ends with the last descriptor of it and the last process whose root it is. Several processes
    can share one.

    :raises OSError: no such call (ENOSYS, before Linux 5.2), or no CAP_SYS_ADMIN (EPERM).
    """
    flags = _OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC
    made = int(
        _syscall(ctypes.c_long(_OPEN_TREE), ctypes.c_int(_AT_FDCWD), b"/", ctypes.c_uint(flags))
    )
    if made < 0:
        code = ctypes.get_errno()
        why = {errno.ENOSYS: "no open_tree (Linux 5.2)", errno.EPERM: "no CAP_SYS_ADMIN"}
        raise OSError(code, why.get(code, f"open_tree: {os.strerror(code)}"))
    return made


def enter(tree: int) -> None:
    """Make the copy the root of this process, of all its threads, and of those that it starts.

    The working directory stays the one of that name, in the copy.

    :raises OSError: no CAP_SYS_CHROOT (EPERM), or the working directory has no name in there;
        nothing has changed then.
    """
    before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        inside = os.open(
            os.getcwd().lstrip("/") or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=tree
        )
        try:
            os.fchdir(tree)
            try:
                os.chroot(".")
            except OSError as error:
                os.fchdir(before)
                if error.errno == errno.EPERM:
                    raise OSError(errno.EPERM, "no CAP_SYS_CHROOT") from error
                raise
            os.fchdir(inside)
        finally:
            os.close(inside)
    finally:
        os.close(before)
