"""Processes that a node's program has left behind, found and ended by the launcher.

A process that leaves its session and whose parent ends would be nobody's. The launcher is its
parent then (a child subreaper, prctl(2)), so that nothing of a node outlives the node, whatever it
has done with its environment. Whose it is tells the network it is in: each node has its own. Where
it has gone to another network, its environment tells, as long as it has kept that.

A shell that somebody has opened in a node is no descendant of the launcher, and is never found.
Must not know nodes. Imported by the launcher, whose every import each node carries in memory.
Source: proc_pid_tid_children(5), proc_pid_stat(5).
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from testbed.kernel.processes import NODE_VARIABLE

_PR_SET_CHILD_SUBREAPER: Final = 36
_libc = ctypes.CDLL(None, use_errno=True)

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Stray:
    """A child that was another's; `network` is the inode of its network namespace.

    `node` is what its environment says. It is not reaped but by us, so `pid` is its own.
    """

    pid: int
    network: int | None
    node: str | None
    command: str

    def __str__(self) -> str:
        return f"{self.pid} ({self.command})"

    def kill(self) -> None:
        """What it has started itself is then our child, and found next."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def adopt() -> None:
    """From now on whatever below this process loses its parent becomes its child."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_CHILD_SUBREAPER): {os.strerror(number)}")


def find(known: Container[int]) -> list[Stray]:
    """Every living child of this process whose pid is not `known`.

    One that ends while it is looked at may just have handed its own children on to us: then all are
    looked at again, so that an empty list means that there is none.
    """
    dead: set[int] = set()
    while True:
        found = {pid: _look_at(pid) for pid in _children() if pid not in known and pid not in dead}
        ended = {pid for pid, stray in found.items() if stray is None}
        if not ended:
            return [stray for stray in found.values() if stray is not None]
        dead |= ended


def reap(known: Mapping[int, T], at_once: int) -> tuple[T | None, bool]:
    """Let go of strays that have ended, up to the first `known` child that has; that one returns.

    It is for whoever knows it to let go. The second value tells whether there may be more.
    """
    for _ in range(at_once):
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return None, False
        if found is None:
            return None, False
        if found.si_pid in known:
            return known[found.si_pid], True
        os.waitpid(found.si_pid, 0)
    return None, True


def _network_of(thread: int) -> int | None:
    """The inode of the network namespace that it is in; None if it is gone."""
    try:
        return os.stat(f"/proc/{thread}/ns/net").st_ino
    except OSError:
        return None


def _children() -> Iterator[int]:
    own = os.getpid()
    try:
        # The main thread's: it alone forks, and what is adopted becomes its child.
        text = Path(f"/proc/{own}/task/{own}/children").read_text()
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
        yield from (pid for pid in pids if _stat(pid)[1:2] == [str(own)])
    else:
        yield from map(int, text.split())


def _stat(pid: int) -> list[str]:
    """The state, the parent, and so on; empty if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    # The name in the second field may hold anything, also a parenthesis.
    return text.rpartition(")")[2].split()


def _look_at(pid: int) -> Stray | None:
    state = _stat(pid)[:1]
    try:
        threads = [int(entry) for entry in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return None
    # A process lives on in others when its first thread has ended.
    if not state or (state[0] in "ZX" and len(threads) < 2):
        return None
    networks = (_network_of(thread) for thread in threads)
    network = next((one for one in networks if one is not None), None)
    node, command = None, "?"
    prefix = f"{NODE_VARIABLE}=".encode()
    with suppress(OSError):
        for variable in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if variable.startswith(prefix):
                node = os.fsdecode(variable[len(prefix) :])
        command = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    return Stray(pid=pid, network=network, node=node, command=command)
