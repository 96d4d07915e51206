"""Kernel counters of system calls, kept as long as a node lives and given back in the background.

Giving a set of tracepoint counters back takes the kernel most of a second (it waits until no CPU
can be inside any of the tracepoints), so it is not done between two stretches of counting. Must not
know what is counted for.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from testbed.measure.counters import CallCounts, Side, SyscallCounters, descriptor_sides


class CallCounting:
    """The counters of every process that was asked for, by pid. Context manager."""

    def __init__(self) -> None:
        self._open: dict[int, SyscallCounters] = {}
        self._closing: list[threading.Thread] = []

    def of(self, pid: int) -> SyscallCounters:
        """The counters of a process: off, but with what they have counted so far.

        :raises ProcessLookupError: there is no such process.
        :raises Lacking: tracepoints are out of reach.
        """
        if pid not in self._open:
            self._open[pid] = SyscallCounters(pid, sides=descriptor_sides(pid))
        return self._open[pid]

    def forget(self) -> None:
        """The processes are gone, or not of interest any more."""
        for counters in self._open.values():
            thread = threading.Thread(target=counters.close, name="counters")
            thread.start()
            self._closing.append(thread)
        self._open.clear()

    def close(self) -> None:
        """Give everything back, and wait for that."""
        self.forget()
        for thread in self._closing:
            thread.join()
        self._closing.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def summed(counts: Sequence[CallCounts]) -> CallCounts:
    """What several processes made together; there is at least one."""
    by_name: Counter[str] = Counter()
    by_side: dict[Side, Counter[str]] = {}
    for one in counts:
        by_name.update(one.by_name)
        for side, names in one.by_side.items():
            by_side.setdefault(side, Counter()).update(names)
    totals = [one.total for one in counts if one.total is not None]
    return CallCounts(
        total=sum(totals) if len(totals) == len(counts) else None,
        by_name=dict(by_name),
        by_side={side: dict(names) for side, names in by_side.items()},
        method=counts[0].method,
        complete=all(one.complete for one in counts),
    )


def difference(now: CallCounts, before: CallCounts) -> CallCounts:
    """What was counted after `before`."""
    return replace(
        now,
        total=None if now.total is None or before.total is None else now.total - before.total,
        by_name={name: n - before.by_name.get(name, 0) for name, n in now.by_name.items()},
        by_side={
            side: {name: n - before.by_side.get(side, {}).get(name, 0) for name, n in names.items()}
            for side, names in now.by_side.items()
        },
    )
