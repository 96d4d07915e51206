"""Carries a difference of plans out: each operation written to the journal, then done.

Must not know where a plan comes from, nor when a testbed is up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from testbed.errors import TestbedError
from testbed.interrupts import Interrupts
from testbed.kernel import netns
from testbed.kernel.netlink import Kernel
from testbed.kernel.operations import Hear, MakeCable, MakeNamespace, MakePort
from testbed.launch.client import Launcher, LauncherError, NodeStatus
from testbed.running.journal import Entry, Journal
from testbed.running.plan import Difference, Operation, StartNode

Progress = Callable[[str, int, int], None]
"""Told the phase, how many of its steps are done, and how many there are."""

LEAVE_S: Final = 2.0
"""How long a node that is stopped has to leave by itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """How long one phase of bringing a testbed up took, and over how many things."""

    name: str
    seconds: float
    count: int


class Timeline:
    """Phases as they go by, each told to `progress`."""

    def __init__(self, progress: Progress | None) -> None:
        """Nothing has happened yet."""
        self._progress = progress
        self.phases: list[Phase] = []

    @contextmanager
    def phase(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        """Time the body; it calls what it gets with the number of steps done so far."""
        begun = time.monotonic()
        self.tell(name, 0, total)
        yield lambda done: self.tell(name, done, total)
        self.phases.append(Phase(name=name, seconds=time.monotonic() - begun, count=total))

    def tell(self, name: str, done: int, total: int) -> None:
        """Pass a step on."""
        if self._progress is not None:
            self._progress(name, done, total)


class Applier:
    """Undoes and does operations of one testbed, whose lock the caller holds."""

    def __init__(
        self,
        *,
        kernel: Kernel,
        journal: Journal,
        mark: str,
        entries: Mapping[str, Entry],
        timeline: Timeline,
        interrupts: Interrupts,
        restart: bool = False,
    ) -> None:
        """`entries` is what the journal says is there, `mark` what namespaces are marked with.

        With `restart` the launcher starts nodes again that die.
        """
        self._kernel = kernel
        self._journal = journal
        self._mark = mark
        self._inodes = {key: entry.inode for key, entry in entries.items()}
        self._timeline = timeline
        self._interrupts = interrupts
        self._restart = restart

    def undo(self, difference: Difference, launcher: Launcher | None) -> None:
        """Take away what is not wanted any more. Without a launcher no node runs."""
        total = len(difference.shrink) + len(difference.undo)
        if not total:
            return
        with self._timeline.phase("removing", total):
            nodes = [op for op in difference.undo if isinstance(op, StartNode)]
            if nodes:
                if launcher is not None:
                    names = [node.spec.name for node in nodes]
                    launcher.stop(names, LEAVE_S)
                    launcher.forget(names)
                self._journal.undone(*(node.key for node in nodes))
            for hearing in difference.shrink:
                self._make(hearing)
            for operation in difference.undo:
                if not isinstance(operation, StartNode):
                    self._take_away(operation)
                    self._journal.undone(operation.key)

    def _take_away(self, operation: Operation) -> None:
        match operation:
            case MakeNamespace():
                if operation.medium:
                    self._kernel.forget_medium(operation.netns)
                inode = self._inodes.get(operation.key)
                if inode is not None:
                    netns.remove(operation.netns, inode)
            case MakeCable():
                self._kernel.remove_radio(operation.netns[0])
                self._kernel.remove_radio(operation.netns[1])
            case MakePort():
                self._kernel.remove_radio(operation.netns)
                self._kernel.remove_port(operation.medium, operation.port)
            case _:
                pass  # hearing goes with its port

    def make(self, operations: Sequence[Operation]) -> None:
        """Make namespaces, radios and hearing, in their order; nodes are left to `start`."""
        names: dict[type[Operation], str] = {
            MakeNamespace: "namespaces",
            MakeCable: "radios",
            MakePort: "radios",
            Hear: "hearing",
        }
        wanted = [op for op in operations if not isinstance(op, StartNode)]
        for name, group in groupby(wanted, key=lambda op: names[type(op)]):
            todo = list(group)
            with self._timeline.phase(name, len(todo)) as step:
                for number, operation in enumerate(todo, start=1):
                    self._interrupts.check()
                    try:
                        self._make(operation)
                    except OSError as error:
                        raise TestbedError(f"{operation.key}: {error}") from error
                    step(number)

    def _make(self, operation: Operation) -> None:
        match operation:
            case MakeNamespace():

                def record(inode: int) -> None:
                    self._inodes[operation.key] = inode
                    self._journal.begin(operation, inode=inode)

                self._kernel.make_namespace(operation, mark=self._mark, record=record)
            case MakeCable():
                self._journal.begin(operation)
                self._kernel.make_cable(operation)
            case MakePort():
                self._journal.begin(operation)
                self._kernel.make_port(operation)
            case Hear():
                self._journal.begin(operation)
                self._kernel.hear(operation)
            case StartNode():
                raise AssertionError("nodes are started by the launcher")
        self._journal.done(operation.key)

    def start(self, operations: Sequence[Operation], launcher: Launcher, wait_s: float) -> None:
        """Start nodes, OBUs and then RSUs, waiting each time until they are ready or dead.

        After `wait_s` in all it goes on without those that are not.
        """
        deadline = time.monotonic() + wait_s
        for kind in ("obu", "rsu"):
            nodes = [op for op in operations if isinstance(op, StartNode) and op.kind == kind]
            if nodes:
                with self._timeline.phase(f"{kind}s", len(nodes)) as step:
                    self._start(nodes, launcher, deadline, step)

    def _start(
        self,
        nodes: Sequence[StartNode],
        launcher: Launcher,
        deadline: float,
        step: Callable[[int], None],
    ) -> None:
        self._interrupts.check()
        for node in nodes:
            self._journal.begin(node)
        try:
            launcher.start([node.spec for node in nodes], restart=self._restart)
        except LauncherError as error:
            raise LauncherError(
                f"{error} (nodes {', '.join(n.spec.name for n in nodes)})"
            ) from error
        self._journal.done(*(node.key for node in nodes))

        def settled(status: Mapping[str, NodeStatus]) -> bool:
            done = sum(status[node.spec.name].state != "starting" for node in nodes)
            step(done)
            return done == len(nodes)

        launcher.wait(settled, max(0.0, deadline - time.monotonic()), check=self._interrupts.check)
