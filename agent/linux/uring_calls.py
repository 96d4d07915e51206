"""The three system calls of io_uring, called as cheaply as Python can.

Sources: io_uring_setup(2), io_uring_enter(2), io_uring_register(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.linux import uring_abi as abi
from agent.linux.uring_abi import Register, Setup

# No argtypes: converting seven arguments through them costs more than the system call itself.
# So what is wider than an int is made beforehand, as a ctypes object.
syscall: Final = ctypes.CDLL(None, use_errno=True).syscall
syscall.restype = ctypes.c_long
NR_ENTER: Final = ctypes.c_long(abi.NR_ENTER)
NO_SIGMASK: Final = ctypes.c_void_p(0)
SIGMASK_SIZE: Final = ctypes.c_size_t(8)

_NR_SETUP: Final = ctypes.c_long(abi.NR_SETUP)
_NR_REGISTER: Final = ctypes.c_long(abi.NR_REGISTER)

_WANTED: Final = Setup.CQSIZE | Setup.SUBMIT_ALL
_BEST: Final = _WANTED | Setup.SINGLE_ISSUER | Setup.DEFER_TASKRUN
_COOPERATIVE: Final = _WANTED | Setup.COOP_TASKRUN | Setup.TASKRUN_FLAG

Params = npt.NDArray[np.void]


def _failed(what: str) -> OSError:
    error = ctypes.get_errno()
    return OSError(error, os.strerror(error), what)


def setup(entries: int, cq_entries: int, flags: Setup) -> tuple[int, Params]:
    """io_uring_setup(2): the descriptor and what the kernel filled in; OSError."""
    params = np.zeros(1, abi.PARAMS)
    params["flags"] = int(flags)
    params["cq_entries"] = cq_entries
    fd = syscall(_NR_SETUP, entries, ctypes.c_void_p(params.ctypes.data))
    if fd < 0:
        raise _failed("io_uring_setup")
    return int(fd), params


def setup_best(entries: int, cq_entries: int) -> tuple[int, Params, str]:
    """`setup` with the best flags that this kernel knows, and why not with better ones."""
    try:
        return *setup(entries, cq_entries, _BEST), ""
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    why = "kernel without IORING_SETUP_DEFER_TASKRUN (Linux 6.1)"
    return *setup(entries, cq_entries, _COOPERATIVE), why


def register(fd: int, opcode: Register, argument: int, count: int) -> int:
    """io_uring_register(2); `argument` is an address. OSError."""
    result = syscall(_NR_REGISTER, fd, int(opcode), ctypes.c_void_p(argument), count)
    if result < 0:
        raise _failed(f"io_uring_register {opcode.name}")
    return int(result)
