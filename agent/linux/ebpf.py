"""Loading a small eBPF program without a library: instructions, bpf(2), maps and links.

An assembler for the few instructions that a packet filter needs, and the four bpf(2) commands
that load it, give it a map and tie it to an interface. It knows nothing of packets.

Sources: bpf(2), Documentation/bpf/standardization/instruction-set.rst, linux/bpf.h. The numbers
of the system call are those of x86-64 and of the generic table (arm64, riscv64).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

_syscall: Final = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
_NR_BPF: Final = ctypes.c_long(321 if platform.machine() == "x86_64" else 280)

_MAP_CREATE: Final = 0
_MAP_UPDATE_ELEM: Final = 2
_PROG_LOAD: Final = 5
_ATTEMPTS: Final = 10
_LINK_CREATE: Final = 28

PROG_TYPE_XDP: Final = 6
MAP_TYPE_XSKMAP: Final = 17
ATTACH_XDP: Final = 37

_PSEUDO_MAP_FD: Final = 1
_LOG_BYTES: Final = 65536


class Instruction(NamedTuple):
    """One instruction; `target` names a label that `assemble` turns into the jump's offset."""

    code: int
    dst: int = 0
    src: int = 0
    offset: int = 0
    immediate: int = 0
    target: str = ""


class Label(NamedTuple):
    """A place to jump to: the next instruction."""

    name: str


# Widths of a load and a store.
BYTE: Final = 0x10
HALF: Final = 0x08
WORD: Final = 0x00


def load(width: int, dst: int, src: int, offset: int) -> Instruction:
    """dst = *(width *)(src + offset)"""
    return Instruction(0x61 | width, dst, src, offset)


def store(width: int, dst: int, src: int, offset: int) -> Instruction:
    """*(width *)(dst + offset) = src"""
    return Instruction(0x63 | width, dst, src, offset)


def move(dst: int, src: int) -> Instruction:
    """dst = src (64 bits)"""
    return Instruction(0xBF, dst, src)


def move_immediate(dst: int, value: int) -> Instruction:
    """dst = value (64 bits, sign extended)"""
    return Instruction(0xB7, dst, immediate=value)


def add_immediate(dst: int, value: int) -> Instruction:
    """dst += value (64 bits)"""
    return Instruction(0x07, dst, immediate=value)


def jump_above(dst: int, src: int, target: str) -> Instruction:
    """if dst > src (unsigned, 64 bits) goto target"""
    return Instruction(0x2D, dst, src, target=target)


def jump_equal(dst: int, value: int, target: str) -> Instruction:
    """if the low 32 bits of dst equal value goto target"""
    return Instruction(0x16, dst, immediate=_signed(value), target=target)


def jump_unequal(dst: int, value: int, target: str) -> Instruction:
    """if the low 32 bits of dst differ from value goto target"""
    return Instruction(0x56, dst, immediate=_signed(value), target=target)


def jump_set(dst: int, mask: int, target: str) -> Instruction:
    """if dst & mask goto target"""
    return Instruction(0x45, dst, immediate=_signed(mask), target=target)


def load_map(dst: int, map_fd: int) -> tuple[Instruction, Instruction]:
    """dst = the map behind this descriptor"""
    return Instruction(0x18, dst, _PSEUDO_MAP_FD, immediate=map_fd), Instruction(0x00)


def call(helper: int) -> Instruction:
    """r0 = helper(r1 … r5); those registers are lost"""
    return Instruction(0x85, immediate=helper)


def leave() -> Instruction:
    """return r0"""
    return Instruction(0x95)


def _signed(value: int) -> int:
    return value - (1 << 32) if value >= 1 << 31 else value


def assemble(program: Sequence[Instruction | Label]) -> bytes:
    """The program as the kernel takes it; KeyError for a jump to a label that is not there."""
    places: dict[str, int] = {}
    count = 0
    for item in program:
        if isinstance(item, Label):
            places[item.name] = count
        else:
            count += 1
    code = bytearray()
    for number, item in enumerate(i for i in program if isinstance(i, Instruction)):
        offset = places[item.target] - number - 1 if item.target else item.offset
        code += struct.pack("<BBhi", item.code, item.dst | item.src << 4, offset, item.immediate)
    return bytes(code)


def _bpf(command: int, attributes: bytes, what: str) -> int:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    # The verifier gives up where a signal is pending, and is to be asked again.
    error = errno.EAGAIN
    for _ in range(_ATTEMPTS):
        result = _syscall(_NR_BPF, command, buffer, len(attributes))
        if result >= 0:
            return int(result)
        error = ctypes.get_errno()
        if error != errno.EAGAIN:
            break
    raise OSError(error, os.strerror(error), what)


def create_map(map_type: int, *, key_bytes: int, value_bytes: int, entries: int) -> int:
    """Descriptor of a new map; OSError (EPERM without CAP_BPF)."""
    attributes = struct.pack("=IIIII", map_type, key_bytes, value_bytes, entries, 0)
    return _bpf(_MAP_CREATE, attributes, "bpf map")


def update_map(map_fd: int, key: int, value: int) -> None:
    """map[key] = value, both 32 bits; OSError."""
    key_memory, value_memory = ctypes.c_uint32(key), ctypes.c_uint32(value)
    attributes = struct.pack(
        "=IIQQQ", map_fd, 0, ctypes.addressof(key_memory), ctypes.addressof(value_memory), 0
    )
    _bpf(_MAP_UPDATE_ELEM, attributes, "bpf map element")


def load_program(program_type: int, code: bytes, *, licence: str = "Apache-2.0") -> int:
    """Descriptor of the verified program; OSError, with the verifier's last words in it."""
    memory = ctypes.create_string_buffer(code, len(code))
    licence_memory = ctypes.create_string_buffer(licence.encode())

    def attempt(log_address: int) -> int:
        attributes = struct.pack(
            "=IIQQIIQ",
            program_type,
            len(code) // 8,
            ctypes.addressof(memory),
            ctypes.addressof(licence_memory),
            1 if log_address else 0,
            _LOG_BYTES if log_address else 0,
            log_address,
        )
        return _bpf(_PROG_LOAD, attributes, "bpf program")

    try:
        return attempt(0)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EACCES):
            raise
    # Refused by the verifier: once more, now asking why.
    log = ctypes.create_string_buffer(_LOG_BYTES)
    try:
        return attempt(ctypes.addressof(log))
    except OSError as error:
        words = log.value.decode(errors="replace").strip().splitlines()[-4:]
        raise OSError(error.errno, f"{error.strerror}: {' / '.join(words)}") from error


def create_link(program_fd: int, ifindex: int, attach_type: int, flags: int) -> int:
    """Tie the program to an interface for as long as the returned descriptor is open.

    The kernel unties it when the last duplicate is closed, so also when the process dies.
    OSError: EBUSY where another program is attached, EOPNOTSUPP where the driver has no such mode.
    """
    attributes = struct.pack("=IIII", program_fd, ifindex, attach_type, flags)
    return _bpf(_LINK_CREATE, attributes, "bpf link")
