"""Talks to the launcher of a testbed.

Must not know how the launcher does anything, only what can be asked of it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from testbed.errors import TestbedError
from testbed.launch import messages as launch_messages
from testbed.launch.messages import NodeSpec, NodeStatus
from testbed.rundir import RunDir, last_line, last_words

__all__ = ["Launcher", "LauncherGone", "NodeSpec", "NodeStatus", "Snapshot"]

_ANSWER_S: Final = 30.0
"""The launcher answers at once, but for what is asked of it with a time of its own."""

_LOOKING_SHARE: Final = 4
"""Time spent waiting, for each unit of time spent looking at what changed."""


class LauncherGone(TestbedError):
    """No launcher answers for that testbed."""


_ENDED: Final = (
    "its launcher has ended, and its nodes with it: it was killed, or another command is taking "
    "the testbed down"
)


def _gone(run: RunDir, why: str) -> LauncherGone:
    """The error in words: whose launcher, what is the matter, and what to do."""
    if not run.exists():
        return LauncherGone(f"testbed {run.name} is no more: another command has taken it down")
    return LauncherGone(
        f"testbed {run.name}: {why}; `testbed up` starts it again, `testbed down {run.name}` "
        "removes what is left of it" + last_words(last_line(run.launcher_log))
    )


class LauncherError(TestbedError):
    """The launcher refused what was asked of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """All nodes as the launcher saw them at one moment; `serial` changes when they do."""

    pid: int
    serial: int
    nodes: Mapping[str, NodeStatus]


class Launcher:
    """A connection to the launcher of one testbed."""

    def __init__(self, sock: socket.socket, run: RunDir, *, answer_s: float = _ANSWER_S) -> None:
        """Take over a socket that is connected to the launcher of `run`; see `connect`."""
        self._sock = sock
        self._run = run
        self._answer_s = answer_s
        self._received = bytearray()

    @classmethod
    def connect(cls, run: RunDir, *, answer_s: float = _ANSWER_S) -> Launcher:
        """Connect to the launcher that listens in this run directory.

        One that does not answer for `answer_s` seconds counts as gone.

        :raises LauncherGone: none listens.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.connect(str(run.launcher_socket))
        except OSError as error:
            sock.close()
            why = f"no launcher answers ({error.strerror}), so no node of it runs"
            raise _gone(run, why) from error
        return cls(sock, run, answer_s=answer_s)

    def close(self) -> None:
        """Disconnect; the launcher and its nodes stay."""
        self._sock.close()

    def __enter__(self) -> Launcher:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disconnect."""
        self.close()

    def start(self, specs: Sequence[NodeSpec], *, restart: bool = False) -> None:
        """Start these nodes; they are `starting` when this returns.

        With `restart` a node that was ready and ends with a failure that nobody asked for is
        started again: see `testbed.launch.restarts`.

        :raises LauncherError: one is running already, or could not be started.
        """
        self._ask(launch_messages.start_request(specs, restart=restart))

    def stop(self, names: Collection[str] | None = None, timeout_s: float = 2.0) -> Snapshot:
        """Ask these nodes (None: all) to leave, kill those still there after `timeout_s`, wait."""
        return _snapshot(
            self._ask(
                {
                    "cmd": "stop",
                    "names": None if names is None else sorted(names),
                    "timeout_s": timeout_s,
                },
                timeout_s,
            )
        )

    def forget(self, names: Collection[str]) -> None:
        """Drop these nodes, if they have left, from what `status` tells."""
        self._ask({"cmd": "forget", "names": sorted(names)})

    def snapshot(self) -> Snapshot:
        """All nodes now."""
        return _snapshot(self._ask({"cmd": "status"}))

    def status(self) -> dict[str, NodeStatus]:
        """Every node's status by name."""
        return dict(self.snapshot().nodes)

    def wait(
        self,
        predicate: Callable[[Mapping[str, NodeStatus]], bool],
        timeout_s: float,
        *,
        check: Callable[[], None] | None = None,
        check_every_s: float = 0.25,
    ) -> Snapshot:
        """Wait until `predicate` holds for all nodes' status, or `timeout_s` have passed.

        Returns the last snapshot either way. `check` is called at least every `check_every_s`,
        and ends the wait by raising.
        """
        deadline = time.monotonic() + timeout_s
        now = self.snapshot()
        while True:
            begun = time.thread_time()
            if predicate(now.nodes):
                return now
            if check is not None:
                check()
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                return now
            patience_s = remaining_s if check is None else min(remaining_s, check_every_s)
            now = self._watch(now.serial, patience_s)
            # While many nodes start, each of them is news: looking must not cost what they need.
            time.sleep(min(_LOOKING_SHARE * (time.thread_time() - begun), 0.05))

    def _watch(self, serial: int, timeout_s: float) -> Snapshot:
        request = {"cmd": "watch", "serial": serial, "timeout_s": timeout_s}
        return _snapshot(self._ask(request, timeout_s))

    def shutdown(self, timeout_s: float = 2.0) -> None:
        """Let all nodes leave as `stop` does, and then the launcher itself; waits for both."""
        self._ask({"cmd": "shutdown", "timeout_s": timeout_s}, timeout_s)
        self._sock.settimeout(self._answer_s)
        try:
            while self._sock.recv(1 << 12):
                pass  # it closes the connection with its end
        except OSError:
            pass

    def _ask(self, request: Mapping[str, Any], extra_s: float = 0.0) -> dict[str, Any]:
        self._sock.settimeout(self._answer_s + extra_s)
        try:
            self._sock.sendall(launch_messages.encode(request))
            while b"\n" not in self._received:
                data = self._sock.recv(1 << 18)
                if not data:
                    raise _gone(self._run, _ENDED)
                self._received += data
        except TimeoutError as error:
            limit_s = self._answer_s + extra_s
            raise _gone(
                self._run,
                f"its launcher has not answered for {limit_s:g} s: it hangs, or is stopped",
            ) from error
        except OSError as error:
            raise _gone(self._run, _ENDED) from error
        line, _, rest = self._received.partition(b"\n")
        self._received = rest
        answer = launch_messages.decode(bytes(line))
        if "error" in answer:
            raise LauncherError(f"testbed {self._run.name}: launcher: {answer['error']}")
        return answer


def _snapshot(answer: Mapping[str, Any]) -> Snapshot:
    return Snapshot(
        pid=answer["pid"],
        serial=answer["serial"],
        nodes={node["name"]: NodeStatus.from_json(node) for node in answer["nodes"]},
    )
