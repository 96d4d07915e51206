"""What of the kernel can be tried out, one function each: it does the thing, or raises.

Every function runs in a child of its own (`isolation.attempt`). Must not know who needs the
feature, nor how to get it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import socket
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from agent.linux import landlock as agent_landlock
from agent.linux import mounttree, netif, packet, rights, tpacket, uring, xsk
from agent.linux import tap as agent_tap
from testbed.doctor import rtnetlink
from testbed.doctor.isolation import (
    CLONE_NEWNET,
    CLONE_NEWUSER,
    Unavailable,
    checked,
    libc,
    mount,
    unshare,
)
from testbed.errors import Lacking

_MS_BIND = 4096
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_SO_ATTACH_FILTER = 26
_PR_SET_NO_NEW_PRIVS = 38
_NOBODY = 65534


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


def writev() -> str:
    """The documented mechanism: two frames in one writev on a TAP, and what comes of them."""
    descriptor, name = agent_tap.open_tap("tbt-tap")
    with open(descriptor, "r+b", buffering=0):
        netif.set_up(name)
        frame = b"\xff" * 6 + netif.mac(name) + b"\x88\xb5" + bytes(46)
        with packet.open_packet_socket(name, protocol=0x88B5) as ear:
            deadline = time.monotonic() + 1
            while time.monotonic() < deadline:
                os.writev(descriptor, (frame, frame))
                # What is given to a device that has only just come up may be lost.
                if select.select([ear], [], [], 0.01)[0]:
                    if len(ear.recv(4096)) == len(frame):
                        raise Unavailable("the two frames of one writev came out apart")
                    return "two frames leave as one; never chosen by auto"
    raise Unavailable("nothing came out")


def io_uring() -> str:
    """As the engine `uring` has it."""
    return _of_agent(uring.probe(tap=True))


def packet_ring() -> str:
    """As the engine `ring` has it."""
    return _of_agent(tpacket.probe())


def af_xdp() -> str:
    """As the engine `xsk` has it: a socket, and a program that gives it its frames."""
    return _of_agent(xsk.probe())


def af_xdp_sending() -> str:
    """As the engine `xsk-tx` has it."""
    return _of_agent(xsk.probe_sending())


def _of_agent(found: tuple[bool, str]) -> str:
    available, why_not = found
    if not available:
        raise Unavailable(why_not)
    return ""


def real_time() -> str:
    """SCHED_FIFO, for this process alone."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    return ""


def software_counters() -> str:
    """CPU time and context switches, with the counters that `run` takes."""
    from testbed.measure.counters import SoftwareCounters

    with _refusal_in_words(), SoftwareCounters(os.getpid()) as counters:
        counters.start()
    return ""


def syscall_counters() -> str:
    """System calls, with the counters that `run` takes."""
    from testbed.measure.counters import SyscallCounters

    with _refusal_in_words(), SyscallCounters(os.getpid()) as counters:
        counters.start()
        return counters.method


@contextmanager
def _refusal_in_words() -> Iterator[None]:
    try:
        yield
    except Lacking as error:
        raise Unavailable(error.what) from error


def landlock() -> str:
    """Not only there: a child really gives up reaching a file."""
    try:
        confinement = agent_landlock.Confinement({})
    except OSError as error:
        raise Unavailable(str(error.strerror)) from error
    with confinement:
        checked(libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
        confinement.enter()
    try:
        os.listdir("/")
    except PermissionError:
        return f"version {confinement.version}"
    raise Unavailable("what was given up can still be reached")


def user_namespaces_refused() -> str:
    """A child gives up its rights as an agent does, and then tries to have them in a namespace."""
    tree = mounttree.copy()
    try:
        mounttree.enter(tree)
    finally:
        os.close(tree)
    rights.drop_all((_NOBODY, _NOBODY))
    try:
        unshare(CLONE_NEWUSER)
    except PermissionError:
        return ""
    raise Unavailable("one was made all the same")
