"""What /proc tells of one process: CPU time, switches, memory, I/O (proc(5)).

Values are read, never estimated; what this kernel or these rights do not show is None. Must not
know what the process is for.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_TICK_NS: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_CPUCLOCK_SCHED: Final = 2
_WAITING: Final = frozenset("SIZX")
"""States of a thread that waits for an event, or has ended (proc_pid_stat(5))."""
_FIELD = re.compile(r"^(\w+):\s+(\d+)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class CpuTime:
    """CPU time of all threads of a process so far, also of those that ended.

    `total_ns` is the scheduler's exact sum; `user_ns` and `system_ns` are the kernel's split of
    it, sampled at the timer tick and told in hundredths of a second, so good only over a while.
    """

    total_ns: int
    user_ns: int
    system_ns: int
    run_delay_ns: int
    """Time that living threads were ready to run but waited for a CPU."""

    def since(self, earlier: Self) -> CpuTime:
        """What was used after `earlier`."""
        return CpuTime(
            total_ns=self.total_ns - earlier.total_ns,
            user_ns=self.user_ns - earlier.user_ns,
            system_ns=self.system_ns - earlier.system_ns,
            run_delay_ns=self.run_delay_ns - earlier.run_delay_ns,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Switches:
    """Context switches of all living threads so far: gave up the CPU, or had it taken away."""

    voluntary: int
    involuntary: int

    def since(self, earlier: Self) -> Switches:
        """What came after `earlier`."""
        return Switches(
            voluntary=self.voluntary - earlier.voluntary,
            involuntary=self.involuntary - earlier.involuntary,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class IoCounts:
    """read-like and write-like calls and bytes so far (sockets and TAPs mostly do not count)."""

    read_calls: int
    write_calls: int
    read_bytes: int
    written_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessSample:
    """A process at one moment. `io` is None where the rights do not show it."""

    pid: int
    start_ticks: int
    """When it started, in clock ticks after boot: tells a process from a later one of its pid."""
    threads: int
    cpu: CpuTime
    switches: Switches
    minor_faults: int
    major_faults: int
    io: IoCounts | None


def cpu_time(pid: int) -> CpuTime:
    """CPU time of a process; ProcessLookupError if there is none such."""
    fields = _stat(pid)
    try:
        # The clock id of another process's CPU time, as clock_getcpuclockid(3) makes it.
        total = time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError:
        raise ProcessLookupError(f"process {pid} is gone") from None
    delay = 0
    for thread in _threads(pid):
        delay += int(_read(f"/proc/{pid}/task/{thread}/schedstat", "0 0 0").split()[1])
    return CpuTime(
        total_ns=total,
        user_ns=int(fields[11]) * _TICK_NS,
        system_ns=int(fields[12]) * _TICK_NS,
        run_delay_ns=delay,
    )


def switches(pid: int) -> Switches:
    """Context switches of a process; ProcessLookupError if there is none such."""
    voluntary = involuntary = 0
    threads = _threads(pid)
    for thread in threads:
        found = dict(_FIELD.findall(_read(f"/proc/{pid}/task/{thread}/status", "")))
        voluntary += int(found.get("voluntary_ctxt_switches", 0))
        involuntary += int(found.get("nonvoluntary_ctxt_switches", 0))
    return Switches(voluntary=voluntary, involuntary=involuntary)


def asleep(pid: int) -> bool:
    """Whether every thread waits for something to happen; ProcessLookupError if there is none.

    One that is ready to run but has no CPU yet does not, nor one that is stopped or traced: it has
    its work still before it, which no clock shows until it runs again.
    """
    states = {_state(pid, thread) for thread in _threads(pid)}
    return states <= _WAITING


def sample(pid: int) -> ProcessSample:
    """Everything at once, the cheap parts of /proc only; ProcessLookupError if it is gone."""
    fields = _stat(pid)
    return ProcessSample(
        pid=pid,
        start_ticks=int(fields[19]),
        threads=int(fields[17]),
        cpu=cpu_time(pid),
        switches=switches(pid),
        minor_faults=int(fields[7]),
        major_faults=int(fields[9]),
        io=_io(pid),
    )


def is_alive(pid: int, start_ticks: int | None = None) -> bool:
    """Whether the process (the same one, if `start_ticks` is given) exists and is no zombie."""
    try:
        fields = _stat(pid)
    except ProcessLookupError:
        return False
    return fields[0] not in "ZX" and start_ticks in (None, int(fields[19]))


def _io(pid: int) -> IoCounts | None:
    try:
        found = dict(_FIELD.findall(Path(f"/proc/{pid}/io").read_text()))
    except (PermissionError, FileNotFoundError, ProcessLookupError):
        return None
    return IoCounts(
        read_calls=int(found["syscr"]),
        write_calls=int(found["syscw"]),
        read_bytes=int(found["rchar"]),
        written_bytes=int(found["wchar"]),
    )


def _state(pid: int, thread: str) -> str:
    """The state of a thread; that of one which has just ended is of no account."""
    text = _read(f"/proc/{pid}/task/{thread}/stat", ") X")
    return text[text.rindex(")") + 2]


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; the name before may hold anything."""
    text = _read(f"/proc/{pid}/stat", None)
    return text[text.rindex(")") + 2 :].split()


def _threads(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")
    except FileNotFoundError:
        raise ProcessLookupError(f"process {pid} is gone") from None


def _read(path: str, otherwise: str | None) -> str:
    try:
        return Path(path).read_text()
    except (FileNotFoundError, ProcessLookupError):
        if otherwise is None:
            raise ProcessLookupError(f"{path} is gone") from None
        return otherwise
