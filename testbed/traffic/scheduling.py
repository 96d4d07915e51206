"""Who runs first on the tester's CPU: who keeps the time, then the generator, then the sink.

A paced generator sleeps between frames and must run when a slot comes. Above `SMOOTH_UP_TO_PPS` it
may come near to using its CPU up, and without a pace it does; so it then has no higher rank than
the sink, and steps aside for it after every few frames. All of this holds only for processes that
are pinned: elsewhere they could take the node's CPU away. Must not know what the processes do.

The kernel keeps a twentieth of every CPU for ordinary processes, whatever runs in real time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

SMOOTH_UP_TO_PPS: Final = 60_000

SINK_PRIORITY: Final = 5
GENERATOR_PRIORITY: Final = 10
CONDUCTOR_PRIORITY: Final = 15

ORDINARY: Final = "ordinary"


def generator_priority(rate_pps: float | None) -> int:
    """The real-time priority of a generator at that rate (None: as fast as possible)."""
    smooth = rate_pps is not None and rate_pps <= SMOOTH_UP_TO_PPS
    return GENERATOR_PRIORITY if smooth else SINK_PRIORITY


def go_realtime(priority: int) -> str:
    """Put the calling thread into SCHED_FIFO; what it runs in now, and why if it was refused."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except OSError as error:
        return f"{ORDINARY}: real-time scheduling was refused ({error.strerror})"
    return "real-time (SCHED_FIFO)"


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
