"""Offers test traffic: ready frames, in batches, at an even pace, from one pinned process.

What goes into the kernel is counted; what the kernel refuses is counted by reason and is no
offered frame: the sequence number it would have had goes to the next one. Must not know which node
or path is measured.
"""

from __future__ import annotations

import errno
import gc
import os
import resource
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from agent.linux.mmsg import MsgTable
from agent.linux.packet import set_send_buffer
from testbed.kernel.netns import run_in
from testbed.traffic import scheduling
from testbed.traffic.errors import TrafficError
from testbed.traffic.frames import FrameRing, FrameSet
from testbed.traffic.pacing import Pacer, PacingReport, Step, SteppedPacer, tick_ns
from testbed.traffic.place import Place

BATCH: Final = 64
_SEND_BUFFER_BYTES: Final = 8 << 20
_ASK_EVERY_NS: Final = 50_000_000
_RETRY_NS: Final = 20_000


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratorSpec:
    """Where to send from, and on which CPUs to run (None: wherever the scheduler likes)."""

    place: Place
    cpus: tuple[int, ...] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """One stretch of the loaded frames, times in ns of CLOCK_MONOTONIC.

    `rate_pps` None is as fast as possible. Frames from `trial_ns` on are the trial, those before
    it the warm-up; what a frame is goes by its stamp, so `wall_ns`, what CLOCK_REALTIME is ahead,
    has to be the same as for the sink. `burst` frames are due together. With `steps` the rate
    changes during the trial.
    """

    rate_pps: float | None
    start_ns: int
    trial_ns: int
    stop_ns: int
    wall_ns: int
    burst: int = 1
    steps: tuple[Step, ...] = ()

    @property
    def fastest_pps(self) -> float | None:
        """The highest rate in it; None is as fast as possible."""
        return max((step.rate_pps for step in self.steps), default=self.rate_pps)


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratorResult:
    """What was really offered.

    Frame numbers `first_counted` … `offered` - 1 of the pattern are the trial, those before it the
    warm-up. `refused` are sends that the kernel turned down, by errno name.
    """

    offered: int
    first_counted: int
    per_flow: Mapping[int, int]
    per_flow_counted: Mapping[int, int]
    refused: Mapping[str, int]
    refused_counted: Mapping[str, int]
    pacing: PacingReport
    intended_counted: int | None
    elapsed_ns: int
    elapsed_counted_ns: int
    """From the beginning of the trial phase until the last of its frames was sent."""
    longest_call_ns: int
    """Longest single send; the frames of one share a time stamp taken before it."""
    cpu_ns: int
    scheduling: str
    """The scheduling class it ran in, and why if that is not what was asked for."""
    aborted: bool = False
    offered_by_step: tuple[int, ...] = ()
    """Frames of each step of the trial phase, by their stamps."""

    @property
    def counted(self) -> int:
        """Frames of the trial phase."""
        return self.offered - self.first_counted


@dataclass(slots=True)
class _Progress:
    number: int = 0
    first_counted: int | None = None
    refused: Counter[str] = field(default_factory=Counter)
    refused_before: Counter[str] = field(default_factory=Counter)
    longest_call_ns: int = 0
    last_sent_ns: int = 0
    counted_from_ns: int = 0
    step_firsts: list[int] = field(default_factory=list)
    """The number of the first frame of each step that has begun."""

    def reach_steps(self, offer: Offer, stamp_ns: int) -> None:
        """The next frame is stamped so: every step up to there has begun."""
        while len(self.step_firsts) < len(offer.steps) and stamp_ns >= (
            offer.steps[len(self.step_firsts)].from_ns + offer.wall_ns
        ):
            self.step_firsts.append(self.number)


class Generator:
    """An AF_PACKET socket at one place, and the loop that fills it."""

    def __init__(self, spec: GeneratorSpec) -> None:
        """Open it; raises OSError if there is no such interface or no right to send."""

        def open_there() -> socket.socket:
            # Protocol 0: it hears nothing, so nothing has to be thrown away.
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
            sock.bind((spec.place.ifname, 0))
            return sock

        self._socket = run_in(spec.place.netns, open_there)
        set_send_buffer(self._socket, _SEND_BUFFER_BYTES)
        self._fd = self._socket.fileno()
        self._apart = scheduling.leaves_a_cpu(spec.cpus)
        self._frames: FrameSet | None = None
        self._ring: FrameRing
        self._table: MsgTable

    def load(self, frames: FrameSet) -> None:
        """Get frames ready to be sent, which takes some milliseconds."""
        self._ring = FrameRing(frames)
        self._table = MsgTable(self._ring.data)
        self._table.reset_receive(offset=self._ring.start)
        self._table.iov_len[:] = self._ring.length
        self._frames = frames
        gc.collect()

    def run(self, offer: Offer, *, wanted: Callable[[], bool] = lambda: True) -> GeneratorResult:
        """Offer the traffic; returns when the time is over, or soon after `wanted()` is False."""
        if self._frames is None:
            raise TrafficError("no frames were loaded")
        ring, table = self._ring, self._table
        pacer = _pacer(offer)
        progress = _Progress()
        with _undisturbed(self._priority(offer.fastest_pps)) as how:
            # Once with every code path, so that the first frame pays for no page or cache.
            ring.stamp(0, min(BATCH, ring.rows), 0)
            ring.stamp(0, 1, 0)
            cpu = _cpu_ns()
            aborted = self._loop(offer, ring, table, pacer, progress, wanted)
            cpu = _cpu_ns() - cpu
        return _result(
            offer,
            self._frames,
            pacer,
            progress,
            cpu_ns=cpu,
            how=how,
            aborted=aborted,
        )

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _priority(self, rate_pps: float | None) -> int | None:
        return scheduling.generator_priority(rate_pps) if self._apart else None

    def _loop(
        self,
        offer: Offer,
        ring: FrameRing,
        table: MsgTable,
        pacer: Pacer | SteppedPacer,
        progress: _Progress,
        wanted: Callable[[], bool],
    ) -> bool:
        fastest = offer.fastest_pps
        tick = 0 if fastest is None else tick_ns(fastest)
        clock = time.monotonic_ns
        ask_at = clock() + _ASK_EVERY_NS
        while True:
            now = clock()
            if now >= ask_at:
                if not wanted():
                    return True
                ask_at = now + _ASK_EVERY_NS
            if now >= offer.stop_ns:
                return False
            due = pacer.due(now)
            if due:
                pacer.sent(due, now)
                self._send(offer, ring, table, progress, due)
                if offer.rate_pps is None:
                    continue
            wake = max(pacer.next_ns(), now + tick) if due else pacer.next_ns()
            pause = min(wake, ask_at, offer.stop_ns) - clock()
            if pause > 0:
                # Sleeps until an absolute time (clock_nanosleep), so lateness does not add up.
                time.sleep(pause * 1e-9)

    def _send(
        self, offer: Offer, ring: FrameRing, table: MsgTable, progress: _Progress, due: int
    ) -> None:
        """Use `due` slots: each sends the next frame or is lost to a refusal."""
        # Of the same rank as the sink, it must let it in, and more often than the sink does.
        polite = self._priority(offer.fastest_pps) == scheduling.SINK_PRIORITY
        while due:
            stamp = time.time_ns()
            if progress.first_counted is None and stamp >= offer.trial_ns + offer.wall_ns:
                progress.first_counted = progress.number
                progress.refused_before = Counter(progress.refused)
                progress.counted_from_ns = time.monotonic_ns()
            if offer.steps:
                progress.reach_steps(offer, stamp)
            row, count = ring.run_length(progress.number, min(due, BATCH))
            ring.stamp(progress.number, count, stamp)
            called = time.monotonic_ns()
            try:
                sent = table.send(self._fd, row, count, socket.MSG_DONTWAIT)
            except OSError as error:
                # A refused frame costs its slot; its number goes to the next frame.
                progress.refused[errno.errorcode.get(error.errno or 0, str(error.errno))] += 1
                due -= 1
                if error.errno in (errno.ENETDOWN, errno.EAGAIN) and offer.rate_pps is None:
                    time.sleep(_RETRY_NS * 1e-9)
                continue
            done = time.monotonic_ns()
            progress.longest_call_ns = max(progress.longest_call_ns, done - called)
            progress.last_sent_ns = done
            progress.number += sent
            due -= sent
            if polite:
                os.sched_yield()


def _result(
    offer: Offer,
    frames: FrameSet,
    pacer: Pacer | SteppedPacer,
    progress: _Progress,
    *,
    cpu_ns: int,
    how: str,
    aborted: bool,
) -> GeneratorResult:
    offered = progress.number
    first = offered if progress.first_counted is None else progress.first_counted
    intended = pacer.slots_before(offer.stop_ns)
    before = pacer.slots_before(offer.trial_ns)
    return GeneratorResult(
        offered=offered,
        first_counted=first,
        per_flow=frames.per_flow(offered),
        per_flow_counted=frames.per_flow(offered - first, first),
        refused=dict(progress.refused),
        refused_counted=dict(progress.refused - progress.refused_before),
        pacing=pacer.report(),
        intended_counted=None if intended is None or before is None else intended - before,
        elapsed_ns=max(0, progress.last_sent_ns - offer.start_ns),
        elapsed_counted_ns=(
            0
            if progress.first_counted is None
            else max(0, progress.last_sent_ns - progress.counted_from_ns)
        ),
        longest_call_ns=progress.longest_call_ns,
        cpu_ns=cpu_ns,
        scheduling=how,
        aborted=aborted,
        offered_by_step=_by_step(offer, progress),
    )


def _pacer(offer: Offer) -> Pacer | SteppedPacer:
    if offer.steps:
        return SteppedPacer(
            offer.steps, start_ns=offer.start_ns, stop_ns=offer.stop_ns, burst=offer.burst
        )
    return Pacer(
        rate_pps=offer.rate_pps,
        start_ns=offer.start_ns,
        stop_ns=offer.stop_ns,
        burst=offer.burst,
        unpaced=BATCH,
    )


def _by_step(offer: Offer, progress: _Progress) -> tuple[int, ...]:
    """Frames of each step; a step of which no frame was sent has none."""
    missing = len(offer.steps) - len(progress.step_firsts)
    firsts = [*progress.step_firsts, *[progress.number] * missing, progress.number]
    return tuple(later - first for first, later in pairwise(firsts))


@contextmanager
def _undisturbed(priority: int | None) -> Iterator[str]:
    """No garbage collection, and real-time scheduling if a priority is given; says which it got."""
    gc.disable()
    try:
        with scheduling.realtime(priority) as how:
            yield how
    finally:
        gc.enable()


def _cpu_ns() -> int:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return round((usage.ru_utime + usage.ru_stime) * 1e9)
