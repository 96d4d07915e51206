"""Waits until processes have worked off what they were given: they neither run nor wait to run.

Seen from outside, so that nobody is woken by the question. Must not know what the work is.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from testbed.measure import procstat
from testbed.measure.procstat import CpuTime

LIMIT_S: Final = 2.0
_LOOK_S: Final = 0.02
_IDLE_NS: Final = 1_000_000
"""More than this of a CPU between two looks, used or waited for, is no idleness."""


def wait_idle(pids: Iterable[int], *, limit_s: float = LIMIT_S) -> bool:
    """Whether all of them came to rest within `limit_s`; one that is gone is at rest."""
    deadline = time.monotonic() + limit_s
    before = _look(pids)
    while time.monotonic() < deadline:
        time.sleep(_LOOK_S)
        now = _look(before)
        if all(_at_rest(pid, used.since(before[pid])) for pid, used in now.items()):
            return True
        before = now
    return False


def _look(pids: Iterable[int]) -> dict[int, CpuTime]:
    found: dict[int, CpuTime] = {}
    for pid in pids:
        try:
            found[pid] = procstat.cpu_time(pid)
        except ProcessLookupError:
            continue
    return found


def _at_rest(pid: int, used: CpuTime) -> bool:
    # The kernel adds a wait for the CPU up once it is over: until then only the state tells.
    try:
        return used.total_ns + used.run_delay_ns < _IDLE_NS and procstat.asleep(pid)
    except ProcessLookupError:
        return True
