"""TAP devices: a descriptor that reads and writes whole Ethernet frames of an interface.

Source: the kernel's Documentation/networking/tuntap.rst. Must not know what the frames mean.
"""

from __future__ import annotations

import fcntl
import os
import struct
from typing import Final

TUN_DEVICE: Final = "/dev/net/tun"

_TUNSETIFF: Final = 0x400454CA
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000
_IFF_TUN_EXCL: Final = 0x8000


def open_tap(name: str | None = None, *, exclusive: bool = True) -> tuple[int, str]:
    """Make a TAP in this network namespace: its non-blocking descriptor and its name.

    With no `name` the kernel picks one (tap0, tap1, …). The device lives as long as the
    descriptor. One frame per read and per write, without any header in front. `exclusive`
    refuses a device that is there already.

    :raises FileNotFoundError: the kernel has no TUN/TAP, or /dev/net/tun is missing.
    :raises PermissionError: CAP_NET_ADMIN is lacking.
    :raises OSError: EBUSY: the name is taken.
    """
    fd = os.open(TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        flags = _IFF_TAP | _IFF_NO_PI | (_IFF_TUN_EXCL if exclusive else 0)
        request = struct.pack("16sH22x", (name or "tap%d").encode(), flags)
        answer = fcntl.ioctl(fd, _TUNSETIFF, request)
    except BaseException:
        os.close(fd)
        raise
    return fd, answer[:16].split(b"\0", 1)[0].decode()
