"""One count of what arrives: from being armed until the result is asked for.

Frames are held and accounted for some thousands at a time, since numpy costs as much for few as for
many. Must not know sockets or how frames are told apart.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Final

import numpy as np
import numpy.typing as npt

from testbed.measure.latency import LatencyRecorder
from testbed.traffic.arrivals import TRIAL, WARM_UP, Damage, SinkResult
from testbed.traffic.damage import UNKNOWN, what_is_wrong
from testbed.traffic.sequence import Accountant

_HELD: Final = 4096
_NEVER_NS: Final = (1 << 63) - 1

Ints = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.integer]


class Count:
    """Counts `streams` streams, from frames stamped at `armed_ns` (CLOCK_REALTIME) on.

    Everything is warm-up until `count_from_ns` is set, to the time stamp from which frames are the
    trial phase.
    """

    def __init__(self, streams: int, *, armed_ns: int, cpu_ns: int) -> None:
        self.count_from_ns = _NEVER_NS
        self.last_heard_ns = time.monotonic_ns()
        self._started_ns = self.last_heard_ns
        self._cpu_ns = cpu_ns
        self._armed_ns = armed_ns
        self._accountant = Accountant(streams=streams)
        self._latency = LatencyRecorder()
        self._steps_ns: Ints = np.zeros(0, np.int64)
        self._steps: list[LatencyRecorder] = []
        self._damage: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        self._stale = 0
        self._other = 0
        self._fullest = 0
        self._first_ns: int | None = None
        self._last_ns: int | None = None
        self._held = 0
        self._stream: Ints = np.zeros(_HELD, np.int64)
        self._sequence: Ints = np.zeros(_HELD, np.int64)
        self._sent: Ints = np.zeros(_HELD, np.int64)
        self._received: Ints = np.zeros(_HELD, np.int64)

    def cut(self, steps_ns: tuple[int, ...]) -> None:
        """The trial phase is cut into steps that begin with these time stamps."""
        self._steps_ns = np.array(steps_ns, np.int64)
        self._steps = [LatencyRecorder() for _ in steps_ns]

    def take(self, stream: Ints, sequence: Numbers, sent: Numbers, received: Numbers) -> None:
        """Whole frames in order of arrival, no more than `_HELD` at once."""
        if self._held + len(stream) > _HELD:
            self.settle()
        into = slice(self._held, self._held + len(stream))
        self._stream[into] = stream
        self._sequence[into] = sequence
        self._sent[into] = sent
        self._received[into] = received
        self._held += len(stream)

    def misaddressed(self, sent: Numbers) -> None:
        """Whole frames with a wrong header, by their time stamps."""
        fresh = sent[sent >= self._armed_ns]
        self._stale += len(sent) - len(fresh)
        counted = int((fresh >= self.count_from_ns).sum())
        self._damage[TRIAL]["misaddressed"] += counted
        self._damage[WARM_UP]["misaddressed"] += len(fresh) - counted

    def broken(self, inner: bytes, received_ns: int, *, step: int) -> None:
        """A frame that is no whole test frame of an expected flow; see `what_is_wrong`."""
        kind, swallowed = what_is_wrong(inner, step=step)
        if kind is None:
            self._other += 1
        elif kind == UNKNOWN:
            self._stale += 1
        else:
            # The stamp in a broken frame cannot be trusted, the kernel's can.
            damage = self._damage[TRIAL if received_ns >= self.count_from_ns else WARM_UP]
            damage[kind] += 1
            damage["swallowed"] += swallowed

    def emptied(self, frames: int) -> None:
        """The socket was emptied of so many frames."""
        self.settle()
        self.last_heard_ns = time.monotonic_ns()
        self._fullest = max(self._fullest, frames)

    def settle(self) -> None:
        """Account for what is held, in order of arrival."""
        if not self._held:
            return
        held, self._held = slice(0, self._held), 0
        stream, sequence = self._stream[held], self._sequence[held]
        sent, received = self._sent[held], self._received[held]
        if int(sent.min()) < self._armed_ns:
            fresh = sent >= self._armed_ns
            self._stale += len(sent) - int(fresh.sum())
            stream, sequence = stream[fresh], sequence[fresh]
            sent, received = sent[fresh], received[fresh]
        counted = sent >= self.count_from_ns
        first_copy = self._accountant.add(stream, sequence, counted.astype(np.int64))
        wanted = counted & first_copy
        if not bool(wanted.all()):
            sent, received = sent[wanted], received[wanted]
        if len(sent):
            self._latency.add(received - sent)
            if self._steps:
                step = np.searchsorted(self._steps_ns, sent, side="right") - 1
                for number in np.unique(step).tolist():
                    of_step = step == number
                    self._steps[max(0, number)].add(received[of_step] - sent[of_step])
            if self._first_ns is None:
                self._first_ns = int(received[0])
            self._last_ns = int(received[-1])

    def result(self, *, drops: int, cpu_ns: int, quiet: bool) -> SinkResult:
        """What has been counted so far; `drops` and `cpu_ns` are the sink's own until now."""
        self.settle()
        warm_up, trial = (self._accountant.counts(phase) for phase in (WARM_UP, TRIAL))
        return SinkResult(
            streams=(warm_up, trial),
            damage=(Damage(**self._damage[WARM_UP]), Damage(**self._damage[TRIAL])),
            latency=self._latency.histogram(),
            drops=drops,
            stale=self._stale,
            other=self._other,
            first_ns=self._first_ns,
            last_ns=self._last_ns,
            fullest=self._fullest,
            cpu_ns=cpu_ns - self._cpu_ns,
            elapsed_ns=time.monotonic_ns() - self._started_ns,
            quiet=quiet,
            steps=tuple(recorder.histogram() for recorder in self._steps),
        )
