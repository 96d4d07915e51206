"""The physical limit: frames forwarded by an XDP program, without any process.

The program makes the same change to a frame as a node does (`rewrite`) and passes it on to the
interface where it leaves, inside the kernel. On the two ways through a TAP a veth stands in the
TAP's place: a TAP's frames go to a process, by what a TAP is. Must not know what is measured.

Each interface that frames leave through needs an XDP program at its other end: a veth takes frames
from XDP only there (Documentation/networking, veth's ndo_xdp_xmit). Those let everything pass.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from errno import EBUSY
from pathlib import Path as FilePath
from typing import Final

from agent.linux import ebpf, netif
from agent.linux.ebpf import Instruction, Label
from agent.linux.xdp import MODE_NATIVE
from testbed.bench.ground import Ground, Read, Reading
from testbed.bench.rewrite import MATCH_AT, Rewrite, rewrite_of
from testbed.errors import Lacking
from testbed.kernel.netlink import Kernel, remove_link
from testbed.kernel.netns import run_in
from testbed.measure import procstat
from testbed.traffic.paths import Path
from testbed.traffic.place import Surface

BEHIND: Final = "tap0-behind"
"""The other end of the veth in the TAP's place."""
_MACS: Final = ("02:7b:54:00:00:01", "02:7b:54:00:00:02")

_DROP, _PASS, _TX = 1, 2, 3
_REDIRECT, _ADJUST_HEAD = 23, 44
_DATA, _DATA_END = 0, 4  # struct xdp_md
_ETHERNET: Final = 14
_RELEASE_S: Final = 2.0


def program(rewrite: Rewrite, *, out_ifindex: int | None) -> bytes:
    """The instructions that rewrite a frame and send it out at `out_ifindex`, None: where it came.

    A frame that is not to be forwarded goes on to the network stack.
    """
    context, data, end, probe, value = 6, 2, 3, 4, 5
    code: list[Instruction | Label] = [ebpf.move(context, 1)]

    def look(size: int, otherwise: str) -> Sequence[Instruction]:
        """Data in registers, and `size` bytes of it known to be there."""
        return (
            ebpf.load(ebpf.WORD, data, context, _DATA),
            ebpf.load(ebpf.WORD, end, context, _DATA_END),
            ebpf.move(probe, data),
            ebpf.add_immediate(probe, size),
            ebpf.jump_above(probe, end, otherwise),
        )

    code += look(max(_ETHERNET, rewrite.strip, MATCH_AT + len(rewrite.match)), "pass")
    if rewrite.match:
        assert len(rewrite.match) == 4
        code += [
            ebpf.load(ebpf.WORD, value, data, MATCH_AT),
            ebpf.jump_unequal(value, int.from_bytes(rewrite.match, sys.byteorder), "pass"),
        ]
    shorter = rewrite.strip - len(rewrite.push)
    if shorter:
        code += [
            ebpf.move(1, context),
            ebpf.move_immediate(2, shorter),
            ebpf.call(_ADJUST_HEAD),
            ebpf.jump_unequal(0, 0, "drop"),
        ]
    if rewrite.push:
        code += look(len(rewrite.push), "drop")
        for width, number, offset in _stores(rewrite.push):
            code += [ebpf.move_immediate(value, number), ebpf.store(width, data, value, offset)]
    if out_ifindex is None:
        code += [ebpf.move_immediate(0, _TX), ebpf.leave()]
    else:
        code += [
            ebpf.move_immediate(1, out_ifindex),
            ebpf.move_immediate(2, 0),
            ebpf.call(_REDIRECT),
            ebpf.leave(),
        ]
    code += [
        Label("pass"),
        ebpf.move_immediate(0, _PASS),
        ebpf.leave(),
        Label("drop"),
        ebpf.move_immediate(0, _DROP),
        ebpf.leave(),
    ]
    return ebpf.assemble(code)


def passing() -> bytes:
    """The instructions that let every frame pass."""
    return ebpf.assemble([ebpf.move_immediate(0, _PASS), ebpf.leave()])


def _stores(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Stores that write these bytes: width, number, offset."""
    at = 0
    for width, size in ((ebpf.WORD, 4), (ebpf.HALF, 2), (ebpf.BYTE, 1)):
        while len(data) - at >= size:
            yield width, int.from_bytes(data[at : at + size], sys.byteorder, signed=True), at
            at += size


@dataclass(frozen=True, kw_only=True, slots=True)
class InKernel:
    """The XDP program in the node's place, worked by a thread of the kernel on the node's CPU.

    Where the kernel does not give it such a thread it works on the CPU of whoever sends, and what
    it costs cannot be told.
    """

    @contextmanager
    def forwarding(self, ground: Ground, way: Path) -> Iterator[Read]:
        """:raises Lacking: this kernel, or these rights, cannot do XDP on a veth."""
        node = ground.node
        rewrite = rewrite_of(way, node=_packed(node.mac), upstream=_packed(ground.cast.rsu))
        enters = node.radio if rewrite.source is Surface.WIRE else BEHIND
        leaves = node.radio if rewrite.sink is Surface.WIRE else BEHIND
        far = (
            (ground.peer.netns, ground.peer.ifname)
            if rewrite.sink is Surface.WIRE
            else (node.netns, node.tap)
        )
        with ExitStack() as stack:
            with Kernel() as kernel:
                kernel.make_veth(
                    (node.netns, node.tap, _MACS[0]),
                    (node.netns, BEHIND, _MACS[1]),
                    mtu=ground.tap_mtu,
                )
            stack.callback(remove_link, node.netns, BEHIND)
            run_in(node.netns, lambda: _bring_up(node.tap, BEHIND))
            out = None
            if leaves != enters:
                out = run_in(node.netns, lambda: netif.index(leaves))
            stack.callback(_attach(*far, passing()))
            stack.callback(_attach(node.netns, enters, program(rewrite, out_ifindex=out)))
            thread = _napi_thread(node.netns, enters)
            stack.callback(_set_threaded, node.netns, enters, False)
            if thread is not None:
                os.sched_setaffinity(thread, ground.node_cpus)

            def read(_: bool) -> Reading:
                if thread is None:
                    return Reading(calls={})
                used = procstat.cpu_time(thread)
                return Reading(cpu_ns=used.total_ns, run_delay_ns=used.run_delay_ns, calls={})

            yield read


def _bring_up(*names: str) -> None:
    for name in names:
        with suppress(FileNotFoundError):  # a kernel without IPv6
            netif.set_ipv6_option(name, "disable_ipv6", 1)
        netif.set_up(name)


def _attach(netns: str, ifname: str, code: bytes) -> _Attached:
    def attach() -> _Attached:
        loaded = ebpf.load_program(ebpf.PROG_TYPE_XDP, code)
        try:
            deadline = time.monotonic() + _RELEASE_S
            while True:
                try:
                    link = ebpf.create_link(
                        loaded, netif.index(ifname), ebpf.ATTACH_XDP, MODE_NATIVE
                    )
                except OSError as error:
                    # An engine that was here before lets go of the interface some time later.
                    if error.errno != EBUSY or time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)
                else:
                    return _Attached(link)
        finally:
            os.close(loaded)

    try:
        return run_in(netns, attach)
    except OSError as error:
        raise Lacking(
            f"no XDP on a veth: {error.strerror or error}", "CAP_BPF, and a kernel with XDP"
        ) from error


class _Attached:
    """A program tied to an interface; untied when called."""

    def __init__(self, link: int) -> None:
        self._link = link

    def __call__(self) -> None:
        os.close(self._link)


def _napi_thread(netns: str, ifname: str) -> int | None:
    """Have a thread of the kernel take in what comes at the interface; its process id.

    None where the kernel has no such threads, or does not show them here.
    """
    before = _napi_threads()
    if not _set_threaded(netns, ifname, True):
        return None
    made = _napi_threads() - before
    return made.pop() if len(made) == 1 else None


def _set_threaded(netns: str, ifname: str, wanted: bool) -> bool:
    """Whether threads of the kernel serve the interface, from now on; False if it cannot be set.

    Only possible while the interface has a receive queue, as a veth has with an XDP program on it.
    """
    try:
        done = subprocess.run(
            ["ip", "netns", "exec", netns, "tee", f"/sys/class/net/{ifname}/threaded"],
            input=b"1" if wanted else b"0",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except FileNotFoundError:
        return False
    return done.returncode == 0


def _napi_threads() -> set[int]:
    """The process ids of all such threads that are to be seen here."""
    found = set()
    for entry in FilePath("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if (entry / "comm").read_text().startswith("napi/"):
                    found.add(int(entry.name))
    return found


def _packed(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
