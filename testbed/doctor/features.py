"""What of the kernel can be tried out, one function each: it does the thing, or raises.

Every function runs in a child of its own (`isolation.attempt`). Must not know who needs the
feature, nor how to get it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import socket
import struct
import tempfile
from pathlib import Path

from testbed.doctor import rtnetlink
from testbed.doctor.isolation import CLONE_NEWNET, Unavailable, checked, libc, mount, unshare

# Numbers of system calls without a wrapper in the C library; from 424 on all machines agree.
_NUMBERS = {
    "x86_64": {"perf_event_open": 298, "bpf": 321},
    "aarch64": {"perf_event_open": 241, "bpf": 280},
}
_IO_URING_SETUP = 425
_IO_URING_MIN_WAIT = 1 << 15

_MS_BIND = 4096
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_SO_ATTACH_FILTER = 26
_SOL_PACKET = 263
_PACKET_RX_RING, _PACKET_VERSION, _TPACKET_V3 = 5, 10, 2
_AF_XDP = 44
_BPF_MAP_CREATE, _BPF_MAP_TYPE_XSKMAP = 0, 17

_PERF_SOFTWARE, _PERF_TRACEPOINT = 1, 2
_TASK_CLOCK, _CONTEXT_SWITCHES = 1, 3
_PERF_ATTRIBUTE_BYTES = 112
_PERF_SET_FILTER = 0x40082406

TRACEFS = Path("/sys/kernel/tracing")


def network_namespace() -> str:
    """A network namespace, made and given a name by a bind mount as `ip netns` does."""
    with tempfile.NamedTemporaryFile() as name:
        unshare(CLONE_NEWNET)
        mount("/proc/self/ns/net", name.name, None, _MS_BIND)
        checked(libc().umount2(name.name.encode(), 0), "umount")
    return ""


def veth() -> str:
    rtnetlink.add_veth("tbt-a", "tbt-b")
    return ""


def tap() -> str:
    try:
        descriptor = os.open("/dev/net/tun", os.O_RDWR)
    except FileNotFoundError as error:
        raise Unavailable("there is no /dev/net/tun") from error
    with open(descriptor, "r+b", buffering=0):
        request = struct.pack("16sH22x", b"tbt-tap", _IFF_TAP | _IFF_NO_PI)
        fcntl.ioctl(descriptor, _TUNSETIFF, request)
    return ""


def mirror() -> str:
    """What the medium is made of: ingress, u32 and mirred, as tc(8) would set them."""
    rtnetlink.add_veth("tbt-a", "tbt-b")
    rtnetlink.add_veth("tbt-c", "tbt-d")
    try:
        rtnetlink.add_ingress("tbt-a")
    except OSError as error:
        raise Unavailable(f"sch_ingress: {error.strerror}") from error
    try:
        rtnetlink.add_mirror("tbt-a", "tbt-c")
    except OSError as error:
        raise Unavailable(f"cls_u32 or act_mirred: {error.strerror}") from error
    return ""


def netem() -> str:
    rtnetlink.add_veth("tbt-a", "tbt-b")
    try:
        rtnetlink.add_netem("tbt-a")
    except FileNotFoundError as error:
        raise Unavailable("this kernel has no sch_netem") from error
    return ""


def packet_socket() -> str:
    """An AF_PACKET socket with a filter in the kernel."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("lo", 0x3030))
        accept = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0xFFFFFFFF))
        program = struct.pack("HxxxxxxP", 1, ctypes.addressof(accept))
        raw.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    return ""


def mmsg() -> str:
    """recvmmsg(2) and sendmmsg(2): asked for no message at all, they still say ENOSYS."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right:
        flags = socket.MSG_DONTWAIT
        checked(libc().recvmmsg(left.fileno(), None, 0, flags, None), "recvmmsg")
        checked(libc().sendmmsg(left.fileno(), None, 0, flags), "sendmmsg")
    return ""


def io_uring() -> str:
    parameters = (ctypes.c_uint32 * 30)()
    try:
        descriptor = checked(libc().syscall(_IO_URING_SETUP, 4, parameters), "io_uring_setup")
    except PermissionError as error:
        raise Unavailable("switched off (kernel.io_uring_disabled, or seccomp)") from error
    os.close(descriptor)
    can_wait = bool(parameters[5] & _IO_URING_MIN_WAIT)
    return "with minimum wait time" if can_wait else "without minimum wait time"


def af_xdp() -> str:
    """A socket of the family, and the map that an XDP program finds it in."""
    with socket.socket(_AF_XDP, socket.SOCK_RAW):
        # union bpf_attr of BPF_MAP_CREATE: type, key size, value size, entries, flags.
        attribute = (ctypes.c_uint32 * 30)(_BPF_MAP_TYPE_XSKMAP, 4, 4, 1, 0)
        size = ctypes.sizeof(attribute)
        call = libc().syscall(_number("bpf"), _BPF_MAP_CREATE, attribute, size)
        os.close(checked(call, "bpf"))
    return ""


def tpacket_v3() -> str:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V3)
        # Block size, blocks, frame size, frames, block timeout in ms, private bytes, features.
        ring = struct.pack("=7I", 1 << 16, 4, 2048, 128, 1, 0, 0)
        raw.setsockopt(_SOL_PACKET, _PACKET_RX_RING, ring)
    return ""


def software_counters() -> str:
    """CPU time and context switches of a process, as perf_event_open(2) counts them."""
    for event in (_TASK_CLOCK, _CONTEXT_SWITCHES):
        os.close(_perf_event(_PERF_SOFTWARE, event))
    return ""


def syscall_counters() -> str:
    """System calls counted by number: a tracepoint counter with a filter in the kernel."""
    mounted = (TRACEFS / "events").is_dir()
    if not mounted:
        # Into the child's own mount namespace; whether it is mounted for all is not ours to change.
        mount("tracefs", str(TRACEFS), "tracefs")
    try:
        event = int((TRACEFS / "events/raw_syscalls/sys_enter/id").read_text())
    except FileNotFoundError as error:
        raise Unavailable("this kernel has no tracepoint raw_syscalls:sys_enter") from error
    descriptor = _perf_event(_PERF_TRACEPOINT, event)
    with open(descriptor, "rb", buffering=0) as counter:
        call = libc().ioctl(descriptor, ctypes.c_ulong(_PERF_SET_FILTER), b"id == 0")
        checked(call, "PERF_EVENT_IOC_SET_FILTER")
        counter.read(8)
    return "" if mounted else "tracefs is not mounted, but can be"


def _perf_event(kind: int, config: int) -> int:
    """A counter on this process, all CPUs, kernel included."""
    attribute = struct.pack("=IIQ", kind, _PERF_ATTRIBUTE_BYTES, config)
    attribute += b"\0" * (_PERF_ATTRIBUTE_BYTES - len(attribute))
    call = libc().syscall(_number("perf_event_open"), attribute, 0, -1, -1, 8)
    try:
        return checked(call, "perf_event_open")
    except PermissionError as error:
        level = Path("/proc/sys/kernel/perf_event_paranoid").read_text().strip()
        raise Unavailable(f"not allowed (kernel.perf_event_paranoid is {level})") from error


def _number(name: str) -> int:
    machine = platform.machine()
    try:
        return _NUMBERS[machine][name]
    except KeyError:
        raise OSError(errno.ENOSYS, f"number of {name} on {machine} unknown") from None
