"""Takes testbeds away: whole ones, half-made ones, and what was left of those without a directory.

Removed is only what carries our mark: namespaces that the journal names with their inode; processes
with the testbed's mark in their environment; and, where a run directory is gone or belongs to a
later testbed of that name, namespaces whose loopback has the mark of the lost one as its alias.
Must not know how a testbed is made.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from testbed import rundir
from testbed.errors import TestbedError
from testbed.interrupts import Interrupts
from testbed.kernel import mounts, netns, processes
from testbed.kernel.netlink import Kernel
from testbed.kernel.operations import MakeNamespace
from testbed.launch.client import Launcher, LauncherError, LauncherGone
from testbed.rundir import Busy, RunDir
from testbed.running import journal

_ALIAS: Final = "testbed "
"""What the alias of a loopback begins with, before the mark."""

_ROUNDS: Final = 20
"""Far more than a process that is being forked while its parent is killed could need."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Removed:
    """What was taken away, and in words what was found and stays.

    `left` is not ours. `remaining` is what should have gone and did not: what could not be removed,
    and processes that keep a namespace of ours alive without its name.
    """

    testbeds: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    processes: int = 0
    left: tuple[str, ...] = ()
    remaining: tuple[str, ...] = ()

    def __add__(self, other: Removed) -> Removed:
        """Both together."""
        return Removed(
            testbeds=tuple(dict.fromkeys(self.testbeds + other.testbeds)),
            namespaces=self.namespaces + other.namespaces,
            processes=self.processes + other.processes,
            left=self.left + other.left,
            remaining=self.remaining + other.remaining,
        )


def alias(run_dir: Path, nonce: str) -> str:
    """The alias that the loopback of every namespace of a testbed gets."""
    return _ALIAS + processes.mark(run_dir, nonce)


def remove(run: RunDir, *, grace_s: float = 2.0) -> Removed:
    """Take away everything of one testbed; call it while holding its lock.

    Nodes get `grace_s` to leave by themselves.

    What a damaged journal does not tell is found by its mark, once the directory is gone.

    :raises JournalError: its journal is of another version: nothing was touched.
    :raises OSError: something in its directory could not be removed.
    """
    try:
        state = journal.read(run.journal)
    except journal.Damaged:
        state = None
    ended = 0
    with suppress(LauncherGone, LauncherError), Launcher.connect(run, answer_s=3.0) as launcher:
        ended = sum(node.alive for node in launcher.status().values()) + 1
        launcher.shutdown(grace_s)
    ended += end_marked(run.path)
    gone = _remove_namespaces(state) if state is not None else Removed()
    netns.tidy_directory()
    # Nodes mount what they like; what those mounts show is not ours to remove.
    mounts.detach_below(run.path)
    left = tuple(f"{path} is none of ours" for path in rundir.remove(run))
    # A launcher that was only just being started when we looked finds its directory gone.
    ended += end_marked(run.path)
    return gone + Removed(testbeds=(run.name,), processes=ended, left=left)


def end_marked(run_dir: Path) -> int:
    """End every process of that testbed, also those that are being forked meanwhile; how many."""
    ended = 0
    for _ in range(_ROUNDS):
        found = processes.find_marked(run_dir)
        if not found:
            break
        ended += processes.end(found, grace_s=0.5)
    return ended


def _remove_namespaces(state: journal.State) -> Removed:
    removed: list[str] = []
    left: list[str] = []
    inodes: dict[int, str] = {}
    for entry in state.entries.values():
        if isinstance(entry.operation, MakeNamespace) and entry.inode is not None:
            name = entry.operation.netns
            # Nothing of before a boot is there any more, but for empty files on a disk.
            inode = entry.inode if state.header.of_this_boot else -1
            inodes[inode] = name
            try:
                if netns.remove(name, inode):
                    removed.append(name)
            except netns.ForeignNamespace as error:
                left.append(str(error))
    inside = [
        f"process {found.pid} ({found.command}) still runs in what was {inodes[found.inode]}"
        for found in processes.inside(inodes)
    ]
    return Removed(namespaces=tuple(removed), left=tuple(left), remaining=tuple(inside))


def remove_orphans(base: Path, name: str | None = None) -> Removed:
    """Take away what is left of testbeds in `base` (only of `name`) whose directory is gone."""
    removed: list[str] = []
    left: list[str] = []
    ended = 0
    for _ in range(_ROUNDS):
        orphans = [
            process
            for process in processes.find_orphans(base)
            if name in (None, process.run_dir.name)
        ]
        if not orphans:
            break
        ended += processes.end(orphans, grace_s=0.5)
    candidates = [
        found
        for found in netns.names()
        if found.startswith("tb." if name is None else f"tb.{name}.")
    ]
    if candidates:
        with Kernel() as kernel:
            for candidate in candidates:
                inode = netns.inode_of(candidate)
                said = kernel.read_mark(candidate) if inode else None
                if inode and said is not None and _is_orphan(said, base):
                    try:
                        netns.remove(candidate, inode)
                        removed.append(candidate)
                    except netns.ForeignNamespace as error:
                        left.append(str(error))
    netns.tidy_directory()
    return Removed(
        testbeds=tuple(sorted({found.split(".")[1] for found in removed})),
        namespaces=tuple(removed),
        processes=ended,
        left=tuple(left),
    )


def _is_orphan(said: str, base: Path) -> bool:
    """Whether an alias is the mark of a testbed of ours that is no more.

    Read after the alias: a testbed that is coming up has written its journal before it makes any
    namespace.
    """
    if not said.startswith(_ALIAS):
        return False
    path, _, nonce = said.removeprefix(_ALIAS).rpartition(":")
    if Path(path).parent != base:
        return False
    try:
        state = journal.read(RunDir(Path(path)).journal)
    except journal.JournalError:
        return False
    return state is None or state.header.nonce != nonce


def down(name: str) -> Removed:
    """Take the testbed `name` away, whatever state it is in; nothing to do is fine too.

    A signal that comes meanwhile takes effect when it is gone.

    :raises Busy: another command is working on it.
    :raises OSError: something in its directory could not be removed.
    """
    run = rundir.run_dir(name)
    removed = Removed()
    with Interrupts():
        with rundir.locked(run) as there:
            if there:
                removed = remove(run)
        return removed + remove_orphans(run.path.parent, name)


def down_all() -> Removed:
    """Take all testbeds away, and all that crashed commands left of any.

    One that another command is working on stays, and is named in `left`; what keeps one from being
    removed keeps no other, and is in `remaining`.
    """
    removed = Removed()
    with Interrupts() as interrupts:
        for run in rundir.all_run_dirs():
            interrupts.check()
            try:
                with rundir.locked(run) as there:
                    if there:
                        removed += remove(run)
            except (Busy, journal.JournalError) as error:
                removed = replace(removed, left=(*removed.left, str(error)))
            except (OSError, TestbedError) as error:
                remaining = f"testbed {run.name}: {error}"
                removed = replace(removed, remaining=(*removed.remaining, remaining))
        removed += remove_orphans(rundir.base())
        rundir.tidy_base(rundir.base())
        return removed
