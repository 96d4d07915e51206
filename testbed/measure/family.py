"""The processes that make up one node: its own, and what that has started.

Our agent is one process; a program may be a wrapper that starts another, or several workers. Found
by the session that the launcher makes for each node, and by descent. Must not know what is counted.
Source: proc_pid_stat(5).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

from testbed.measure import memory as one_memory
from testbed.measure import procstat
from testbed.measure.memory import MemorySample
from testbed.measure.procstat import CpuTime, ProcessSample, Switches


def members(pid: int) -> tuple[int, ...]:
    """The process and every living one of its session or descended from it, itself first.

    :raises ProcessLookupError: there is no such process.
    """
    found = members_of_all([pid])
    if pid not in found:
        raise ProcessLookupError(f"process {pid} is gone")
    return (pid, *(one for one in found if one != pid))


def members_of_all(pids: Iterable[int]) -> tuple[int, ...]:
    """Those of several families, in one look at the machine; a process that is gone has none."""
    heads = frozenset(pids)
    parents: dict[int, int] = {}
    found = set(heads)
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            text = Path(f"/proc/{entry}/stat").read_text()
        except OSError:
            continue
        # The name in the second field may hold anything, also a parenthesis.
        state, parent, _, session = text.rpartition(")")[2].split()[:4]
        if state not in "ZX":
            parents[int(entry)] = int(parent)
            if int(session) in heads:
                found.add(int(entry))
    found &= parents.keys()
    grown = True
    while grown:
        more = {child for child, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return tuple(sorted(found))


def sample(pids: Iterable[int]) -> dict[int, ProcessSample]:
    """All of them at one moment, by pid; those beside the first that are gone are left out.

    :raises ProcessLookupError: the first is gone.
    """
    taken: dict[int, ProcessSample] = {}
    for pid in pids:
        try:
            taken[pid] = procstat.sample(pid)
        except ProcessLookupError:
            if not taken:
                raise
    return taken


def cpu_since(now: dict[int, ProcessSample], then: dict[int, ProcessSample]) -> CpuTime:
    """What those used together that are in both; one that has ended meanwhile is not."""
    used = [now[pid].cpu.since(then[pid].cpu) for pid in now if pid in then]
    return CpuTime(**_sums(used, CpuTime))


def switches_since(now: dict[int, ProcessSample], then: dict[int, ProcessSample]) -> Switches:
    """The context switches of those that are in both."""
    grown = [now[pid].switches.since(then[pid].switches) for pid in now if pid in then]
    return Switches(**_sums(grown, Switches))


def memory(pids: Iterable[int]) -> MemorySample:
    """The memory of all of them together; pages that they share count once in PSS alone.

    :raises ProcessLookupError: the first is gone.
    """
    taken: list[MemorySample] = []
    for pid in pids:
        try:
            taken.append(one_memory.memory(pid))
        except ProcessLookupError:
            if not taken:
                raise
    return MemorySample(
        pss_bytes=_sum_known([part.pss_bytes for part in taken]),
        private_bytes=_sum_known([part.private_bytes for part in taken]),
        rss_bytes=sum(part.rss_bytes for part in taken),
        rss_peak_bytes=sum(part.rss_peak_bytes for part in taken),
    )


def _sums(parts: list[CpuTime] | list[Switches], kind: type) -> dict[str, int]:
    return {field.name: sum(getattr(part, field.name) for part in parts) for field in fields(kind)}


def _sum_known(parts: list[int | None]) -> int | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None
