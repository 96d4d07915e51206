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
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from testbed.kernel.processes import MARK_VARIABLE, start_ticks
from testbed.launch import child as launch_child
from testbed.launch import messages as launch_messages
from testbed.launch.messages import NodeSpec
from testbed.launch.programs import ProgramWatch
from testbed.launch.restarts import LIMIT, Restarts
from testbed.launch.server import Promise, Server
from testbed.rundir import RunDir

_LONGEST_EVENT: Final = 1 << 16
_STOP_S: Final = 2.0
"""How long a node has to leave by itself when the launcher ends."""


@dataclass(slots=True, eq=False)
class _Node:
    """A child. `events` and `pidfd` are -1 once closed; `kill_at` is set while it is to leave.

    `restarts` is None for a node that stays where it died; `restart_at` is set while it waits.
    """

    spec: NodeSpec
    pid: int
    pidfd: int
    events: int
    started_ns: int
    start_ticks: int
    since_ns: int
    state: launch_messages.State = "starting"
    exit_status: int | None = None
    asked: bool = False
    kill_at: float | None = None
    upstream: Mapping[str, Any] | None = None
    engines: Mapping[str, Any] | None = None
    error: str | None = None
    buffer: bytes = b""
    restarts: Restarts | None = None
    restart_at: float | None = None
    ended_before: int | None = None
    program: ProgramWatch | None = None

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.spec.name,
            "pid": self.pid,
            "start_ticks": self.start_ticks,
            "state": self.state,
            "exit_status": self.exit_status,
            "asked": self.asked,
            "since_ns": self.since_ns,
            "started_ns": self.started_ns,
            "upstream": self.upstream,
            "engines": self.engines,
            "answered": None if self.program is None else self.program.answered,
            "error": self.error,
            "restarts": 0 if self.restarts is None else self.restarts.total,
            "restart_at_ns": None if self.restart_at is None else int(self.restart_at * 1e9),
            "ended_before": self.ended_before,
        }


class Launcher:
    """The state of the daemon and its one loop. Everything happens in the thread of `run`."""

    def __init__(self, run: RunDir) -> None:
        """Listen on the run directory's socket, which only root can open."""
        self._run = run
        self._selector = selectors.EpollSelector()
        self._nodes: dict[str, _Node] = {}
        self._serial = 0
        self._leaving = False
        # Its write end lives as long as this process: see launch_child.follow.
        self._lifeline, self._lifeline_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._server = Server(self._selector, run.launcher_socket, self._answer)
        wake, wake_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wake = wake
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        self._selector.register(wake, selectors.EVENT_READ, self._signalled)

    def run(self) -> None:
        """Serve until shut down."""
        while not (self._leaving and not self._alive()):
            for key, _ in self._selector.select(self._patience()):
                key.data()
            self._look_at_programs()
            self._kill_the_late()
            self._start_the_due()
            self._server.answer_the_due()
        self._server.answer_all()
        self._run.launcher_socket.unlink(missing_ok=True)

    # -- nodes

    def _alive(self) -> list[_Node]:
        return [node for node in self._nodes.values() if node.state != "exited"]

    def _start(self, spec: NodeSpec, restarts: Restarts | None) -> _Node:
        directory, log = self._run.node(spec.name), self._run.node_log(spec.name)
        launch_child.prepare(spec, directory, log)
        own_pid = os.getpid()
        watch = None
        if spec.program is not None:
            # Before it starts: its first words and its first reply count.
            watch = ProgramWatch(spec.program, spec.netns, log, self._selector)
        events, events_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            # No signal may meet the child while it still has our handlers.
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
            try:
                pid = os.fork()
                if pid == 0:
                    launch_child.become(
                        spec,
                        directory,
                        log,
                        events=events_end,
                        lifeline=self._lifeline,
                        launcher=own_pid,
                    )
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
            try:
                pidfd = os.pidfd_open(pid)
            except OSError:  # no descriptor left: nobody could watch it
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise
        except BaseException:
            os.close(events)
            if watch is not None:
                watch.close()
            raise
        finally:
            os.close(events_end)
        now = time.monotonic_ns()
        node = _Node(
            spec=spec,
            pid=pid,
            pidfd=pidfd,
            events=events,
            started_ns=now,
            since_ns=now,
            start_ticks=start_ticks(pid) or 0,
            restarts=restarts,
            program=watch,
        )
        self._nodes[spec.name] = node
        self._serial += 1
        self._selector.register(events, selectors.EVENT_READ, lambda: self._heard(node))
        self._selector.register(node.pidfd, selectors.EVENT_READ, lambda: self._exited(node))
        return node

    def _heard(self, node: _Node) -> None:
        if node.events < 0:
            return
        with suppress(BlockingIOError):
            while data := os.read(node.events, 1 << 16):
                node.buffer += data
                *lines, node.buffer = node.buffer.split(b"\n")
                node.buffer = node.buffer[-_LONGEST_EVENT:]
                for line in lines:
                    self._event(node, line)
            self._close_events(node)
            if node.program is not None and node.error is None:
                # The pipe closes by itself when a program takes the child's place.
                node.program.started()

    def _event(self, node: _Node, line: bytes) -> None:
        try:
            event = launch_messages.decode(line)
        except ValueError:
            print(f"{node.spec.name}: no event: {line[:200]!r}", file=sys.stderr, flush=True)
            return
        kind = event.pop("event", None)
        if kind == "ready":
            node.engines = event.get("engines")
            self._turn(node, "ready")
        elif kind == "upstream":
            node.upstream = event if event.get("mac") else None
            self._serial += 1
        elif kind == "failed":
            node.error = event.get("error")

    def _turn(self, node: _Node, state: launch_messages.State) -> None:
        node.state = state
        node.since_ns = time.monotonic_ns()
        self._serial += 1

    def _close_events(self, node: _Node) -> None:
        if node.events >= 0:
            self._selector.unregister(node.events)
            os.close(node.events)
            node.events = -1

    def _exited(self, node: _Node) -> None:
        if node.pidfd < 0:
            return
        self._heard(node)  # its last words
        if node.program is not None:
            node.program.close()
            # A program may have left children; its group is ours until it is reaped.
            with suppress(ProcessLookupError):
                os.killpg(node.pid, signal.SIGKILL)
        _, status = os.waitpid(node.pid, 0)
        self._close_events(node)
        self._selector.unregister(node.pidfd)
        os.close(node.pidfd)
        node.pidfd = -1
        node.exit_status = os.waitstatus_to_exitcode(status)
        was_ready = node.state == "ready"
        node.upstream = None
        node.kill_at = None
        self._turn(node, "exited")
        if not node.asked:
            print(f"{node.spec.name}: exited with {node.exit_status}", file=sys.stderr, flush=True)
            # What never worked would not the next time; what ended well wanted to.
            if node.exit_status and (was_ready or node.ended_before is not None):
                self._plan_restart(node, lasted_s=(node.since_ns - node.started_ns) / 1e9)

    def _plan_restart(self, node: _Node, *, lasted_s: float) -> None:
        if node.restarts is None or self._leaving:
            return
        pause_s = node.restarts.pause_s(lasted_s)
        ended = f"launcher: {node.spec.name} {_how(node.exit_status or 0)}"
        if pause_s is None:
            self._note(node, f"{ended}; after {LIMIT} restarts in a row it stays where it is")
            return
        node.restart_at = time.monotonic() + pause_s
        number = node.restarts.row
        self._note(node, f"{ended}; started again in {pause_s:g} s ({number} of {LIMIT} in a row)")
        self._serial += 1

    def _note(self, node: _Node, text: str) -> None:
        """Say something in the node's own log, where whoever wonders about it looks."""
        with suppress(OSError), self._run.node_log(node.spec.name).open("a") as log:
            print(text, file=log)

    def _start_the_due(self) -> None:
        now = time.monotonic()
        for node in list(self._nodes.values()):
            if node.restart_at is None or node.restart_at > now:
                continue
            node.restart_at = None
            try:
                again = self._start(node.spec, node.restarts)
            except OSError as error:
                self._note(node, f"launcher: {node.spec.name} could not be started: {error}")
                self._plan_restart(node, lasted_s=0.0)
            else:
                again.ended_before = node.exit_status

    def _give_up(self, nodes: Iterable[_Node]) -> None:
        """Those that wait to be started again stay where they are, as if they had been asked to."""
        for node in nodes:
            if node.restart_at is not None:
                node.restart_at = None
                node.asked = True

    def _signal(self, node: _Node, number: signal.Signals) -> None:
        if node.pidfd < 0:
            return
        with suppress(ProcessLookupError):
            # A program's children are asked as well, once it has a group of its own.
            if node.program is not None and os.getpgid(node.pid) == node.pid:
                os.killpg(node.pid, number)
            else:
                signal.pidfd_send_signal(node.pidfd, number)

    def _let_go(self, nodes: list[_Node], timeout_s: float) -> None:
        for node in nodes:
            node.asked = True
            self._end(node, timeout_s)

    def _end(self, node: _Node, timeout_s: float) -> None:
        """Ask it to leave, and remember when to insist."""
        node.kill_at = time.monotonic() + timeout_s
        program = node.spec.program
        self._signal(node, signal.Signals[program.stop] if program else signal.SIGTERM)

    def _look_at_programs(self) -> None:
        """What agents tell by themselves is looked for at programs."""
        for node in self._alive():
            program = node.program
            if program is None:
                continue
            told = program.look()
            for note in told.notes:
                self._note(node, f"launcher: {note}")
            if told.ready:
                self._turn(node, "ready")
            if told.failed is not None:
                node.error = told.failed
                self._end(node, _STOP_S)
            if told.answered:
                self._serial += 1

    def _kill_the_late(self) -> None:
        now = time.monotonic()
        for node in self._nodes.values():
            if node.kill_at is not None and node.kill_at <= now:
                node.kill_at = None
                self._signal(node, signal.SIGKILL)

    # -- requests

    def _patience(self) -> float | None:
        times = [
            time
            for node in self._nodes.values()
            for time in (node.kill_at, node.restart_at)
            if time is not None
        ]
        if (deadline := self._server.next_deadline()) is not None:
            times.append(deadline)
        times += [
            due
            for node in self._alive()
            if node.program is not None and (due := node.program.due()) is not None
        ]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _signalled(self) -> None:
        with suppress(BlockingIOError):
            if signal.SIGTERM in os.read(self._wake, 64):
                self._leave(_STOP_S)

    def _leave(self, timeout_s: float) -> None:
        self._leaving = True
        self._give_up(self._nodes.values())
        self._let_go(self._alive(), timeout_s)

    def _answer(self, request: dict[str, Any]) -> dict[str, Any] | Promise:
        match request["cmd"]:
            case "start":
                specs = [NodeSpec.from_json(spec) for spec in request["specs"]]
                self._start_all(specs, restart=bool(request["restart"]))
                return {"ok": True}
            case "stop":
                names = request["names"]
                named = [
                    node
                    for node in self._nodes.values()
                    if names is None or node.spec.name in names
                ]
                self._give_up(named)
                chosen = [node for node in named if node.state != "exited"]
                self._let_go(chosen, float(request["timeout_s"]))
                return Promise(
                    due=lambda: all(node.state == "exited" for node in chosen),
                    answer=self._status,
                )
            case "forget":
                for name in request["names"]:
                    if name in self._nodes and self._nodes[name].state == "exited":
                        del self._nodes[name]
                self._serial += 1
                return {"ok": True}
            case "status":
                return self._status()
            case "watch":
                serial = int(request["serial"])
                return Promise(
                    due=lambda: self._serial != serial,
                    answer=self._status,
                    deadline=time.monotonic() + float(request["timeout_s"]),
                )
            case "shutdown":
                self._leave(float(request["timeout_s"]))
                return Promise(due=lambda: not self._alive(), answer=self._status)
            case command:
                raise ValueError(f"no such command: {command!r}")

    def _start_all(self, specs: list[NodeSpec], *, restart: bool) -> None:
        if self._leaving:
            raise RuntimeError("shutting down")
        running = {node.spec.name for node in self._alive()}
        if twice := [spec.name for spec in specs if spec.name in running]:
            raise RuntimeError(f"already running: {', '.join(twice)}")
        for spec in specs:
            self._start(spec, Restarts() if restart else None)

    def _status(self) -> dict[str, Any]:
        return {
            "ok": True,
            "pid": os.getpid(),
            "serial": self._serial,
            "nodes": [node.describe() for node in self._nodes.values()],
        }


def _how(exit_status: int) -> str:
    """In words how a process ended."""
    if exit_status < 0:
        with suppress(ValueError):
            return f"was killed by {signal.Signals(-exit_status).name}"
    return f"ended with status {exit_status}"


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
