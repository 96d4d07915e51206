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
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.linux import bpf, netif
from agent.linux.mmsg import MsgTable
from agent.linux.packet import ETHERTYPE, open_packet_socket, packet_statistics
from testbed.measure.latency import Histogram, LatencyRecorder
from testbed.netns import run_in
from testbed.traffic import probe
from testbed.traffic.errors import TrafficError
from testbed.traffic.place import Place, Surface
from testbed.traffic.sequence import Accountant, StreamCounts

DEFAULT_BUFFER_BYTES: Final = 64 << 20
POLL_S: Final = 0.001
"""How often the socket is emptied."""
AT_ONCE: Final = 1 << 14
"""Frames after which emptying pauses to hear commands."""

WARM_UP: Final = 0
TRIAL: Final = 1

_ROWS: Final = 256
_HELD: Final = 4096
_CONTROL_BYTES: Final = 64
_SO_TIMESTAMPNS: Final = 35
_CMSG_LEN: Final = 32
_MAX_STREAMS: Final = 1 << 14
_NEVER_NS: Final = (1 << 63) - 1

Bytes2D = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class SinkSpec:
    """Where to listen. `inner_at` is where the inner frame begins in what arrives there."""

    place: Place
    inner_at: int
    cpus: tuple[int, ...] | None
    buffer_bytes: int = DEFAULT_BUFFER_BYTES


@dataclass(frozen=True, kw_only=True, slots=True)
class Expectation:
    """What should arrive: flows 0 … `flows` - 1, each at every receiver.

    Stream = flow * receivers + receiver. On the wire a stream's frames begin with its entry of
    `headers`, where `mask` has a one bit; receivers are told apart by the destination in the
    header, so with several of them those must differ in their last two bytes.
    """

    flows: int
    receivers: int = 1
    headers: tuple[bytes, ...] = ()
    mask: bytes = b""

    @property
    def streams(self) -> int:
        return self.flows * self.receivers


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """What the sink got. Sizes in bytes."""

    buffer_bytes: int
    cpus: tuple[int, ...]
    scheduling: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Damage:
    """Test frames that arrived otherwise than they were sent.

    `tailed` carried other bytes behind an intact frame, among them `swallowed` whole test frames;
    `truncated` were cut; `damaged` had the right length and wrong bytes; `misaddressed` were
    intact but not headed as expected.
    """

    tailed: int = 0
    swallowed: int = 0
    truncated: int = 0
    damaged: int = 0
    misaddressed: int = 0

    @property
    def corrupted(self) -> int:
        """Frames whose content did not arrive as it was sent."""
        return self.tailed + self.truncated + self.damaged


@dataclass(frozen=True, kw_only=True, slots=True)
class SinkResult:
    """What was counted; (warm-up, trial) where there are two.

    `stale` frames were sent before the sink was told to count. `other` is what is no test traffic
    at all. `drops` did not fit the socket's buffer: the sink could not see them. `latency` is of
    the trial phase alone, first copies only.
    """

    streams: tuple[tuple[StreamCounts, ...], tuple[StreamCounts, ...]]
    damage: tuple[Damage, Damage]
    latency: Histogram
    drops: int
    stale: int
    other: int
    first_ns: int | None
    last_ns: int | None
    """Kernel receive times of the first and the last counted frame of the trial phase."""
    fullest: int
    """Most frames ever found waiting at one emptying."""
    cpu_ns: int
    elapsed_ns: int
    quiet: bool
    """Whether nothing came any more when it stopped."""

    def total(self, phase: int | None = None) -> StreamCounts:
        """Sums over all streams of one phase or of both."""
        chosen = self.streams if phase is None else (self.streams[phase],)
        every = [counts for streams in chosen for counts in streams]
        return StreamCounts(
            delivered=sum(c.delivered for c in every),
            duplicated=sum(c.duplicated for c in every),
            reordered=sum(c.reordered for c in every),
        )


@dataclass(slots=True)
class _Run:
    """The state of one count."""

    accountant: Accountant
    armed_ns: int
    count_from_ns: int = _NEVER_NS
    latency: LatencyRecorder = field(default_factory=LatencyRecorder)
    damage: list[dict[str, int]] = field(default_factory=lambda: [{}, {}])
    stale: int = 0
    other: int = 0
    drops: int = 0
    first_ns: int | None = None
    last_ns: int | None = None
    fullest: int = 0
    cpu_ns: int = 0
    started_ns: int = 0
    last_heard_ns: int = 0


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
        self._start = -spec.inner_at % 8
        stride = (self._start + mtu + 14 + 64) // 64 * 64
        self._rows: Bytes2D = np.zeros((_ROWS, stride), np.uint8)
        self._table = MsgTable(self._rows, control_size=_CONTROL_BYTES)
        self._table.reset_receive(offset=self._start)
        self._frames = self._rows[:, self._start :]
        self._control = self._table.control.view(np.int64)
        at = self._inner
        stamps = self._frames[:, at + probe.SEQUENCE_AT : at + probe.CHECK_AT].view(">u8")
        self._sequence_of = stamps[:, 0]
        self._time_of = stamps[:, 1]
        # Compared as they lie in memory: swapping the other side of the comparison is cheaper.
        self._check_of = self._view(probe.CHECK_AT, "=u4")
        self._ip_length_of = self._view(probe.IP_LENGTH_AT, "=u2")
        self._flow_of = self._view(probe.FLOW_AT, ">u2")
        self._held_stream: Ints = np.zeros(_HELD, np.int64)
        self._held_sequence: Ints = np.zeros(_HELD, np.int64)
        self._held_sent: Ints = np.zeros(_HELD, np.int64)
        self._held_received: Ints = np.zeros(_HELD, np.int64)
        self._held = 0
        self._expected = Expectation(flows=0)
        self._head_words = self._rows[:, : self._start + at].view(np.uint64)
        self._headers: npt.NDArray[np.uint64] = np.zeros((0, 0), np.uint64)
        self._mask: npt.NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._receiver_of: npt.NDArray[np.int64] | None = None
        self._run: _Run | None = None

    def _view(self, offset: int, kind: str) -> npt.NDArray[np.integer]:
        at = self._inner + offset
        columns = self._frames[:, at : at + np.dtype(kind).itemsize]
        view: npt.NDArray[np.integer] = columns.view(kind)[:, 0]
        return view

    def arm(self, expected: Expectation) -> None:
        """Throw away what waits and begin to count; everything is warm-up until `count_from`.

        Frames stamped before now are stale: they belong to an earlier count.

        :raises ValueError: more streams than can be told apart.
        """
        if not 0 < expected.streams <= _MAX_STREAMS:
            raise ValueError(f"1 to {_MAX_STREAMS} streams can be counted")
        self._expect(expected)
        self._throw_away()
        packet_statistics(self._socket)
        now = time.monotonic_ns()
        self._run = _Run(
            accountant=Accountant(streams=expected.streams),
            armed_ns=time.time_ns(),
            cpu_ns=_cpu_ns(),
            started_ns=now,
            last_heard_ns=now,
        )
        self._held = 0

    def count_from(self, time_ns: int) -> None:
        """Frames stamped from `time_ns` (CLOCK_REALTIME) on are the trial phase."""
        self._counting().count_from_ns = time_ns

    def drain(self) -> int:
        """Take what waits, `AT_ONCE` frames or a few more at most; how many that was."""
        run = self._run
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
            if run is not None:
                self._take(run, n)
            if n < _ROWS:
                break
            # A generator of the same rank on the same CPU may have a frame due.
            os.sched_yield()
        if run is not None and taken:
            self._settle(run)
            run.last_heard_ns = time.monotonic_ns()
            run.fullest = max(run.fullest, taken)
        return taken

    def quiet_for_ns(self) -> int:
        """Time since something last arrived."""
        return time.monotonic_ns() - self._counting().last_heard_ns

    def result(self, *, quiet: bool = True) -> SinkResult:
        """What has been counted since `arm`; counting goes on."""
        run = self._counting()
        run.drops += packet_statistics(self._socket)[1]
        return SinkResult(
            streams=(run.accountant.counts(WARM_UP), run.accountant.counts(TRIAL)),
            damage=(Damage(**run.damage[WARM_UP]), Damage(**run.damage[TRIAL])),
            latency=run.latency.histogram(),
            drops=run.drops,
            stale=run.stale,
            other=run.other,
            first_ns=run.first_ns,
            last_ns=run.last_ns,
            fullest=run.fullest,
            cpu_ns=_cpu_ns() - run.cpu_ns,
            elapsed_ns=time.monotonic_ns() - run.started_ns,
            quiet=quiet,
        )

    def disarm(self) -> None:
        """Count no longer; what arrives is thrown away."""
        self._run = None

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _counting(self) -> _Run:
        if self._run is None:
            raise TrafficError("the sink was not told what to count")
        return self._run

    def _expect(self, expected: Expectation) -> None:
        self._expected = expected
        self._receiver_of = None
        if not self._inner:
            return
        if len(expected.headers) != expected.streams or len(expected.mask) != self._inner:
            raise ValueError("every stream on the wire needs a header")
        # As words, with the unused bytes in front of the frame masked out.
        front = bytes(self._start)
        self._mask = np.frombuffer(front + expected.mask, np.uint64)
        joined = b"".join(front + header for header in expected.headers)
        self._headers = np.frombuffer(joined, np.uint64).reshape(expected.streams, -1)
        if expected.receivers > 1:
            table = np.full(1 << 16, -1, np.int64)
            for receiver, header in enumerate(expected.headers[: expected.receivers]):
                ending = int.from_bytes(header[4:6], "big")
                if table[ending] >= 0:
                    raise ValueError("receivers must differ in the last two bytes of their MAC")
                table[ending] = receiver
            self._receiver_of = table

    def _throw_away(self) -> None:
        run, self._run = self._run, None
        while self.drain() >= AT_ONCE:
            pass
        self._run = run

    def _take(self, run: _Run, n: int) -> None:
        """Sort one table of frames: intact ones are held for `_settle`, others counted at once."""
        good = self._intact(n)
        flow = self._flow_of[:n].astype(np.int64)
        good &= flow < self._expected.flows
        chosen: slice | Ints = slice(0, n)
        if not bool(good.all()):
            self._examine(run, np.flatnonzero(~good).tolist())
            chosen = np.flatnonzero(good)
            flow = flow[chosen]
        stream = flow
        if self._inner and len(flow):
            stream = self._stream_on_wire(chosen, flow)
            headed = self._headed(chosen, stream)
            if not bool(headed.all()):
                places = np.arange(n)[chosen]
                self._count_by_time(run, "misaddressed", self._time_of[places[~headed]])
                chosen, stream = places[headed], stream[headed]
        if len(stream):
            self._hold(run, chosen, stream)

    def _intact(self, n: int) -> npt.NDArray[np.bool_]:
        """Which of the first `n` frames are test frames as they were sent."""
        lengths = self._table.msg_len[:n]
        first = int(lengths[0])
        if bool((lengths == first).all()):
            return self._intact_of_length(slice(0, n), n, first)
        good = np.zeros(n, np.bool_)
        for length in np.unique(lengths).tolist():
            rows = np.flatnonzero(lengths == length)
            good[rows] = self._intact_of_length(rows, len(rows), length)
        return good

    def _intact_of_length(
        self, rows: slice | Ints, count: int, length: int
    ) -> npt.NDArray[np.bool_]:
        inner_bytes = length - self._inner
        if inner_bytes < probe.MIN_FRAME_BYTES or length > self._frames.shape[1]:
            return np.zeros(count, np.bool_)
        inner = self._frames[rows, self._inner : length]
        good: npt.NDArray[np.bool_] = (
            probe.checks(inner, inner_bytes).astype(">u4").view("=u4") == self._check_of[rows]
        )
        good &= self._ip_length_of[rows] == socket.htons(inner_bytes - 14)
        return good

    def _headed(self, chosen: slice | Ints, stream: Ints) -> npt.NDArray[np.bool_]:
        """Which frames have the header that their stream should have; word by word, not byte."""
        known = np.maximum(stream, 0)
        one = len(self._headers) == 1
        wrong = np.zeros(len(stream), np.uint64)
        for word, mask in enumerate(self._mask.tolist()):
            if mask:
                wanted = self._headers[0, word] if one else self._headers[known, word]
                wrong |= (self._head_words[chosen, word] ^ wanted) & np.uint64(mask)
        right: npt.NDArray[np.bool_] = (wrong == 0) & (stream >= 0)
        return right

    def _stream_on_wire(self, chosen: slice | Ints, flow: Ints) -> Ints:
        """The stream of each frame; below 0 for a receiver that nobody expects."""
        if self._receiver_of is None:
            return flow
        ends = self._frames[chosen, 4:6].astype(np.int64)
        receiver = self._receiver_of[ends[:, 0] << 8 | ends[:, 1]]
        return np.where(receiver < 0, -1, flow * self._expected.receivers + receiver)

    def _hold(self, run: _Run, chosen: slice | Ints, stream: Ints) -> None:
        count = len(stream)
        if self._held + count > _HELD:
            self._settle(run)
        end = self._held + count
        into = slice(self._held, end)
        self._held_stream[into] = stream
        self._held_sequence[into] = self._sequence_of[chosen]
        self._held_sent[into] = self._time_of[chosen]
        control = self._control[chosen]
        # struct cmsghdr (length, level, type), then struct timespec.
        if not bool((control[:, 0] == _CMSG_LEN).all()):
            raise TrafficError("the kernel did not stamp the time of arrival on every frame")
        np.multiply(control[:, 2], 1_000_000_000, out=self._held_received[into])
        self._held_received[into] += control[:, 3]
        self._held = end

    def _settle(self, run: _Run) -> None:
        """Account for what is held, in order of arrival."""
        if not self._held:
            return
        stream = self._held_stream[: self._held]
        sequence = self._held_sequence[: self._held]
        sent = self._held_sent[: self._held]
        received = self._held_received[: self._held]
        self._held = 0
        if int(sent.min()) < run.armed_ns:
            fresh = sent >= run.armed_ns
            run.stale += len(sent) - int(fresh.sum())
            stream, sequence, sent, received = (
                stream[fresh], sequence[fresh], sent[fresh], received[fresh]
            )  # fmt: skip
        counted = sent >= run.count_from_ns
        first_copy = run.accountant.add(stream, sequence, counted.astype(np.int64))
        wanted = counted & first_copy
        if not bool(wanted.all()):
            sent, received = sent[wanted], received[wanted]
        if len(sent):
            run.latency.add(received - sent)
            if run.first_ns is None:
                run.first_ns = int(received[0])
            run.last_ns = int(received[-1])

    def _examine(self, run: _Run, rows: list[int]) -> None:
        """Look at frames that are no intact test frames, one by one: they are few, or lost."""
        for row in rows:
            length = min(int(self._table.msg_len[row]), self._frames.shape[1])
            frame = self._frames[row, self._inner : length].tobytes()
            kind, swallowed = what_is_wrong(frame, step=self._inner)
            if kind is None:
                run.other += 1
                continue
            # The stamp in a broken frame cannot be trusted, the kernel's can.
            received = int(self._control[row, 2]) * 1_000_000_000 + int(self._control[row, 3])
            phase = run.damage[TRIAL if received >= run.count_from_ns else WARM_UP]
            phase[kind] = phase.get(kind, 0) + 1
            phase["swallowed"] = phase.get("swallowed", 0) + swallowed

    def _count_by_time(self, run: _Run, kind: str, sent: npt.NDArray[np.integer]) -> None:
        for phase, number in (
            (TRIAL, int((sent >= run.count_from_ns).sum())),
            (WARM_UP, int((sent < run.count_from_ns).sum())),
        ):
            run.damage[phase][kind] = run.damage[phase].get(kind, 0) + number


def what_is_wrong(frame: bytes, *, step: int) -> tuple[str | None, int]:
    """Which sort of damage an inner frame has, and how many whole test frames hang on its tail.

    None for what is no test traffic. `step` is how many bytes of headers stand between the end of
    one inner frame and the beginning of the next one on its tail.
    """
    source = frame[probe.SOURCE_NET_AT : probe.SOURCE_NET_AT + 2]
    port = frame[probe.PORT_AT : probe.PORT_AT + 2]
    if source != probe.SOURCE_NET.to_bytes(2, "big") and port != probe.PORT.to_bytes(2, "big"):
        return None, 0
    said = int.from_bytes(frame[probe.IP_LENGTH_AT : probe.IP_LENGTH_AT + 2], "big") + 14
    if len(frame) < said:
        return "truncated", 0
    if len(frame) > said and probe.intact(frame[:said]):
        return "tailed", _whole_frames(frame[said:], step)
    return "damaged", 0


def _whole_frames(tail: bytes, step: int) -> int:
    found = 0
    while len(tail) >= step + probe.MIN_FRAME_BYTES:
        inner = tail[step:]
        at = probe.IP_LENGTH_AT
        size = int.from_bytes(inner[at : at + 2], "big") + 14
        if not probe.intact(inner[:size]):
            break
        found += 1
        tail = inner[size:]
    return found


def _cpu_ns() -> int:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return round((usage.ru_utime + usage.ru_stime) * 1e9)
