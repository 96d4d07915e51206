"""The numbers of all BPF programs and maps that the kernel holds, whoever made them (bpf(2))."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator
from typing import Final

_SYSCALL: Final = {"x86_64": 321, "aarch64": 280}[platform.machine()]
_NEXT: Final = {"program": 11, "map": 12}
"""BPF_PROG_GET_NEXT_ID and BPF_MAP_GET_NEXT_ID."""

_libc = ctypes.CDLL(None, use_errno=True)


def bpf_objects() -> set[str]:
    """Such as "program 12" and "map 3"."""
    return {f"{kind} {number}" for kind in _NEXT for number in _numbers(kind)}


def _numbers(kind: str) -> Iterator[int]:
    number = 0
    while True:
        attributes = ctypes.create_string_buffer(struct.pack("=III", number, 0, 0), 128)
        if _libc.syscall(_SYSCALL, _NEXT[kind], attributes, 12) != 0:
            if (code := ctypes.get_errno()) == errno.ENOENT:
                return
            raise OSError(code, f"the next {kind}: {os.strerror(code)}")
        number = struct.unpack_from("=I", attributes, 4)[0]
        yield number
