"""Memory shared with the kernel, as numpy arrays that cannot dangle.

Python's own ``mmap`` keeps a duplicate of the descriptor and refuses to close while an array
looks into it, so a ring would live for as long as somebody holds a view of it. Here `release`
gives the kernel its memory back at once, whoever still holds a view: the addresses are covered
with private zero pages, so that a late look reads zeros instead of killing the process, and they
are given back when the last view is gone.

Knows nothing of what is mapped.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from typing import Final

import numpy as np
import numpy.typing as npt

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)

_MAP_FAILED: Final = ctypes.c_void_p(-1).value
_MAP_FIXED: Final = 0x10
_READ_WRITE: Final = mmap.PROT_READ | mmap.PROT_WRITE


def _map(address: int | None, length: int, flags: int, fd: int, offset: int) -> int:
    result = _libc.mmap(address, length, _READ_WRITE, flags, fd, offset)
    if result == _MAP_FAILED or result is None:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), f"mmap of {length} bytes")
    return int(result)


class Mapping:
    """`length_bytes` of memory shared with the kernel (mmap(2)); raises OSError if refused.

    With `fd` None the memory is anonymous (zeroed, page aligned, shared over fork).
    """

    def __init__(self, length_bytes: int, *, fd: int | None = None, offset: int = 0) -> None:
        if fd is None:
            flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS
        else:
            # Populated at once: the first packet should not pay for page faults.
            flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
        self.length_bytes = length_bytes
        self.address = _map(None, length_bytes, flags, -1 if fd is None else fd, offset)
        memory = (ctypes.c_uint8 * length_bytes).from_address(self.address)
        # Every view holds `memory`; the addresses go back only when nobody looks any more.
        last_look = weakref.finalize(memory, _libc.munmap, self.address, length_bytes)
        last_look.atexit = False  # at the end of the process the kernel does it, after all others
        self._view = memoryview(memory).cast("B")
        self.released = False

    def bytes(self, offset: int = 0, length: int | None = None) -> npt.NDArray[np.uint8]:
        """The memory as bytes, from `offset` on."""
        count = self.length_bytes - offset if length is None else length
        return np.frombuffer(self._view, np.uint8, count, offset)

    def array(self, dtype: npt.DTypeLike, count: int, offset: int = 0) -> npt.NDArray[np.void]:
        """`count` elements of `dtype` from byte `offset` on."""
        array: npt.NDArray[np.void] = np.frombuffer(self._view, dtype, count, offset)
        return array

    def word(self, offset: int) -> memoryview:
        """One aligned unsigned 32-bit word at `offset`, read and written as ``view[0]``."""
        return self._view[offset : offset + 4].cast("I")

    def release(self) -> None:
        """Give the memory back to the kernel; views read zeros from now on. Twice is fine."""
        if self.released:
            return
        self.released = True
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED
        _map(self.address, self.length_bytes, flags, -1, 0)
