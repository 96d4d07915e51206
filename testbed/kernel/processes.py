"""Processes of a testbed, found by the mark in their environment and ended by it.

Every process that is started carries `TESTBED_MARK=<run dir>:<nonce>`, and so do its children; no
other process is ever signalled. Must not know what the processes do.
Source: proc_pid_environ(5), proc_pid_stat(5), pidfd_open(2).
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MARK_VARIABLE: Final = "TESTBED_MARK"
NODE_VARIABLE: Final = "TESTBED_NODE"
"""Set for a program that is a node: which. So it is known whose is what it leaves running."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Marked:
    """A living process of ours: `pid` with `start_ticks` is one process beyond doubt."""

    pid: int
    start_ticks: int
    run_dir: Path
    nonce: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Inside:
    """A process, whosever it is, that has its network in one of our namespaces."""

    pid: int
    command: str
    inode: int


def mark(run_dir: Path, nonce: str) -> str:
    """The mark that processes of that testbed carry."""
    return f"{run_dir}:{nonce}"


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name in the second field may hold anything, also a parenthesis.
    return int(text.rpartition(")")[2].split()[19])


def _pids() -> Iterator[int]:
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            yield int(entry)


def _read_mark(pid: int) -> Marked | None:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    prefix = f"{MARK_VARIABLE}=".encode()
    for variable in environment.split(b"\0"):
        if variable.startswith(prefix):
            path, _, nonce = os.fsdecode(variable[len(prefix) :]).rpartition(":")
            ticks = start_ticks(pid)
            if path and ticks is not None:
                return Marked(pid=pid, start_ticks=ticks, run_dir=Path(path), nonce=nonce)
    return None


def find_marked(run_dir: Path, nonce: str | None = None) -> list[Marked]:
    """The living processes of that testbed; with `nonce` only those of that one life of it."""
    return [
        found
        for pid in _pids()
        if pid != os.getpid()
        and (found := _read_mark(pid)) is not None
        and found.run_dir == run_dir
        and nonce in (None, found.nonce)
    ]


def find_orphans(base: Path) -> list[Marked]:
    """The living processes of testbeds in `base` whose run directory is gone."""
    return [
        found
        for pid in _pids()
        if pid != os.getpid()
        and (found := _read_mark(pid)) is not None
        and found.run_dir.parent == base
        and not found.run_dir.exists()
    ]


def _open(process: Marked) -> int | None:
    """A descriptor of exactly this process; None if it is gone."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return None
    # The descriptor cannot move to another process, so what holds now holds for good.
    if _read_mark(process.pid) == process:
        return descriptor
    os.close(descriptor)
    return None


def end(processes: Collection[Marked], *, grace_s: float) -> int:
    """End these processes: SIGTERM, after `grace_s` SIGKILL, and wait until they are gone.

    Returns how many there still were.
    """
    open_ones = [pidfd for process in processes if (pidfd := _open(process)) is not None]
    ended = len(open_ones)
    try:
        waiting = set(open_ones)
        for number, limit_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
            if number == signal.SIGTERM and grace_s <= 0:
                continue
            for descriptor in waiting:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, number)
            waiting = _wait(waiting, limit_s)
    finally:
        for descriptor in open_ones:
            os.close(descriptor)
    return ended


def _wait(descriptors: set[int], limit_s: float) -> set[int]:
    """Wait until these processes are gone; those that are not in time return (pidfd_open(2))."""
    deadline = time.monotonic() + limit_s
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    left = set(descriptors)
    while left:
        remaining_ms = (deadline - time.monotonic()) * 1000
        if remaining_ms <= 0:
            break
        for descriptor, _ in poll.poll(remaining_ms):
            poll.unregister(descriptor)
            left.discard(descriptor)
    return left


def inside(inodes: Collection[int]) -> list[Inside]:
    """Every process whose network is one of these namespaces, marked or not."""
    wanted = {f"net:[{inode}]": inode for inode in inodes}
    found = []
    for pid in _pids():
        try:
            inode = wanted.get(os.readlink(f"/proc/{pid}/ns/net"))
            if inode is not None:
                command = Path(f"/proc/{pid}/comm").read_text().strip()
                found.append(Inside(pid=pid, command=command, inode=inode))
        except OSError:
            continue
    return found
