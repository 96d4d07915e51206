"""Looks for frames, and lets them gather before where that has been decided.

The one place that sleeps: on descriptors (epoll) or on the clock. Must not know what the
descriptors are of, nor when waiting pays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from agent.coalescing import Waiting

Events = Sequence[tuple[int, int]]
Poll = Callable[[float | None], Events]
Action = Callable[[int], int]

SLEEP_CALL: Final = "clock_nanosleep"
"""What `time.sleep` is to the kernel, until an absolute time of CLOCK_MONOTONIC."""


class Gatherer:
    """`look` and `take` in turn, for as long as frames may wait (`Waiting.whole`).

    `poll` waits for descriptors. Of the actions that `take` is given, those of the descriptors in
    `sources` return how many frames they took; `budget` of them mean that there are more.

    `wakeups` counts sleeps that ended, on descriptors or the clock. A look that does not block
    follows each sleep on the clock, so `wakeups` is also how often `poll` was called.
    """

    def __init__(
        self,
        waiting: Waiting,
        poll: Poll,
        *,
        sources: Collection[int],
        budget: int,
    ) -> None:
        self.waiting = waiting
        self.wakeups = 0
        self.waits = 0
        self.waited_ns = 0
        self._poll = poll
        self._sources = frozenset(sources)
        self._budget = budget
        self._begun_ns = 0
        self._frames = 0
        self._emptied = True

    def look(self, timer_ns: int | None) -> Events:
        """What there is, as `poll` has it; nothing if `timer_ns` (monotonic) came first."""
        waiting = self.waiting
        now_ns = time.monotonic_ns()
        begun_ns, self._begun_ns = self._begun_ns, 0
        pause_ns = waiting.next_pause(begun_ns, now_ns, self._frames, emptied=self._emptied)
        if pause_ns:
            if self._pause(pause_ns, timer_ns, now_ns) and (events := self._poll(0)):
                return events
            waiting.nothing_came()
            now_ns = time.monotonic_ns()
        events = self._poll(None if timer_ns is None else max(timer_ns - now_ns, 0) / 1e9)
        self.wakeups += 1
        if self._has_frames(events):
            woken_ns = time.monotonic_ns()
            pause_ns = waiting.after_look(now_ns, woken_ns)
            if pause_ns and self._pause(pause_ns, timer_ns, woken_ns):
                # Others may have become readable meanwhile, and have waited as long.
                return self._poll(0)
        return events

    def take(self, events: Events, actions: Mapping[int, Action], now_ns: int) -> None:
        """Do what is to be done for each event; `now_ns` is the time after `look`."""
        frames = 0
        emptied = True
        for fd, _ in events:
            taken = actions[fd](now_ns)
            if fd in self._sources:
                frames += taken
                if taken >= self._budget:
                    emptied = False
        self._begun_ns, self._frames, self._emptied = now_ns, frames, emptied

    def _has_frames(self, events: Events) -> bool:
        return any(fd in self._sources for fd, _ in events)

    def _pause(self, pause_ns: int, timer_ns: int | None, now_ns: int) -> bool:
        """Let time pass, but not beyond `timer_ns`; False if there was no time to pass."""
        if timer_ns is not None:
            pause_ns = min(pause_ns, timer_ns - now_ns)
            if pause_ns <= 0:
                return False
        time.sleep(pause_ns / 1e9)
        took_ns = time.monotonic_ns() - now_ns
        self.wakeups += 1
        self.waits += 1
        self.waited_ns += took_ns
        if took_ns >= pause_ns:
            self.waiting.slept(pause_ns, took_ns)
        return True
