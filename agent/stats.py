"""What an agent has counted, as one JSON document.

Must not know sockets or loops: it is given the parts that count, and asks them. The same document
answers on the control socket and is written when the agent ends.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from agent.config import AgentConfig
from agent.confinement import Confined
from agent.driver import Driver
from agent.engines.base import Engine, EngineCounters, Side
from agent.engines.registry import Selection
from agent.gathering import SLEEP_CALL
from agent.linux.queues import Depth
from agent.protocol.messages import MessageKind
from agent.protocol.node import NodeSnapshot
from agent.protocol.selection import Candidate

SCHEMA: Final = 1
_NO_FRAMES: Final = frozenset({"", "poll"})
"""Under which an engine counts what neither receives nor sends."""


class CountingNode(Protocol):
    """What the document needs of a node."""

    mac: bytes

    @property
    def drops(self) -> Mapping[Any, int]: ...
    @property
    def messages(self) -> Mapping[MessageKind, int]: ...
    def snapshot(self, now_ns: int) -> NodeSnapshot: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class SideSource:
    """One side: its engine, how it came to be chosen, and what the kernel dropped there so far."""

    engine: Engine
    selection: Selection
    kernel_drops: Callable[[], int]
    queues: Callable[[], Mapping[str, Depth] | None]


class Stats:
    """Puts the document together; `sides` in the order in which they are listed.

    `confined` says what holds the process, beside its having no rights.
    """

    def __init__(
        self,
        config: AgentConfig,
        node: CountingNode,
        driver: Driver,
        sides: Mapping[Side, SideSource],
        *,
        confined: Confined,
    ) -> None:
        self._config = config
        self._confined = confined
        self._node = node
        self._driver = driver
        self._sides = sides
        self._start_ns = time.monotonic_ns()

    def document(self) -> dict[str, Any]:
        """Everything as of now; made of JSON's own types."""
        now_ns = time.monotonic_ns()
        snapshot = self._node.snapshot(now_ns)
        driver = self._driver
        syscalls: Counter[str] = Counter({"epoll_wait": driver.wakeups})
        if driver.waits:
            syscalls[SLEEP_CALL] += driver.waits
        drops: Counter[str] = Counter({str(k): n for k, n in self._node.drops.items() if n})
        totals: dict[str, Any] = {}
        saved: dict[str, int] = {}
        for side, source in self._sides.items():
            counters = source.engine.read_counters()
            saved[str(side)] = saved_syscalls(counters)
            syscalls.update(counters.syscalls)
            drops.update({f"{side}_{cause}": n for cause, n in counters.drops.items()})
            totals[str(side)] = {
                "rx_frames": counters.rx_frames,
                "rx_bytes": counters.rx_bytes,
                "tx_frames": counters.tx_frames,
                "tx_bytes": counters.tx_bytes,
                "kernel_drops": source.kernel_drops(),
            }
        return {
            "schema": SCHEMA,
            "name": self._config.name,
            "kind": self._config.kind,
            "pid": os.getpid(),
            "mac": self._node.mac.hex(":"),
            "uptime_ns": now_ns - self._start_ns,
            "landlock": self._confined.landlock,
            "user_namespaces": self._confined.user_namespaces,
            "handler": "batched" if driver.batched else "per-packet",
            "batch": self._config.batch_limit if driver.batched else 1,
            "adaptive_batch": {
                str(side): {"size": one.size, "fill": round(one.fill, 4)}
                for side, one in driver.adaptive.items()
            },
            "engines": {
                str(side): {
                    "requested": source.selection.requested,
                    "used": source.selection.used,
                    "why": source.selection.why,
                }
                for side, source in self._sides.items()
            },
            **totals,
            "syscalls": dict(syscalls),
            "saved_syscalls": saved,
            "wakeups": driver.wakeups,
            "fill": {
                str(side): {
                    str(n): times
                    for n, times in enumerate(source.engine.counters.fill)
                    if n and times
                }
                for side, source in self._sides.items()
            },
            "carried": {
                str(side): {
                    str(n): times for n, times in sorted(source.engine.counters.carried.items())
                }
                for side, source in self._sides.items()
            },
            "queues": {str(side): _queues(source.queues()) for side, source in self._sides.items()},
            "messages": {str(kind): n for kind, n in self._node.messages.items() if n},
            "drops": dict(drops),
            "waited_ns": driver.waited_ns,
            "coalescing": self._coalescing(),
            "upstream": upstream_document(snapshot.upstream),
            "candidates": [upstream_document(one) for one in snapshot.candidates],
            "routes": [
                {
                    "node": route.node.hex(":"),
                    "next_hop": route.next_hop.hex(":"),
                    "hops": route.hops,
                    "score_us": route.score_us,
                }
                for route in snapshot.routes
            ],
            "clients": len(snapshot.clients),
        }

    def _coalescing(self) -> dict[str, Any]:
        driver = self._driver
        waiting = driver.waiting
        return {
            "mode": driver.coalesce,
            "max_wait_us": self._config.max_wait_us,
            "waits": driver.waits,
            "decisions": dict(driver.decisions),
            "late_us": None if waiting is None else waiting.lateness_ns / 1000,
        }


def saved_syscalls(counters: EngineCounters) -> int:
    """Calls that one for each frame would have taken, less those that an engine took.

    Below zero where calls found nothing, or a frame took several.
    """
    frames = counters.rx_frames + counters.tx_frames
    # Frames that left within another one were sent, too.
    frames += sum((held - 1) * times for held, times in counters.carried.items())
    return frames - sum(n for name, n in counters.syscalls.items() if name not in _NO_FRAMES)


def _queues(found: Mapping[str, Depth] | None) -> dict[str, dict[str, int]] | None:
    if found is None:
        return None
    return {
        name: {"bytes": depth.used_bytes, "limit_bytes": depth.limit_bytes}
        for name, depth in found.items()
    }


def upstream_document(candidate: Candidate | None) -> dict[str, Any] | None:
    """A candidate as JSON has it; None stays None."""
    if candidate is None:
        return None
    return {
        "mac": candidate.mac.hex(":"),
        "rsu": candidate.rsu.hex(":"),
        "hops": candidate.hops,
        "score_us": candidate.score_us,
    }


def _owns(uid: int, directory_fd: int) -> bool:
    status = os.fstat(directory_fd)
    return status.st_uid == uid and status.st_mode & 0o300 == 0o300


class StatsFile:
    """Where the document goes at the end: opened while there are rights, written without any.

    The directory is held open, so that the file can be replaced in one step (rename) even where
    its path can no longer be walked. Where the user that the process is about to become (`run_as`)
    may not write in it, the file itself is opened too, and filled in place.

    :raises OSError: no such directory, or no right to write there.
    """

    def __init__(self, path: str, *, run_as: tuple[int, int] | None) -> None:
        directory, self._name = os.path.split(os.path.abspath(path))
        self._directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._file_fd: int | None = None
        try:
            if run_as is not None and not _owns(run_as[0], self._directory_fd):
                flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
                self._file_fd = os.open(self._name, flags, 0o644, dir_fd=self._directory_fd)
            elif not os.access(".", os.W_OK | os.X_OK, dir_fd=self._directory_fd):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        except OSError:
            os.close(self._directory_fd)
            raise

    def write(self, document: Mapping[str, Any]) -> None:
        """Replace the file's content by `document`."""
        text = json.dumps(document, indent=1).encode() + b"\n"
        temporary = f".{self._name}.{os.getpid()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(temporary, flags, 0o644, dir_fd=self._directory_fd)
        except OSError:
            if self._file_fd is None:
                raise
            os.ftruncate(self._file_fd, 0)
            os.pwrite(self._file_fd, text, 0)
            return
        try:
            os.write(fd, text)
        finally:
            os.close(fd)
        os.rename(
            temporary,
            self._name,
            src_dir_fd=self._directory_fd,
            dst_dir_fd=self._directory_fd,
        )

    def close(self) -> None:
        if self._file_fd is not None:
            os.close(self._file_fd)
        os.close(self._directory_fd)
