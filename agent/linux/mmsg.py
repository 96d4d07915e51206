"""recvmmsg(2) and sendmmsg(2) over tables that are built once.

One table holds the `mmsghdr` and `iovec` entries for the rows of one byte array, both as numpy
structured arrays, so that a whole batch of addresses and lengths is set or read in one operation
and frames are sent from where they were received. Must not know what the frames mean.
"""

from __future__ import annotations

import ctypes
import os
from errno import EINTR
from typing import Final

import numpy as np
import numpy.typing as npt

# struct iovec, struct msghdr and struct mmsghdr as the 64-bit kernel has them (socket.h, uio.h).
IOVEC: Final = np.dtype([("base", np.uint64), ("len", np.uint64)])
MMSGHDR: Final = np.dtype(
    {
        "names": [
            "name",
            "namelen",
            "iov",
            "iovlen",
            "control",
            "controllen",
            "flags",
            "msg_len",
        ],
        "formats": [
            np.uint64,
            np.uint32,
            np.uint64,
            np.uint64,
            np.uint64,
            np.uint64,
            np.int32,
            np.uint32,
        ],
        "offsets": [0, 8, 16, 24, 32, 40, 48, 56],
        "itemsize": 64,
    }
)

_libc = ctypes.CDLL(None, use_errno=True)
_recvmmsg = _libc.recvmmsg
_recvmmsg.argtypes = (
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_uint,
    ctypes.c_int,
    ctypes.c_void_p,
)
_recvmmsg.restype = ctypes.c_int
_sendmmsg = _libc.sendmmsg
_sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
_sendmmsg.restype = ctypes.c_int


def supported() -> str | None:
    """None where the tables fit this machine, else why not."""
    if ctypes.sizeof(ctypes.c_void_p) != 8:
        return "the tables are laid out for 64-bit kernels"
    return None


class MsgTable:
    """`capacity` message headers over the rows of `buffers`, shape (capacity, stride), uint8.

    The table keeps `buffers` alive and never copies it. Row i of `buffers` is entry i until
    somebody sets `iov_base` and `iov_len` (addresses and byte counts) otherwise. With
    `control_size` > 0 every entry also has that many bytes for control messages, in `control`.
    """

    __slots__ = (
        "_address",
        "_headers",
        "_iovecs",
        "buffers",
        "capacity",
        "control",
        "control_size",
        "controllen",
        "flags",
        "iov_base",
        "iov_len",
        "msg_len",
        "row_address",
    )

    def __init__(self, buffers: npt.NDArray[np.uint8], *, control_size: int = 0) -> None:
        if buffers.ndim != 2 or buffers.strides[1] != 1:
            raise ValueError("buffers must be two-dimensional with contiguous rows")
        capacity = buffers.shape[0]
        self.buffers = buffers
        self.capacity = capacity
        self.control_size = control_size
        self.control: npt.NDArray[np.uint8] = np.zeros((capacity, control_size), np.uint8)
        self._headers = np.zeros(capacity, MMSGHDR)
        self._iovecs = np.zeros(capacity, IOVEC)
        self._address = self._headers.ctypes.data
        rows = np.arange(capacity, dtype=np.uint64)
        self.row_address: npt.NDArray[np.uint64] = np.uint64(
            buffers.ctypes.data
        ) + rows * np.uint64(buffers.strides[0])
        """Memory address of each row of `buffers`."""
        self._headers["iov"] = np.uint64(self._iovecs.ctypes.data) + rows * np.uint64(
            IOVEC.itemsize
        )
        self._headers["iovlen"] = 1
        if control_size:
            self._headers["control"] = np.uint64(self.control.ctypes.data) + rows * np.uint64(
                control_size
            )
        self.iov_base: npt.NDArray[np.uint64] = self._iovecs["base"]
        self.iov_len: npt.NDArray[np.uint64] = self._iovecs["len"]
        self.msg_len: npt.NDArray[np.uint32] = self._headers["msg_len"]
        self.controllen: npt.NDArray[np.uint64] = self._headers["controllen"]
        self.flags: npt.NDArray[np.int32] = self._headers["flags"]
        self.reset_receive()

    def reset_receive(self, count: int | None = None, offset: int = 0) -> None:
        """Point the first `count` entries (all by default) at their rows, from byte `offset` on."""
        n = self.capacity if count is None else count
        np.add(self.row_address[:n], np.uint64(offset), out=self.iov_base[:n])
        self.iov_len[:n] = self.buffers.shape[1] - offset
        self.controllen[:n] = self.control_size

    def recv(self, fd: int, count: int, flags: int) -> int:
        """Receive up to `count` messages into entries 0…; lengths are then in `msg_len`.

        Without MSG_DONTWAIT or MSG_WAITFORONE in `flags` (and on a blocking socket) this waits
        for all `count`. An error after the first message is reported by the next call.

        :raises BlockingIOError: nothing is there.
        :raises OSError: what recvmmsg(2) reported.
        """
        if self.control_size:
            # The kernel leaves the length it used there.
            self.controllen[:count] = self.control_size
        while True:
            n: int = _recvmmsg(fd, self._address, count, flags, None)
            if n >= 0:
                return n
            number = ctypes.get_errno()
            if number != EINTR:
                raise OSError(number, os.strerror(number))

    def send(self, fd: int, first: int, count: int, flags: int) -> int:
        """Send entries `first` … `first + count - 1`; how many of them, from the first on, went.

        Fewer than `count` means that the entry after them failed, and that the next call that
        begins with it says why.

        :raises BlockingIOError: the socket's send buffer has no room.
        :raises OSError: what sendmmsg(2) reported for entry `first`.
        """
        while True:
            n: int = _sendmmsg(fd, self._address + first * 64, count, flags)
            if n >= 0:
                return n
            number = ctypes.get_errno()
            if number != EINTR:
                raise OSError(number, os.strerror(number))
