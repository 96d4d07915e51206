"""io_uring without a library: what to import, and whether it can be used here.

`Ring` (uring_ring) maps the kernel's rings, `Burst` (uring_burst) sends frames through one. Must
not know batches, engines or protocols.

Sources: io_uring(7), io_uring_setup(2), io_uring_enter(2), io_uring_register(2).
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import ExitStack
from typing import Final

import numpy as np

from agent.linux import tap as taps
from agent.linux import uring_abi as abi
from agent.linux.uring_abi import Op, Register
from agent.linux.uring_burst import Burst
from agent.linux.uring_ring import Ring

__all__ = ["Burst", "Op", "Ring", "probe"]

_DONTWAIT: Final = int(socket.MSG_DONTWAIT)


def probe(*, tap: bool) -> tuple[bool, str]:
    """Whether this process may use io_uring as `Ring` does, on a TAP or else on a socket, and if
    not, why not.

    Makes a ring and reads what has nothing to be read, without waiting for it; leaves nothing and
    needs no rights. For a TAP it tries its device without an interface, whose answer tells whether
    such reads are known (RWF_NOWAIT, Linux 6.4); where that may not be opened, an eventfd alone.
    """
    operations = (Op.READ, Op.WRITE) if tap else (Op.RECV, Op.SEND)
    try:
        with Ring(2) as ring:
            known = _supported(ring)
            if missing := [operation.name for operation in operations if operation not in known]:
                return False, f"this kernel's io_uring has no {', '.join(missing)}"
            why_not = _try_tap(ring) if tap else _try_socket(ring)
    except NotImplementedError as error:
        return False, str(error)
    except OSError as error:
        return False, _explain(error)
    return not why_not, why_not


def _supported(ring: Ring) -> frozenset[int]:
    """Numbers of the operations that the kernel of `ring` knows (IORING_REGISTER_PROBE)."""
    probe_table = np.zeros(1, abi.PROBE)
    ring.register(Register.PROBE, probe_table.ctypes.data, 256)
    operations = probe_table["ops"][0]
    known = operations["flags"] & abi.OP_SUPPORTED != 0
    return frozenset(int(number) for number in operations["op"][known])


def _try_socket(ring: Ring) -> str:
    """Why a socket cannot be read without waiting, in words; empty if it can."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        return _found_nothing(_read(ring, Op.RECV, ours.fileno(), _DONTWAIT))


def _try_tap(ring: Ring) -> str:
    """Why a TAP cannot be read without waiting, in words; empty if it can."""
    with ExitStack() as stack:
        eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        stack.callback(os.close, eventfd)
        if why_not := _found_nothing(_read(ring, Op.READ, eventfd, abi.RWF_NOWAIT)):
            return why_not
        try:
            device = os.open(taps.TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:  # for the agent to say, when it opens its TAP
            return ""
        stack.callback(os.close, device)
        if _read(ring, Op.READ, device, abi.RWF_NOWAIT) == -errno.EOPNOTSUPP:
            return "this kernel cannot read a TAP without waiting (RWF_NOWAIT, Linux 6.4)"
    return ""


def _read(ring: Ring, operation: Op, fd: int, flags: int) -> int:
    """What a read by way of the ring comes to, at once: bytes, or below zero an error number."""
    memory = np.zeros(64, np.uint8)
    ring.sqes[0] = np.zeros((), abi.SQE)
    slot = ring.sqes[:1]
    slot["opcode"], slot["fd"], slot["rw_flags"] = operation, fd, flags
    slot["addr"], slot["len"] = memory.ctypes.data, memory.nbytes
    ring.queue(0, 1)
    ring.enter()
    done = ring.reap()["res"].tolist()
    if len(done) != 1:
        raise OSError(errno.EIO, "a read that shall not wait did not come back")
    return int(done[0])


def _found_nothing(result: int) -> str:
    if result == -errno.EAGAIN:
        return ""
    if result in (-errno.EOPNOTSUPP, -errno.EINVAL):
        return "this kernel's io_uring cannot read without waiting (RWF_NOWAIT)"
    return f"io_uring: a read of nothing gave {os.strerror(-result) if result < 0 else result}"


def _explain(error: OSError) -> str:
    if error.errno == errno.ENOSYS:
        return "this kernel has no io_uring"
    if error.errno == errno.EINVAL:
        return "this kernel's io_uring is too old (Linux 5.19)"
    if error.errno in (errno.EPERM, errno.EACCES):
        return "io_uring is forbidden here (sysctl kernel.io_uring_disabled, or a seccomp filter)"
    if error.errno in (errno.ENOMEM, errno.EAGAIN):
        return "io_uring needs more memory than allowed (RLIMIT_MEMLOCK)"
    return f"io_uring: {error}"
