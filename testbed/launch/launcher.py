"""The daemon of one testbed: starts its nodes by forking, watches them, answers on a socket.

It has loaded what an agent needs before it forks, so that a node costs a fork and not a start of
Python. It is started as `python -m testbed.launch.launcher RUNDIR`, outlives the command that
started it, and ends when told to. Must not know topologies, links or the journal's meaning; must
not import anything that an agent does not need: each node carries it in memory.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import resource
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from testbed.kernel.processes import MARK_VARIABLE
from testbed.launch import child as launch_child
from testbed.launch import strays
from testbed.launch.messages import NodeSpec, seconds
from testbed.launch.nodes import STOP_S, Nodes
from testbed.launch.notes import note
from testbed.launch.server import Promise, Server
from testbed.rundir import RunDir

_PAUSE_S: Final = 0.05
"""After what should never happen: if it happens again and again, others still get the CPU."""


class Launcher:
    """The daemon's one loop, and its answers. Everything happens in the thread of `run`."""

    def __init__(self, run: RunDir) -> None:
        """Listen on the run directory's socket, which only root can open."""
        self._run = run
        self._selector = selectors.EpollSelector()
        self._nodes = Nodes(run, self._selector)
        self._server = Server(self._selector, run.launcher_socket, self._answer)
        wake, wake_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wake = wake
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        self._selector.register(wake, selectors.EVENT_READ, self._signalled)

    def run(self) -> None:
        """Serve until shut down."""
        while not self._nodes.gone:
            self._guarded(self._wait_and_see)
            self._guarded(self._nodes.tend)
            self._guarded(self._server.answer_the_due)
        self._guarded(self._server.answer_all)
        with suppress(OSError):
            self._run.launcher_socket.unlink(missing_ok=True)

    def _wait_and_see(self) -> None:
        for key, _ in self._selector.select(self._patience()):
            self._guarded(key.data)

    def _guarded(self, what: Callable[[], None]) -> None:
        """Call it; all nodes end with the launcher, so nothing that is raised may end that."""
        try:
            what()
        except Exception:
            note(f"this should not happen:\n{traceback.format_exc(limit=-20)}")
            time.sleep(_PAUSE_S)

    def _patience(self) -> float | None:
        dues = (self._nodes.next_due(), self._server.next_deadline())
        times = [due for due in dues if due is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _signalled(self) -> None:
        with suppress(BlockingIOError):
            came = os.read(self._wake, 4096)
            if signal.SIGCHLD in came:
                self._nodes.child_ended()
            if signal.SIGTERM in came:
                self._nodes.leave(STOP_S)

    def _answer(self, request: dict[str, Any]) -> dict[str, Any] | Promise:
        nodes = self._nodes
        match request["cmd"]:
            case "start":
                specs = [NodeSpec.from_json(spec) for spec in request["specs"]]
                nodes.start(specs, restart=bool(request["restart"]))
                return {"ok": True}
            case "stop":
                chosen = nodes.stop(request["names"], seconds(request["timeout_s"]))
                return Promise(
                    due=lambda: not any(nodes.busy(node) for node in chosen), answer=self._status
                )
            case "forget":
                nodes.forget(request["names"])
                return {"ok": True}
            case "status":
                return self._status()
            case "watch":
                serial = int(request["serial"])
                return Promise(
                    due=lambda: nodes.serial != serial,
                    answer=self._status,
                    deadline=time.monotonic() + seconds(request["timeout_s"]),
                )
            case "shutdown":
                nodes.leave(seconds(request["timeout_s"]))
                return Promise(due=lambda: nodes.gone, answer=self._status)
            case command:
                raise ValueError(f"no such command: {command!r}")

    def _status(self) -> dict[str, Any]:
        return {
            "ok": True,
            "pid": os.getpid(),
            "serial": self._nodes.serial,
            "nodes": self._nodes.describe(),
        }


def _is_ours(run: RunDir) -> bool:
    """Whether the run directory is still that of the testbed that started us, not of a later one.

    A command that dies may start us when whoever cleans up after it has looked for us already.
    """
    nonce = os.environ.get(MARK_VARIABLE, "").rpartition(":")[2]
    try:
        with run.journal.open() as journal:
            return bool(json.loads(journal.readline())["nonce"] == nonce)
    except (OSError, ValueError, KeyError):
        return False


def main(arguments: list[str]) -> int:
    """Be the launcher of a run directory: `RUNDIR [DESCRIPTOR]`.

    With a descriptor it becomes a daemon, and writes "ready" there once it listens.
    """
    run = RunDir(Path(arguments[0]))
    ready = int(arguments[1]) if len(arguments) > 1 else None
    if ready is not None:
        if os.fork():
            os._exit(0)  # whoever started us need not wait for us, nor ever reap us
        os.setsid()
    os.chdir("/")
    os.umask(0o077)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    strays.adopt()
    launch_child.preload()
    if not _is_ours(run):
        print("the testbed was removed before its launcher was ready", file=sys.stderr)
        return 1
    launcher = Launcher(run)
    gc.collect()
    gc.freeze()
    if ready is not None:
        fcntl.fcntl(ready, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        os.write(ready, b"ready\n")
        os.close(ready)
    launcher.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
