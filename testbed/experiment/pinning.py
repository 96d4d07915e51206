"""Which CPUs a run uses: the tester's, and those of the nodes under test.

Must not know what runs on them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from testbed.traffic.legs import TesterCpus


@dataclass(frozen=True, kw_only=True, slots=True)
class Pins:
    """The CPUs of the tester and of every node."""

    tester: TesterCpus
    node: tuple[int, ...]

    @property
    def tester_cpus(self) -> tuple[int, ...]:
        """All of the tester's, in order."""
        return tuple(sorted({*(self.tester.generator or ()), *(self.tester.sink or ())}))


def choose_pins(cpus: Sequence[int]) -> tuple[Pins, str | None]:
    """Pins for these CPUs, and what is wrong with them.

    Nodes are alone on theirs; generator and sink have one each where there are three.
    """
    if not cpus:
        raise ValueError("there is no CPU to run on")
    first, *others = cpus
    if not others:
        note = "only one CPU: the tester and what is under test share it"
        return Pins(tester=TesterCpus.one(first), node=(first,)), note
    if len(others) == 1:
        return Pins(tester=TesterCpus.one(first), node=(others[0],)), None
    tester = TesterCpus(generator=(first,), sink=(others[0],))
    return Pins(tester=tester, node=(others[1],)), None


@contextmanager
def pinned(cpus: Sequence[int]) -> Iterator[None]:
    """This thread on the tester's CPUs, so that it never runs on the node's."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
