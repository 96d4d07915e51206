"""What is mounted below a directory, and how it is taken off. Must not know whose it is.

Source: proc_pid_mountinfo(5), umount(2).
"""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path
from typing import Final

_MOUNT_POINT: Final = 4
"""Which field of a line names it."""
_MNT_DETACH: Final = 2
_UMOUNT_NOFOLLOW: Final = 8

_libc = ctypes.CDLL(None, use_errno=True)


def below(directory: Path) -> list[Path]:
    """Every mount point in `directory`, the deepest first; twice where two lie on each other."""
    root = os.fsencode(directory.resolve()) + b"/"
    found = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        # Blanks and line ends are octal escapes there.
        path = re.sub(
            rb"\\([0-7]{3})", lambda octal: bytes((int(octal[1], 8),)), line.split()[_MOUNT_POINT]
        )
        if path.startswith(root):
            found.append(path)
    return [Path(os.fsdecode(path)) for path in sorted(found, key=len, reverse=True)]


def detach_below(directory: Path) -> None:
    """Take off all that is mounted in `directory`; what it shows elsewhere is not touched.

    :raises OSError: the kernel refused.
    """
    for path in below(directory):
        flags = _MNT_DETACH | _UMOUNT_NOFOLLOW
        if _libc.umount2(os.fsencode(path), flags) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
