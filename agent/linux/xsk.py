"""AF_XDP without a library: what to import, and whether it can be used here.

`XskTransmit` (xsk_transmit) and `XskCycle` (xsk_cycle) own memory and rings, `Attachment` (xdp)
puts the program that feeds them on the interface. Must not know batches, engines or protocols.

Source: Documentation/networking/af_xdp.rst.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from agent.linux.ordering import strongly_ordered
from agent.linux.xdp import MODE_GENERIC, MODE_NATIVE, Attachment
from agent.linux.xsk_abi import AF_XDP
from agent.linux.xsk_base import RX_HEADROOM
from agent.linux.xsk_cycle import XskCycle
from agent.linux.xsk_transmit import XskTransmit

__all__ = [
    "MODE_GENERIC",
    "MODE_NATIVE",
    "RX_HEADROOM",
    "Attachment",
    "XskCycle",
    "XskTransmit",
    "attach",
    "probe",
    "probe_sending",
    "when_free",
]

_CLONE_NEWNET: Final = 0x40000000
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1
_RELEASE_S: Final = 2.0
"""The kernel gives a queue free some time after the end of the socket that had it."""

_Socket = TypeVar("_Socket")


def when_free(open_socket: Callable[[], _Socket]) -> _Socket:
    """What `open_socket` returns; tried again for a while if another still has the queue."""
    deadline = time.monotonic() + _RELEASE_S
    while True:
        try:
            return open_socket()
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.001)


def attach(ifindex: int, mac: bytes) -> tuple[Attachment, str]:
    """The program on the interface in the fastest mode that it has, and why not a faster one.

    Native XDP where the driver has it (veth has), else generic. OSError as `Attachment` has it.
    """
    try:
        return Attachment(ifindex, mac, mode=MODE_NATIVE), ""
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ERANGE):
            raise
        why = f"no native XDP here ({os.strerror(error.errno)}), generic XDP instead"
    return Attachment(ifindex, mac, mode=MODE_GENERIC), why


def probe() -> tuple[bool, str]:
    """Whether this process may use AF_XDP, and if not, why not.

    Really makes a socket and attaches the program, to the loopback interface of a network
    namespace of its own that lives as long as the attempt; leaves nothing. Without the right to
    make a namespace (CAP_SYS_ADMIN) everything but attaching is tried, on the one that is there.
    """
    outcome: list[tuple[bool, str]] = []

    def attempt() -> None:
        try:
            outcome.append(_try_all())
        except NotImplementedError as error:
            outcome.append((False, str(error)))
        except OSError as error:
            outcome.append((False, _explain(error)))

    # A thread of its own: unshare(2) moves only the thread that calls it.
    thread = threading.Thread(target=attempt, name="xsk-probe")
    thread.start()
    thread.join()
    return outcome[0]


def probe_sending() -> tuple[bool, str]:
    """Whether this process may have a socket to send by, and if not, why not.

    Whether frames can go that way is a matter of the interface too.
    """
    ordered, why = strongly_ordered()
    if not ordered:
        return False, why
    try:
        socket.socket(AF_XDP, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0).close()
    except OSError as error:
        return False, _explain(error)
    return True, ""


def _try_all() -> tuple[bool, str]:
    own = ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) == 0
    loopback = socket.if_nametoindex("lo")
    if own:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))
    cycle = XskCycle(loopback, slots=4, lent=0, chunk_bytes=2048)
    with cycle as xsk, contextlib.ExitStack() as stack:
        if own:
            attachment = Attachment(loopback, bytes(6), mode=MODE_GENERIC)
            stack.callback(attachment.close)
            attachment.feed(0, xsk.fileno())
    return True, ""


def _explain(error: OSError) -> str:
    if error.errno in (errno.EPERM, errno.EACCES):
        return f"AF_XDP needs CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF ({error.strerror})"
    if error.errno == errno.EAFNOSUPPORT:
        return "this kernel has no AF_XDP sockets (CONFIG_XDP_SOCKETS)"
    if error.errno == errno.ENOBUFS:
        return "AF_XDP needs more locked memory than allowed (RLIMIT_MEMLOCK)"
    return f"AF_XDP: {error}"
