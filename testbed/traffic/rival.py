"""Somebody else on the node's CPU, so that the node has a share of it, as on a slower processor.

Where tester and node have one CPU each, a node that does little for a packet is never at its limit:
the tester is. With a third of its CPU it is, and how two ways of doing the same compare at their
limits can be seen. The rival comes first (real time) and takes the rest of every millisecond; a
quota of a control group would do the same, if one could rely on having one. Must not know whose
CPU it is.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Final

from testbed.measure import cpu
from testbed.traffic.scheduling import RIVAL_PRIORITY

PERIOD_NS: Final = 1_000_000
LEAST_SHARE: Final = 0.1
"""The kernel stops whoever takes more than 95 % of a CPU in real time (sched_rt_runtime_us)."""
_MOST_LATE_NS: Final = 4 * PERIOD_NS
"""More than the longest system calls take."""
_PERIODS: Final = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class RivalSpec:
    """Leave `share` (0.1 to 1) of every one of `cpus`, of which there is one."""

    cpus: tuple[int, ...]
    share: float


class Rival:
    """Takes its part of each period while `take` is called again and again."""

    def __init__(self, spec: RivalSpec) -> None:
        """Move there and get ahead of everybody.

        :raises OSError: real-time scheduling was refused. :raises ValueError: no such share.
        """
        if not LEAST_SHARE <= spec.share <= 1 or len(spec.cpus) != 1:
            raise ValueError(f"not a share of one CPU: {spec}")
        cpu.pin(0, spec.cpus)
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(RIVAL_PRIORITY))
        self._leave_ns = round(PERIOD_NS * spec.share)
        self._take_ns = PERIOD_NS - self._leave_ns
        self._have_ns = time.thread_time_ns()
        self._due_ns = time.monotonic_ns()

    def take(self) -> None:
        """Some periods: leave the CPU, then have it for as much CPU time as is its part.

        What a sleep was too long, or the change from one to the other took, is left less from then
        on. It may be more than once the node's part: a system call that sends a large batch is not
        interrupted.
        """
        clock, used = time.monotonic_ns, time.thread_time_ns
        leave_ns, take_ns = self._leave_ns, self._take_ns
        due_ns = self._due_ns
        for _ in range(_PERIODS):
            late_ns = clock() - due_ns
            if late_ns > _MOST_LATE_NS:
                # The machine stood still: nobody is to pay for that.
                due_ns += late_ns
                late_ns = 0
            if late_ns < leave_ns:
                time.sleep((leave_ns - late_ns) / 1e9)
            self._have_ns += take_ns
            while used() < self._have_ns:
                pass
            due_ns += PERIOD_NS
        self._due_ns = due_ns
