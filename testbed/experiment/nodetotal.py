"""What several nodes cost together, from what each of them costs.

A part that one of them lacks is missing in the total: no data is not zero. Must not know where the
counts come from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeVar

from testbed import results


def together(nodes: Sequence[results.NodeCounts]) -> results.NodeCounts:
    """What several nodes cost together. What they sent on is left out: each sends every packet."""
    if len(nodes) == 1:
        return nodes[0]
    return results.NodeCounts(
        cpu=_sum_cpu([node.cpu for node in nodes]),
        switches=_sum_model(results.Switches, [node.switches for node in nodes]),
        memory=_sum_model(results.Memory, [node.memory for node in nodes]),
        syscalls=_sum_calls([node.syscalls for node in nodes]),
        wakeups=_sum([node.wakeups for node in nodes]),
        waited_ns=_sum([node.waited_ns for node in nodes]),
        drops=_sum_counts([node.drops for node in nodes]),
    )


_Summed = TypeVar("_Summed", results.Switches, results.Memory)


def _sum(parts: Sequence[int | None]) -> int | None:
    """The sum; None if a part is missing."""
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _sum_counts(parts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total)


def _sum_model(model: type[_Summed], parts: Sequence[_Summed | None]) -> _Summed | None:
    if any(part is None for part in parts):
        return None
    return model.model_validate(
        {name: _sum([getattr(part, name) for part in parts]) for name in model.model_fields}
    )


def _sum_cpu(parts: Sequence[results.Cpu | None]) -> results.Cpu | None:
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return results.Cpu(
        task_clock_ns=_sum([part.task_clock_ns for part in known]),
        user_ns=_sum([part.user_ns for part in known]),
        system_ns=_sum([part.system_ns for part in known]),
        window_ns=max(part.window_ns for part in known),
        source=known[0].source,
        run_delay_ns=_sum([part.run_delay_ns for part in known]),
    )


def _sum_calls(parts: Sequence[results.Syscalls | None]) -> results.Syscalls | None:
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    kernel = [part.kernel for part in known if part.kernel is not None]
    node = [part.node for part in known if part.node is not None]
    return results.Syscalls(
        kernel=_sum_counts(kernel) if len(kernel) == len(known) else None,
        aside=_sum_counts([part.aside for part in known]),
        total=_sum([part.total for part in known]),
        node=_sum_counts(node) if len(node) == len(known) else None,
        classes={name: kind for part in known for name, kind in part.classes.items()},
        method=known[0].method,
        complete=all(part.complete for part in known),
    )
