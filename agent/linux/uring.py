"""io_uring without a library: what to import, and whether it can be used here.

`Ring` (uring_ring) maps the kernel's rings; `Stream`, `Burst` and `Watch` (uring_frames)
receive, send and wait for frames through one. Must not know batches, engines or protocols.

Sources: io_uring(7), io_uring_setup(2), io_uring_enter(2), io_uring_register(2).
"""

from __future__ import annotations

import errno

import numpy as np

from agent.linux import uring_abi as abi
from agent.linux.uring_abi import Feature, Op, Register, Setup
from agent.linux.uring_frames import Burst, Stream, Watch
from agent.linux.uring_ring import Completions, Ring, Submissions

__all__ = [
    "Burst",
    "Completions",
    "Feature",
    "Op",
    "Register",
    "Ring",
    "Setup",
    "Stream",
    "Submissions",
    "Watch",
    "probe",
    "supported_operations",
]


def supported_operations(ring: Ring) -> frozenset[int]:
    """Numbers of the operations that the kernel of `ring` knows (IORING_REGISTER_PROBE)."""
    probe_table = np.zeros(1, abi.PROBE)
    ring.register(Register.PROBE, probe_table.ctypes.data, 256)
    operations = probe_table["ops"][0]
    known = operations["flags"] & abi.OP_SUPPORTED != 0
    return frozenset(int(number) for number in operations["op"][known])


def probe() -> tuple[bool, str]:
    """Whether this process may use io_uring as `Ring` does, and if not, why not.

    Makes a ring, sends one no-operation through it and closes it; leaves nothing.
    """
    try:
        with Ring(2) as ring:
            known = supported_operations(ring)
            needed = (Op.READ_MULTISHOT, Op.WRITE, Op.SEND, Op.RECV)
            if missing := [operation.name for operation in needed if operation not in known]:
                return False, f"this kernel's io_uring lacks {', '.join(missing)} (Linux 6.7)"
            ring.sqes[0] = np.zeros((), abi.SQE)
            ring.sqes["user_data"][0] = 77
            ring.queue(0, 1)
            ring.enter(1)
            done = ring.reap()
            if len(done) != 1 or done["user_data"][0] != 77 or done["res"][0] != 0:
                return False, "a no-operation did not come back"
    except NotImplementedError as error:
        return False, str(error)
    except OSError as error:
        return False, _explain(error)
    return True, ""


def _explain(error: OSError) -> str:
    if error.errno == errno.ENOSYS:
        return "this kernel has no io_uring"
    if error.errno in (errno.EPERM, errno.EACCES):
        return "io_uring is forbidden here (sysctl kernel.io_uring_disabled, or a seccomp filter)"
    if error.errno in (errno.ENOMEM, errno.EAGAIN):
        return "io_uring needs more memory than allowed (RLIMIT_MEMLOCK)"
    return f"io_uring: {error}"
