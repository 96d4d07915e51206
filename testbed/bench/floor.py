"""The floor: a small forwarder in C, compiled here if there is a compiler.

It makes the same system calls as `per-packet` and `mmsg` and rewrites the same bytes, and nothing
else, so that what an agent takes beyond it is the agent's own. Its descriptors are opened just as
an agent's. Must not know what is measured with it.
"""

from __future__ import annotations

import mmap
import os
import shutil
import socket
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path as FilePath
from types import TracebackType
from typing import Final, Self

from agent.linux import bpf, netif, packet, tap
from testbed.bench.ground import Ground, Read, Reading
from testbed.bench.rewrite import rewrite_of
from testbed.errors import Lacking, TestbedError
from testbed.kernel.netns import run_in
from testbed.measure import procstat
from testbed.traffic.paths import Path
from testbed.traffic.place import Surface

SOURCE: Final = "forward.c"
COMPILERS: Final = ("cc", "gcc", "clang")
_COUNTS: Final = struct.Struct("=6Q")
_COMPILE_S: Final = 60.0


class Compiled:
    """The forwarder's program in a directory of its own. Context manager; gone at its end."""

    def __init__(self) -> None:
        """Compile it.

        :raises Lacking: there is no compiler, or it cannot compile this.
        """
        compiler = next((found for one in COMPILERS if (found := shutil.which(one))), None)
        if compiler is None:
            raise Lacking("there is no C compiler for the floor", "apt-get install gcc libc6-dev")
        self._directory = tempfile.mkdtemp(prefix="testbed-floor-")
        try:
            self.program = FilePath(self._directory) / "forward"
            with resources.as_file(resources.files("testbed.bench") / SOURCE) as source:
                done = subprocess.run(
                    [compiler, "-O2", "-o", str(self.program), str(source)],
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=_COMPILE_S,
                )
            if done.returncode:
                said = " ".join(done.stderr.split())[:300]
                raise Lacking(
                    f"{compiler} cannot compile the floor ({said})",
                    "apt-get install gcc libc6-dev",
                )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove it; twice is fine."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@dataclass(frozen=True, kw_only=True, slots=True)
class Floor:
    """The forwarder with batches of up to `batch` frames."""

    compiled: Compiled
    batch: int

    @contextmanager
    def forwarding(self, ground: Ground, way: Path) -> Iterator[Read]:
        """Run it in the node's place, on the node's CPUs."""
        node = ground.node
        rewrite = rewrite_of(way, node=_packed(node.mac), upstream=_packed(ground.cast.rsu))
        with ExitStack() as stack:
            wire, tap_fd = run_in(node.netns, lambda: _open(node.radio, node.tap, ground.tap_mtu))
            stack.enter_context(wire)
            stack.callback(os.close, tap_fd)
            counts_fd = os.memfd_create("counts")
            stack.callback(os.close, counts_fd)
            os.ftruncate(counts_fd, mmap.PAGESIZE)
            counts = stack.enter_context(mmap.mmap(counts_fd, mmap.PAGESIZE))
            ends = {Surface.WIRE: f"s{wire.fileno()}", Surface.TAP: f"t{tap_fd}"}
            process = subprocess.Popen(
                [
                    str(self.compiled.program),
                    ends[rewrite.source],
                    ends[rewrite.sink],
                    str(self.batch),
                    str(rewrite.strip),
                    rewrite.match.hex() or "-",
                    rewrite.push.hex() or "-",
                    str(counts_fd),
                ],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(wire.fileno(), tap_fd, counts_fd),
            )
            stack.callback(_end, process)
            os.sched_setaffinity(process.pid, ground.node_cpus)
            calls = (
                ("recvmmsg" if rewrite.source is Surface.WIRE else "read"),
                ("sendmmsg" if rewrite.sink is Surface.WIRE else "write"),
                "poll",
            )

            def read(_: bool) -> Reading:
                if process.poll() is not None:
                    raise TestbedError(f"the floor has ended with status {process.returncode}")
                sample = procstat.sample(process.pid)
                numbers = _COUNTS.unpack_from(counts)
                return Reading(
                    cpu_ns=sample.cpu.total_ns,
                    run_delay_ns=sample.cpu.run_delay_ns,
                    switches=sample.switches.voluntary,
                    calls=dict(zip(calls, numbers[:3], strict=True)),
                    extra={"refused": numbers[5]},
                )

            yield read


def _open(radio: str, tap_name: str, tap_mtu: int) -> tuple[socket.socket, int]:
    """The node's packet socket, which waits when it is read, and its TAP, which does not."""
    tap_fd, _ = tap.open_tap(tap_name)
    try:
        # A TAP that says nothing of its own accord.
        netif.set_ipv6_option(tap_name, "disable_ipv6", 1)
        netif.set_mtu(tap_name, tap_mtu)
        netif.set_up(tap_name)
        wire = packet.open_packet_socket(radio, filter=bpf.own_or_group_filter())
    except BaseException:
        os.close(tap_fd)
        raise
    wire.setblocking(True)
    return wire, tap_fd


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def _packed(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
