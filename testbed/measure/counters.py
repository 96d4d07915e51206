"""System calls and scheduling of one process, counted by the kernel.

Counting a call costs it 0.1 to 0.4 µs, so system calls are counted in a pass of their own and
never where time is measured; `SoftwareCounters` alone are cheap. Must not know what the process
does with its calls, only what sort each of them is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from testbed.errors import Lacking
from testbed.measure.perf import (
    TYPE_SOFTWARE,
    TYPE_TRACEPOINT,
    Counter,
    on_all_threads,
    tracepoint_ids,
)
from testbed.measure.syscalls import (
    CLASSES,
    ON_DESCRIPTOR,
    CallClass,
    Side,
    call_numbers,
    class_of,
    descriptor_sides,
)

__all__ = [
    "CLASSES",
    "CallClass",
    "CallCounts",
    "CounterSupport",
    "Side",
    "SoftwareCounters",
    "SoftwareCounts",
    "SyscallCounters",
    "class_of",
    "descriptor_sides",
    "probe_counters",
]

_TOTAL: Final = "raw_syscalls:sys_enter"


@dataclass(frozen=True, kw_only=True, slots=True)
class CallCounts:
    """System calls made while counting was on.

    `total` is every call whatever its name, None if that was not asked for. `by_name` has every
    call in `CLASSES`, also with 0. `by_side` splits those receive and send calls whose descriptor
    is known to belong to one side; the rest of a name is `by_name` less that.
    """

    total: int | None
    by_name: Mapping[str, int]
    by_side: Mapping[Side, Mapping[str, int]] = field(default_factory=dict)
    method: str
    """How calls were told apart: "tracepoint per call" or "number filter"."""
    complete: bool = True
    """False if a counter was not running all the time, so that counts are too low."""


_Key = tuple[str, Side | None]


class _Counters:
    """Counters on all threads of a process, started and stopped at one moment for each thread."""

    def __init__(self, pid: int, events: Mapping[_Key, tuple[int, int, str | None]]) -> None:
        def one(thread: int) -> dict[_Key, Counter]:
            made: dict[_Key, Counter] = {}
            leader: Counter | None = None
            try:
                for key, (kind, config, test) in events.items():
                    made[key] = Counter(
                        kind=kind, config=config, thread_id=thread, filter=test, leader=leader
                    )
                    leader = leader or made[key]
            except BaseException:
                _close_all(made)
                raise
            return made

        self._counters = on_all_threads(pid, one, _close_all)

    def start(self) -> None:
        """Count from here on."""
        for counters in self._counters:
            next(iter(counters.values())).enable()

    def stop(self) -> None:
        """Count no longer; what was counted can still be read."""
        for counters in self._counters:
            next(iter(counters.values())).disable()

    def close(self) -> None:
        """Give all counters back; twice is fine."""
        for counters in self._counters:
            _close_all(counters)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _close_all(counters: Mapping[_Key, Counter]) -> None:
    # The leader goes last: without it the others would run on by themselves.
    for counter in reversed(list(counters.values())):
        counter.close()


class SyscallCounters(_Counters):
    """Counts the system calls of a process, of all its threads and of what they start.

    Context manager; counting is off until `start`. Calls are told apart by one tracepoint each
    (``syscalls:sys_enter_NAME``); where the kernel lacks those, by ``raw_syscalls:sys_enter`` with
    a filter on the call's number, which costs three times as much.
    """

    def __init__(
        self,
        pid: int,
        *,
        sides: Mapping[int, Side] | None = None,
        total: bool = True,
        number_filter: bool = False,
    ) -> None:
        """Attach to process `pid`.

        `sides` says which descriptors belong to which side (`descriptor_sides`); calls on them are
        counted apart. `total` counts every call too, which costs each of them some 0.2 µs more.
        `number_filter` asks for the second way of telling calls apart.

        :raises ProcessLookupError: there is no such process.
        :raises Lacking: tracepoints are out of reach.
        """
        points = {name: f"syscalls:sys_enter_{name}" for name in call_numbers()}
        ids = tracepoint_ids([_TOTAL, *points.values()])
        events: dict[tuple[str, Side | None], tuple[int, str | None]] = {}
        per_call = not number_filter and all(ids[point] is not None for point in points.values())
        total_id = ids[_TOTAL]
        if total_id is None and (total or not per_call):
            raise Lacking(
                "this kernel has no tracepoint raw_syscalls:sys_enter",
                "use a kernel with CONFIG_HAVE_SYSCALL_TRACEPOINTS and CONFIG_FTRACE_SYSCALLS",
            )
        if total and total_id is not None:
            events["", None] = (total_id, None)
        for name, number in call_numbers().items():
            point = ids[points[name]]
            if per_call and point is not None:
                events[name, None] = (point, None)
                if name in ON_DESCRIPTOR:
                    for side, test in _descriptor_tests(sides or {}).items():
                        events[name, side] = (point, test)
            elif total_id is not None:
                events[name, None] = (total_id, f"id == {number}")
        self.method = "tracepoint per call" if per_call else "number filter"
        super().__init__(pid, {key: (TYPE_TRACEPOINT, *event) for key, event in events.items()})

    def read(self) -> CallCounts:
        """What has been counted since `start`."""
        sums: dict[tuple[str, Side | None], int] = {}
        complete = True
        for counters in self._counters:
            for key, counter in counters.items():
                reading = counter.read()
                sums[key] = sums.get(key, 0) + reading.value
                complete &= reading.running_ns >= reading.enabled_ns
        by_side: dict[Side, dict[str, int]] = {}
        for (name, side), count in sums.items():
            if side is not None:
                by_side.setdefault(side, {})[name] = count
        return CallCounts(
            total=sums.get(("", None)),
            by_name={name: n for (name, side), n in sums.items() if name and side is None},
            by_side=by_side,
            method=self.method,
            complete=complete,
        )


def _descriptor_tests(sides: Mapping[int, Side]) -> dict[Side, str]:
    tests: dict[Side, list[str]] = {}
    for descriptor, side in sorted(sides.items()):
        tests.setdefault(side, []).append(f"fd == {descriptor}")
    return {side: " || ".join(parts) for side, parts in tests.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class SoftwareCounts:
    """What the scheduler and the memory management counted for a process."""

    task_clock_ns: int
    context_switches: int
    cpu_migrations: int
    page_faults: int


_SOFTWARE: Final = {
    "task_clock_ns": 1,
    "page_faults": 2,
    "context_switches": 3,
    "cpu_migrations": 4,
}


class SoftwareCounters(_Counters):
    """task-clock, context switches, migrations and page faults of a process and all its threads.

    Context manager; counting is off until `start`.
    """

    def __init__(self, pid: int) -> None:
        """Attach; raises ProcessLookupError or Lacking."""
        super().__init__(
            pid, {(name, None): (TYPE_SOFTWARE, config, None) for name, config in _SOFTWARE.items()}
        )

    def read(self) -> SoftwareCounts:
        """What has been counted since `start`."""
        sums = dict.fromkeys(_SOFTWARE, 0)
        for counters in self._counters:
            for (name, _), counter in counters.items():
                sums[name] += counter.read().value
        return SoftwareCounts(**sums)


@dataclass(frozen=True, kw_only=True, slots=True)
class CounterSupport:
    """What of all this works here. `lacking` says of each thing that does not, why not."""

    syscalls: bool
    per_call_tracepoints: bool
    software: bool
    lacking: tuple[str, ...] = ()


def probe_counters() -> CounterSupport:
    """Try every sort of counter on this very process."""
    lacking: list[str] = []
    per_call = False
    syscalls = _try(lambda: SyscallCounters(os.getpid(), number_filter=True), lacking)
    if syscalls:
        with SyscallCounters(os.getpid()) as counters:
            per_call = counters.method == "tracepoint per call"
        if not per_call:
            lacking.append(
                "no tracepoint per system call; calls are told apart by number, which slows "
                "each of them by about a microsecond"
            )
    software = _try(lambda: SoftwareCounters(os.getpid()), lacking)
    return CounterSupport(
        syscalls=syscalls,
        per_call_tracepoints=per_call,
        software=software,
        lacking=tuple(lacking),
    )


def _try(make: Callable[[], _Counters], lacking: list[str]) -> bool:
    try:
        make().close()
    except Lacking as error:
        lacking.append(str(error))
        return False
    return True
