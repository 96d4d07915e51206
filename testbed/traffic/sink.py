"""Counts what arrives: every sequence number of every stream, by the kernel's receive time.

The socket's buffer takes frames as they come, with the time the kernel stamped on them; the sink
empties it every millisecond, a few hundred frames to a call, so that receiving wakes nobody and
costs the generator on the same CPU little. Must not know which node or path is measured: it is
told what to expect.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
import time
from dataclasses import dataclass
from typing import Final

import numpy as np

from agent.linux import bpf, netif
from agent.linux.mmsg import MsgTable
from agent.linux.packet import ETHERTYPE, open_packet_socket, packet_statistics
from testbed.kernel.netns import run_in
from testbed.traffic import probe
from testbed.traffic.arrivals import CountFrom, Expectation, SinkResult
from testbed.traffic.count import Count
from testbed.traffic.errors import TrafficError
from testbed.traffic.inspection import Inspector
from testbed.traffic.place import Place, Surface

DEFAULT_BUFFER_BYTES: Final = (1 << 30) - 1
"""As much as the kernel gives: some 800 000 frames of 256 bytes. At 50 000 pps the generator leaves
less of their CPU than counting takes; what then waits is counted when the traffic is over."""
POLL_S: Final = 0.001
"""How often the socket is emptied."""
AT_ONCE: Final = 1 << 14
"""Frames after which emptying pauses to hear commands."""

_ROWS: Final = 256
_CONTROL_BYTES: Final = 64
_SO_TIMESTAMPNS: Final = 35
_CMSG_LEN: Final = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class SinkSpec:
    """Where to listen. `inner_at` is where the inner frame begins in what arrives there."""

    place: Place
    inner_at: int
    cpus: tuple[int, ...] | None
    buffer_bytes: int = DEFAULT_BUFFER_BYTES


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """What the sink got. Sizes in bytes."""

    buffer_bytes: int
    cpus: tuple[int, ...]


def probe_filter() -> bytes:
    """Lets IPv4 frames through that are test traffic by their source network or their port.

    Either suffices, so that a frame with one of the two damaged is still counted as damaged.
    """
    return bpf.assemble(
        [
            (bpf.LD_H_ABS, 0, 0, probe.SOURCE_NET_AT),
            (bpf.JEQ_K, 2, 0, probe.SOURCE_NET),
            (bpf.LD_H_ABS, 0, 0, probe.PORT_AT),
            (bpf.JEQ_K, 0, 1, probe.PORT),
            (bpf.RET_K, 0, 0, 0xFFFFFFFF),
            (bpf.RET_K, 0, 0, 0),
        ]
    )


def data_filter() -> bytes:
    """Lets data messages of the node protocol through."""
    return bpf.assemble(
        [
            (bpf.LD_B_ABS, 0, 0, 14),
            (bpf.JEQ_K, 0, 1, 1),
            (bpf.RET_K, 0, 0, 0xFFFFFFFF),
            (bpf.RET_K, 0, 0, 0),
        ]
    )


class Sink:
    """An AF_PACKET socket at one place, and the count of what it hears."""

    def __init__(self, spec: SinkSpec) -> None:
        """Open it; raises OSError if there is no such interface or no right to listen."""
        self._inner = spec.inner_at
        wire = spec.place.surface is Surface.WIRE

        def open_there() -> tuple[socket.socket, int]:
            sock = open_packet_socket(
                spec.place.ifname,
                protocol=ETHERTYPE if wire else 0x0800,
                filter=data_filter() if wire else probe_filter(),
                rcvbuf_bytes=spec.buffer_bytes,
            )
            # Older glibc and newer have the same 64-bit layout on 64-bit machines.
            sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            return sock, netif.mtu(spec.place.ifname)

        self._socket, mtu = run_in(spec.place.netns, open_there)
        self._fd = self._socket.fileno()
        self.buffer_bytes = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
        start = -spec.inner_at % 8
        stride = (start + mtu + 14 + 64) // 64 * 64
        rows = np.zeros((_ROWS, stride), np.uint8)
        self._table = MsgTable(rows, control_size=_CONTROL_BYTES)
        self._table.reset_receive(offset=start)
        self._control = self._table.control.view(np.int64)
        self._inspector = Inspector(rows, start=start, inner_at=spec.inner_at)
        self._count: Count | None = None
        self._drops = 0

    def arm(self, expected: Expectation) -> None:
        """Throw away what waits and begin to count; everything is warm-up until `count_from`.

        Frames stamped before now are stale: they belong to an earlier count.

        :raises ValueError: more streams than can be told apart.
        """
        self._inspector.expect(expected)
        self._count = None
        while self.drain() >= AT_ONCE:
            pass
        packet_statistics(self._socket)
        self._drops = 0
        self._count = Count(expected.streams, armed_ns=time.time_ns(), cpu_ns=_cpu_ns())

    def count_from(self, from_: CountFrom) -> None:
        """Which frames are the trial phase, and which of its steps."""
        count = self._counting()
        count.cut(from_.steps_ns)
        count.count_from_ns = from_.time_ns

    def drain(self) -> int:
        """Take what waits, `AT_ONCE` frames or a few more at most; how many that was."""
        taken = 0
        # Bounded, so that commands are heard while more comes in than can be taken out.
        while taken < AT_ONCE:
            try:
                n = self._table.recv(self._fd, _ROWS, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENETDOWN:  # told once when the interface goes down
                    raise
                continue
            taken += n
            if self._count is not None:
                self._take(self._count, n)
            if n < _ROWS:
                break
            # A generator of the same rank on the same CPU may have a frame due.
            os.sched_yield()
        if self._count is not None and taken:
            self._count.emptied(taken)
        return taken

    def quiet_for_ns(self) -> int:
        """Time since something last arrived."""
        return time.monotonic_ns() - self._counting().last_heard_ns

    def result(self, *, quiet: bool = True) -> SinkResult:
        """What has been counted since `arm`; counting goes on."""
        self._drops += packet_statistics(self._socket)[1]
        return self._counting().result(drops=self._drops, cpu_ns=_cpu_ns(), quiet=quiet)

    def disarm(self) -> None:
        """Count no longer; what arrives is thrown away."""
        self._count = None

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _counting(self) -> Count:
        if self._count is None:
            raise TrafficError("the sink was not told what to count")
        return self._count

    def _take(self, count: Count, n: int) -> None:
        """Count the first `n` frames of the table."""
        control = self._control[:n]
        # struct cmsghdr (length, level, type), then struct timespec.
        if not bool((control[:, 0] == _CMSG_LEN).all()):
            raise TrafficError("the kernel did not stamp the time of arrival on every frame")
        received = control[:, 2] * 1_000_000_000 + control[:, 3]
        lengths = self._table.msg_len[:n]
        inspector = self._inspector
        found = inspector.sort(lengths)
        if len(found.streams):
            good = found.good
            count.take(
                found.streams, inspector.sequence[good], inspector.sent[good], received[good]
            )
        if len(found.misaddressed):
            count.misaddressed(inspector.sent[found.misaddressed])
        # One by one: there are few of them, or the node is no good anyway.
        for row in found.broken.tolist():
            inner = inspector.inner(row, int(lengths[row]))
            count.broken(inner, int(received[row]), step=self._inner)


def _cpu_ns() -> int:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return round((usage.ru_utime + usage.ru_stime) * 1e9)
