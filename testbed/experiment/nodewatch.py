"""Watches the node under test over one trial: CPU, switches, memory, its own counts, system calls.

The kernel's counts are taken of any process, of all its threads and of what it has started; the
node's own only of one that answers on a control socket. Must not know what traffic passes, nor what
the figures are for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, Final, Self

from testbed import results
from testbed.errors import Lacking
from testbed.experiment.callcounting import CallCounting, difference, summed
from testbed.measure import cpu, family, memory, procstat
from testbed.measure.counters import (
    CLASSES,
    CallClass,
    CallCounts,
    SoftwareCounters,
    SyscallCounters,
    class_of,
)
from testbed.running.agent_control import Told

Ask = Callable[[], Told]
"""The node's own counts now; without any from a node that does not tell."""

_GROWING: Final = frozenset(
    {"wire", "tap", "syscalls", "wakeups", "fill", "messages", "drops", "waited_ns"}
)
"""What of a node's own counts becomes more with time, and never less."""
_MOST_APART: Final = 1.01
_AT_THE_ENDS_NS: Final = 5_000_000
"""How far perf's task-clock may be above the scheduler's own sum. Time that the host of a virtual
machine has taken is in perf's count and not in the scheduler's; and where somebody in real time
takes the CPU from a node that makes long system calls, perf counted 1.7 times what the scheduler,
/proc's user and system time and the time spent waiting agree on (Linux 6.18)."""


class NodeGone(Exception):
    """The node's process is not there any more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sample:
    """Everything cheap at one moment."""

    processes: dict[int, procstat.ProcessSample]
    machine: Mapping[int, cpu.CpuTicks]
    own: Mapping[str, Any] | None
    at_ns: int


@dataclass(slots=True)
class _Taken:
    start: _Sample | None = None
    end: _Sample | None = None
    memory_start: memory.MemorySample | None = None
    memory_end: memory.MemorySample | None = None
    own_before: Mapping[str, Any] | None = None
    own_after: Mapping[str, Any] | None = None
    task_clock_ns: int | None = None
    calls_before: CallCounts | None = None
    calls: CallCounts | None = None
    lacking: list[str] = field(default_factory=list)
    distrusted: bool = False


class NodeWatch:
    """One trial's watch over process `pid` and what it has started. Context manager around a trial.

    `start` and `end` bound the window of all counts; enter and leave the watch while nothing is
    under way, so that what is taken there (memory, the node's drops) covers everything. With
    `count_calls` the kernel counts system calls over the window, which slows them down: then the
    CPU time is not that of an undisturbed node.
    """

    def __init__(
        self,
        name: str,
        pid: int,
        ask: Ask,
        *,
        count_calls: CallCounting | None,
        clock: Callable[[], int],
    ) -> None:
        """Attach nothing yet. `clock` gives CLOCK_MONOTONIC in ns."""
        self.name = name
        self._pid = pid
        self._ask = ask
        self._count_calls = count_calls
        self._clock = clock
        self._pids: tuple[int, ...] = (pid,)
        self._software: list[SoftwareCounters] = []
        self._calls: list[SyscallCounters] = []
        self._taken = _Taken()

    def __enter__(self) -> Self:
        """Attach the counters. Raises NodeGone."""
        try:
            self._attach()
            self._taken.own_before = self._own()
            self._taken.memory_start = family.memory(self._pids)
        except ProcessLookupError as error:
            self._close()
            raise NodeGone(str(error)) from error
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *unused: object) -> None:
        self._close()

    @property
    def lacking(self) -> tuple[str, ...]:
        """What could not be counted here, and why."""
        return tuple(self._taken.lacking)

    def start(self) -> None:
        """The window begins. A node that is gone is found out at the end."""
        self._taken.start = self._sample(own_first=True)
        for counters in (*self._software, *self._calls):
            counters.start()

    def end(self) -> None:
        """The window ends."""
        for counters in (*self._calls, *self._software):
            counters.stop()
        self._taken.end = self._sample(own_first=False)

    def finish(self) -> None:
        """Takes what must be taken once nothing is under way any more. Raises NodeGone."""
        if self._software:
            self._taken.task_clock_ns = sum(one.read().task_clock_ns for one in self._software)
        if self._taken.calls_before is not None:
            now = summed([counters.read() for counters in self._calls])
            self._taken.calls = difference(now, self._taken.calls_before)
        try:
            self._taken.own_after = self._own()
            self._taken.memory_end = family.memory(self._pids)
        except ProcessLookupError as error:
            raise NodeGone(str(error)) from error
        if any(difference.fell for difference in (self._own_in_window(), self._own_around())):
            self._distrust("told of less than before")
            self._taken.distrusted = True

    def counts(self) -> results.NodeCounts:
        """The node over the window; parts that could not be taken are null. After `finish`."""
        taken = self._taken
        own = self._own_in_window()
        said = taken.own_after or taken.own_before or {}
        return results.NodeCounts(
            pid=self._pid,
            cpu=self._cpu(),
            switches=_switches(taken),
            memory=_memory(taken),
            syscalls=self._syscalls(own),
            wakeups=own.number("wakeups"),
            fill={side: own.counts("fill", side) for side in ("wire", "tap")} if own.told else {},
            waited_ns=own.number("waited_ns"),
            rx_frames=own.sides("rx_frames"),
            tx_frames=own.sides("tx_frames"),
            handler=said.get("handler"),
            batch=said.get("batch"),
            engines={
                side: results.Engine(
                    requested=str(engine["requested"]),
                    used=str(engine["used"]),
                    why=None if engine.get("why") is None else str(engine["why"]),
                )
                for side, engine in said.get("engines", {}).items()
            },
            drops=self.drops() or {},
        )

    def drops(self) -> dict[str, int] | None:
        """What the node dropped between enter and `finish`, by cause; None if it does not tell."""
        own = self._own_around()
        return own.counts("drops") if own.told else None

    def machine(self) -> list[results.CpuUse]:
        """Every CPU of the machine over the window."""
        start, end = self._taken.start, self._taken.end
        if start is None or end is None:
            return []
        return [
            results.CpuUse(
                cpu=number,
                busy_ns=used.busy_ns,
                user_ns=used.user_ns,
                system_ns=used.system_ns,
                irq_ns=used.irq_ns,
                softirq_ns=used.softirq_ns,
                steal_ns=used.steal_ns,
                idle_ns=used.idle_ns,
            )
            for number, used in sorted(cpu.machine_since(end.machine, start.machine).items())
        ]

    def _own(self) -> Mapping[str, Any] | None:
        told = self._ask()
        if told.nonsense is not None:
            self._distrust(told.nonsense)
        return told.stats

    def _own_in_window(self) -> _Difference:
        start, end = self._taken.start, self._taken.end
        if start is None or end is None or self._taken.distrusted:
            return _Difference(None, None)
        return _Difference(start.own, end.own)

    def _own_around(self) -> _Difference:
        if self._taken.distrusted:
            return _Difference(None, None)
        return _Difference(self._taken.own_before, self._taken.own_after)

    def _distrust(self, why: str) -> None:
        self._taken.lacking.append(f"what {self.name} counts itself: it {why}")

    def _attach(self) -> None:
        self._pids = family.members(self._pid)
        try:
            for pid in self._pids:
                with self._may_be_gone(pid):
                    self._software.append(SoftwareCounters(pid))
        except Lacking as error:
            self._taken.lacking.append(f"task-clock: {error}")
        if self._count_calls is not None:
            try:
                for pid in self._pids:
                    with self._may_be_gone(pid):
                        self._calls.append(self._count_calls.of(pid))
                self._taken.calls_before = summed([one.read() for one in self._calls])
            except Lacking as error:
                self._taken.lacking.append(f"system calls: {error}")

    def _may_be_gone(self, pid: int) -> AbstractContextManager[None]:
        """What a node has started may end at any time; the node itself may not."""
        return nullcontext() if pid == self._pid else suppress(ProcessLookupError)

    def _sample(self, *, own_first: bool) -> _Sample | None:
        """None once the node is gone; its own counts stand farthest from the window."""
        own = self._own() if own_first else None
        try:
            processes = family.sample(self._pids)
        except ProcessLookupError:
            return None
        machine, at_ns = cpu.machine_cpus(), self._clock()
        if not own_first:
            own = self._own()
        return _Sample(processes=processes, machine=machine, own=own, at_ns=at_ns)

    def _cpu(self) -> results.Cpu | None:
        start, end = self._taken.start, self._taken.end
        if start is None or end is None:
            return None
        used = family.cpu_since(end.processes, start.processes)
        exact = self._taken.task_clock_ns
        source = "perf task-clock"
        # A process that has ended meanwhile is in perf's count alone.
        too_much = start.processes.keys() == end.processes.keys() and (
            exact is not None and exact > used.total_ns * _MOST_APART + _AT_THE_ENDS_NS
        )
        if exact is None or too_much:
            exact, source = used.total_ns, "CPU-time clock of the process"
        return results.Cpu(
            task_clock_ns=exact,
            user_ns=used.user_ns,
            system_ns=used.system_ns,
            window_ns=end.at_ns - start.at_ns,
            source=source,
            run_delay_ns=max(0, used.run_delay_ns),
        )

    def _syscalls(self, own: _Difference) -> results.Syscalls | None:
        said = own.counts("syscalls") if own.told else None
        counted = self._taken.calls
        if counted is None:
            return None if said is None else results.Syscalls(node=said, classes=_classes(said))
        kernel, aside = _data_plane(counted)
        return results.Syscalls(
            kernel=kernel,
            aside=aside,
            total=counted.total,
            by_side={
                str(side): {name: n for name, n in names.items() if n}
                for side, names in counted.by_side.items()
            },
            node=said,
            classes=_classes({**kernel, **aside, **(said or {})}),
            method=counted.method,
            complete=counted.complete,
        )

    def _close(self) -> None:
        for calls in self._calls:
            calls.stop()
        for software in self._software:
            software.close()


class _Difference:
    """What a node's own counts grew by between two answers; nothing if either is missing."""

    def __init__(self, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> None:
        self._before = before or {}
        self._after = after or {}
        self.told = before is not None and after is not None

    @property
    def fell(self) -> bool:
        """Whether anything became less, which nothing that counts does."""
        return self.told and any(
            int(after) < int(_leaf(self._before, path))
            for path, after in _leaves(self._after)
            if path[0] in _GROWING
        )

    def number(self, key: str) -> int | None:
        if not self.told or key not in self._after:
            return None
        return int(self._after[key]) - int(self._before.get(key, 0))

    def counts(self, *path: str) -> dict[str, int]:
        before, after = _at(self._before, path), _at(self._after, path)
        grown = {str(name): int(n) - int(before.get(name, 0)) for name, n in after.items()}
        return {name: n for name, n in grown.items() if n > 0}

    def sides(self, key: str) -> dict[str, int]:
        if not self.told:
            return {}
        return {
            side: int(self._after[side][key]) - int(self._before[side][key])
            for side in ("wire", "tap")
            if key in self._after.get(side, {}) and key in self._before.get(side, {})
        }


def _leaves(
    values: Mapping[str, Any], above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every number in there, and where."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*above, name))
        elif isinstance(value, int):
            yield (*above, name), value


def _leaf(values: Mapping[str, Any], path: tuple[str, ...]) -> int:
    return int(_at(values, path[:-1]).get(path[-1], 0))


def _at(values: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any]:
    for step in path:
        values = values.get(step, {})
    return values


def _data_plane(counted: CallCounts) -> tuple[dict[str, int], dict[str, int]]:
    """The calls of the data plane, and those on other descriptors where descriptors were told."""
    kernel: dict[str, int] = {}
    aside: dict[str, int] = {}
    for name, count in counted.by_name.items():
        on_sides = sum(names.get(name, 0) for names in counted.by_side.values())
        if counted.by_side and class_of(name) in (CallClass.RECEIVE, CallClass.SEND):
            kernel[name], aside[name] = on_sides, count - on_sides
        else:
            kernel[name] = count
    return ({k: n for k, n in kernel.items() if n}, {k: n for k, n in aside.items() if n})


def _classes(names: Mapping[str, int]) -> dict[str, results.CallClass]:
    return {name: class_of(name).value for name in names if name in CLASSES}


def _switches(taken: _Taken) -> results.Switches | None:
    if taken.start is None or taken.end is None:
        return None
    grown = family.switches_since(taken.end.processes, taken.start.processes)
    return results.Switches(
        voluntary=max(0, grown.voluntary), involuntary=max(0, grown.involuntary)
    )


def _memory(taken: _Taken) -> results.Memory | None:
    end = taken.memory_end
    if end is None:
        return None
    return results.Memory(
        pss_start_bytes=None if taken.memory_start is None else taken.memory_start.pss_bytes,
        pss_end_bytes=end.pss_bytes,
        private_end_bytes=end.private_bytes,
        rss_end_bytes=end.rss_bytes,
        rss_peak_bytes=end.rss_peak_bytes,
    )
