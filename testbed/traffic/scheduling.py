"""Who runs first on the tester's CPU: who keeps the time, then the generator, then the sink.

A paced generator sleeps between frames and must run when a slot comes. The sink need not: whenever
it looks, each frame says when it arrived. So the sink is an ordinary process then, though the first
among those: where both ran in real time and together used more than 95 % of their CPU, the kernel
would stop them for the rest of each second (sched_rt_runtime_us, sched(7)), and 50 ms of frames
would not be offered. Above `SMOOTH_UP_TO_PPS` the generator may come near to using its CPU up, and
without a pace it does; so it then has no higher rank than the sink, and steps aside for it after
every few frames; both live with those 50 ms. All of this holds only for processes that are pinned:
elsewhere they could take the node's CPU away. Must not know what the processes do.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

SMOOTH_UP_TO_PPS: Final = 60_000

SINK_PRIORITY: Final = 5
GENERATOR_PRIORITY: Final = 10
CONDUCTOR_PRIORITY: Final = 15
RIVAL_PRIORITY: Final = 5

ORDINARY: Final = "ordinary"
_REFUSED: Final = "was refused"
_FIRST: Final = -20


def leaves_a_cpu(cpus: Collection[int] | None) -> bool:
    """Whether a process on `cpus` (None: on any) may run in real time: the node has another."""
    return cpus is not None and len(cpus) < (os.cpu_count() or 1)


def generator_priority(rate_pps: float | None) -> int:
    """The real-time priority of a generator at that rate (None: as fast as possible)."""
    return GENERATOR_PRIORITY if _smooth(rate_pps) else SINK_PRIORITY


def sink_priority(rate_pps: float | None) -> int | None:
    """The same for the sink; None is an ordinary process."""
    return None if _smooth(rate_pps) else SINK_PRIORITY


def _smooth(rate_pps: float | None) -> bool:
    return rate_pps is not None and rate_pps <= SMOOTH_UP_TO_PPS


def go(priority: int | None) -> str:
    """Run at that real-time priority from now on, or as an ordinary process before all others."""
    if priority is not None:
        return go_realtime(priority)
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    try:
        os.setpriority(os.PRIO_PROCESS, 0, _FIRST)
    except OSError as error:
        return f"{ORDINARY}: to come first {_REFUSED} ({error.strerror})"
    return f"{ORDINARY}, before all others (nice {_FIRST})"


def go_realtime(priority: int) -> str:
    """Put the calling thread into SCHED_FIFO; what it runs in now, and why if it was refused."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except OSError as error:
        return f"{ORDINARY}: real-time scheduling {_REFUSED} ({error.strerror})"
    return "real-time (SCHED_FIFO)"


def refusals(classes: Mapping[str, str]) -> list[str]:
    """Of who ran in which class: what a reader of the figures should know, in words."""
    return [
        f"the {who} did not keep its time as it should: it ran as {how}"
        for who, how in classes.items()
        if _REFUSED in how
    ]


@contextmanager
def realtime(priority: int | None) -> Iterator[str]:
    """`go_realtime` for the body, then what was before; None changes nothing. Says what it got."""
    if priority is None:
        yield ORDINARY
        return
    policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    how = go_realtime(priority)
    try:
        yield how
    finally:
        os.sched_setscheduler(0, policy, parameter)
