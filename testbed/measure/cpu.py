"""How busy each CPU of the machine is, and on which ones a process may run.

Source: proc(5), /proc/stat; times come in hundredths of a second, so look over a second or more.
Must not know who runs where, or why.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_TICK_NS: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True, slots=True)
class CpuTicks:
    """Times of one CPU in ns. `steal_ns` is what the host of a virtual machine took away."""

    user_ns: int
    system_ns: int
    irq_ns: int
    softirq_ns: int
    steal_ns: int
    idle_ns: int
    """Idle, with or without I/O outstanding."""

    @property
    def busy_ns(self) -> int:
        """Time in which this CPU worked for us: all but idle and steal."""
        return self.user_ns + self.system_ns + self.irq_ns + self.softirq_ns

    @property
    def total_ns(self) -> int:
        """All of it."""
        return self.busy_ns + self.idle_ns + self.steal_ns

    def busy_share(self) -> float | None:
        """Part of the time that was not idle (steal counts as not idle); None over no time."""
        return 1 - self.idle_ns / self.total_ns if self.total_ns else None

    def since(self, earlier: Self) -> CpuTicks:
        """What came after `earlier`; idle time may be told a tick too low by the kernel."""
        return CpuTicks(
            user_ns=self.user_ns - earlier.user_ns,
            system_ns=self.system_ns - earlier.system_ns,
            irq_ns=self.irq_ns - earlier.irq_ns,
            softirq_ns=self.softirq_ns - earlier.softirq_ns,
            steal_ns=max(0, self.steal_ns - earlier.steal_ns),
            idle_ns=max(0, self.idle_ns - earlier.idle_ns),
        )


def machine_cpus() -> dict[int, CpuTicks]:
    """The times of every CPU that is on line, since boot."""
    found = {}
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if not name.startswith("cpu") or name == "cpu":
            continue
        # Guest time (the last two fields) is contained in user and nice.
        user, nice, system, idle, iowait, irq, softirq, steal = (
            int(field) * _TICK_NS for field in fields[:8]
        )
        found[int(name[3:])] = CpuTicks(
            user_ns=user + nice,
            system_ns=system,
            irq_ns=irq,
            softirq_ns=softirq,
            steal_ns=steal,
            idle_ns=idle + iowait,
        )
    return found


def machine_since(
    now: Mapping[int, CpuTicks], earlier: Mapping[int, CpuTicks]
) -> dict[int, CpuTicks]:
    """CPU by CPU, what came after `earlier`; CPUs that are not in both are left out."""
    return {cpu: now[cpu].since(earlier[cpu]) for cpu in now if cpu in earlier}


def allowed_cpus(pid: int = 0) -> tuple[int, ...]:
    """The CPUs on which a process (0: this thread) may run."""
    return tuple(sorted(os.sched_getaffinity(pid)))


def pin(pid: int, cpus: Iterable[int]) -> tuple[int, ...]:
    """Let every thread of a process run on these CPUs only; where they may run now.

    Threads that it starts later inherit that. With pid 0 it is the calling thread alone.

    :raises OSError: none of the CPUs exists, or the process is somebody else's.
    :raises ProcessLookupError: there is no such process.
    """
    wanted = set(cpus)
    if pid == 0:
        os.sched_setaffinity(0, wanted)
        return allowed_cpus()
    known: set[str] = set()
    while True:
        try:
            threads = set(os.listdir(f"/proc/{pid}/task")) - known
        except FileNotFoundError:
            raise ProcessLookupError(f"process {pid} is gone") from None
        if not threads:
            return allowed_cpus(pid)
        for thread in threads:
            known.add(thread)
            try:
                os.sched_setaffinity(int(thread), wanted)
            except ProcessLookupError:
                continue
