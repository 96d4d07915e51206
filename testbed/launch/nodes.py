"""All nodes of one launcher: started by forking, heard, watched, signalled, started again.

Registers with a selector what wakes it, and never blocks. Must not know who asks for what, nor the
socket. Imported by the launcher, whose every import each node carries in memory.
"""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Any, Final

from testbed.kernel import netns
from testbed.kernel.processes import start_ticks
from testbed.launch import child as launch_child
from testbed.launch import strays
from testbed.launch.events import EventPipe
from testbed.launch.leftovers import Leftovers
from testbed.launch.messages import NodeSpec
from testbed.launch.node import Node
from testbed.launch.notes import note, note_in
from testbed.launch.programs import ProgramWatch
from testbed.launch.restarts import LIMIT, Restarts
from testbed.rundir import RunDir

STOP_S: Final = 2.0
"""How long a node has to leave by itself where nobody says otherwise."""
_LAST_READS: Final = 4
"""What a node says last is in a pipe, which holds no more than one read, and its end."""
_REAPED_AT_ONCE: Final = 64


class Nodes:
    """Every node that was started and not forgotten, by name.

    `serial` grows with whatever changes. Once it is `leaving`, nothing is started any more.
    """

    def __init__(self, run: RunDir, selector: selectors.BaseSelector) -> None:
        """None yet; their directories and logs are those of `run`.

        Registers with `selector` callables without arguments, to be called when it says so.
        """
        self._run = run
        self._selector = selector
        self._nodes: dict[str, Node] = {}
        self._by_pid: dict[int, Node] = {}
        self._leftovers = Leftovers()
        self._to_reap = False
        self.serial = 0
        self.leaving = False
        # Its write end lives as long as this process: see launch_child.follow.
        self._lifeline, self._lifeline_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._root = launch_child.copy_root()

    # -- what is asked for

    def alive(self) -> list[Node]:
        """Those whose process is there."""
        return [node for node in self._nodes.values() if node.alive]

    def busy(self, node: Node) -> bool:
        """Whether it, or what it left running, is still there."""
        return node.alive or self._leftovers.pending(node.spec.name)

    @property
    def gone(self) -> bool:
        """Whether all have left for good, and all that they left running."""
        return self._leftovers.over

    def describe(self) -> list[dict[str, Any]]:
        """Plain values about every one."""
        return [node.describe() for node in self._nodes.values()]

    def start(self, specs: list[NodeSpec], *, restart: bool) -> None:
        """Start all of these, or none if one of them runs; with `restart` again if they die.

        :raises RuntimeError: one runs already, or everything is leaving.
        """
        if self.leaving:
            raise RuntimeError("shutting down")
        running = {node.spec.name for node in self.alive()}
        if twice := [spec.name for spec in specs if spec.name in running]:
            raise RuntimeError(f"already running: {', '.join(twice)}")
        for spec in specs:
            self._start(spec, Restarts() if restart else None)

    def stop(self, names: Collection[str] | None, timeout_s: float) -> list[Node]:
        """Ask these to leave, or all, and insist after `timeout_s`; those that are still `busy`."""
        named = [node for node in self._nodes.values() if names is None or node.spec.name in names]
        self._give_up(named)
        self._let_go([node for node in named if node.alive], timeout_s)
        return [node for node in named if self.busy(node)]

    def forget(self, names: Iterable[str]) -> None:
        """Know nothing more of those among these that have ended."""
        for name in names:
            if name in self._nodes and not self._nodes[name].alive:
                del self._nodes[name]
        self.serial += 1

    def leave(self, timeout_s: float) -> None:
        """Stop all, for good."""
        self.leaving = True
        self.stop(None, timeout_s)
        if not self._by_pid:
            self._leftovers.end_all()

    # -- what is due

    def next_due(self) -> float | None:
        """When `tend` has to be called at the latest (time.monotonic()); None: at no time."""
        times = [
            time
            for node in self._nodes.values()
            for time in (node.kill_at, node.restart_at)
            if time is not None
        ]
        times += [
            due
            for node in self.alive()
            if node.program is not None and (due := node.program.due()) is not None
        ]
        if self._to_reap:
            times.append(time.monotonic())
        if (due := self._leftovers.due()) is not None:
            times.append(due)
        return min(times, default=None)

    def tend(self) -> None:
        """Do what is due by now."""
        if self._to_reap:
            self._reap()
        self._look_at_programs()
        self._kill_the_late()
        self._end_leftovers()
        self._start_the_due()

    def child_ended(self) -> None:
        """A child has, a node or what one left: `tend` will look which."""
        self._to_reap = True

    def _reap(self) -> None:
        node, self._to_reap = strays.reap(self._by_pid, _REAPED_AT_ONCE)
        if node is not None:
            self._exited(node)

    def _end_leftovers(self) -> None:
        networks = (node.network for node in self._nodes.values())
        for given_up in self._leftovers.tend(self._by_pid, networks):
            note(str(given_up))
            if given_up.name in self._nodes:
                self._note(self._nodes[given_up.name], f"launcher: {given_up}")

    def _look_at_programs(self) -> None:
        """What agents tell by themselves is looked for at programs."""
        for node in self.alive():
            if node.program is not None:
                try:
                    self._look_at(node, node.program)
                except Exception as error:
                    self._fail(node, f"it cannot be watched: {error!r}")

    def _fail(self, node: Node, why: str) -> None:
        """What goes wrong with one node ends no other, and does not go wrong again."""
        note(f"{node.spec.name}: {why}")
        node.error = why
        if node.program is not None:
            node.program.close()
        self._end(node, STOP_S)

    def _look_at(self, node: Node, program: ProgramWatch) -> None:
        told = program.look()
        for text in told.notes:
            self._note(node, f"launcher: {text}")
        if told.ready:
            self.serial += node.turn("ready")
        if told.failed is not None:
            node.error = told.failed
            self._end(node, STOP_S)
        if told.answered:
            self.serial += 1

    def _kill_the_late(self) -> None:
        now = time.monotonic()
        for node in self._nodes.values():
            if node.kill_at is not None and node.kill_at <= now:
                node.kill_at = None
                node.send(signal.SIGKILL)

    def _start_the_due(self) -> None:
        now = time.monotonic()
        for node in list(self._nodes.values()):
            if node.restart_at is None or node.restart_at > now:
                continue
            node.restart_at = None
            try:
                again = self._start(node.spec, node.restarts)
            except Exception as error:  # whatever it is, it is this node's alone
                self._note(node, f"launcher: {node.spec.name} could not be started: {error}")
                self._plan_restart(node, lasted_s=0.0)
            else:
                again.ended_before = node.exit_status

    # -- one node

    def _start(self, spec: NodeSpec, restarts: Restarts | None) -> Node:
        self._leftovers.forget(spec.name)
        directory, log = self._run.node(spec.name), self._run.node_log(spec.name)
        launch_child.prepare(spec, directory, log)
        watch = None
        if spec.program is not None:
            # Before it starts: its first words and its first reply count.
            watch = ProgramWatch(spec.program, spec.netns, log, self._selector)
        try:
            child = launch_child.fork(
                spec, directory, log, lifeline=self._lifeline, root=self._root
            )
        except BaseException:
            if watch is not None:
                watch.close()
            raise
        now = time.monotonic_ns()
        node = Node(
            spec=spec,
            pid=child.pid,
            pidfd=child.pidfd,
            events=EventPipe(child.events),
            network=netns.inode_of(spec.netns),
            started_ns=now,
            since_ns=now,
            start_ticks=start_ticks(child.pid) or 0,
            restarts=restarts,
            program=watch,
        )
        self._nodes[spec.name] = self._by_pid[child.pid] = node
        self.serial += 1
        self._selector.register(child.events, selectors.EVENT_READ, lambda: self._heard(node))
        self._selector.register(node.pidfd, selectors.EVENT_READ, lambda: self._exited(node))
        return node

    def _heard(self, node: Node) -> None:
        """What it tells, as much as one read gives: others have a turn before it has another."""
        if node.events is None:
            return
        heard = node.events.read()
        for event in heard.events:
            self.serial += node.take(event)
        for text in heard.notes:
            note(f"{node.spec.name}: {text}")
        if not heard.over:
            return
        self._close_events(node)
        if heard.refused is not None:
            node.unheard, node.upstream = heard.refused, None
            self.serial += 1
            text = f"{node.spec.name} is not listened to any more: {heard.refused}"
            note(text)
            self._note(node, f"launcher: {text}")
        if node.program is not None and node.error is None:
            # The pipe closes by itself when a program takes the child's place.
            node.program.started()

    def _close_events(self, node: Node) -> None:
        if node.events is not None:
            self._selector.unregister(node.events)
            node.events.close()
            node.events = None

    def _exited(self, node: Node) -> None:
        if node.pidfd < 0:
            return
        try:
            self._hear_out(node)
        except Exception as error:
            note(f"{node.spec.name}: its end could not be watched: {error!r}")
        _, status = os.waitpid(node.pid, 0)
        del self._by_pid[node.pid]
        self._close_events(node)
        self._selector.unregister(node.pidfd)
        os.close(node.pidfd)
        node.pidfd = -1
        node.exit_status = os.waitstatus_to_exitcode(status)
        was_ready = node.state == "ready"
        node.upstream = None
        node.kill_at = None
        self.serial += node.turn("exited")
        self._leftovers.end(node.spec.name, node.network)
        if self.leaving and not self._by_pid:
            self._leftovers.end_all()
        if not node.asked:
            note(f"{node.spec.name}: exited with {node.exit_status}")
            # What never worked would not the next time; what ended well wanted to.
            if node.exit_status and (was_ready or node.ended_before is not None):
                self._plan_restart(node, lasted_s=(node.since_ns - node.started_ns) / 1e9)

    def _hear_out(self, node: Node) -> None:
        """Its last words, and the end of its group, which is ours until it is reaped."""
        try:
            for _ in range(_LAST_READS):
                self._heard(node)
            if node.program is not None:
                # What ends at once may have been ready before that was seen.
                self._look_at(node, node.program)
        finally:
            if node.program is not None:
                node.program.close()
            with suppress(ProcessLookupError):
                os.killpg(node.pid, signal.SIGKILL)

    def _plan_restart(self, node: Node, *, lasted_s: float) -> None:
        if node.restarts is None or self.leaving:
            return
        pause_s = node.restarts.pause_s(lasted_s)
        ended = f"launcher: {node.spec.name} {node.ending}"
        if pause_s is None:
            self._note(node, f"{ended}; after {LIMIT} restarts in a row it stays where it is")
            return
        node.restart_at = time.monotonic() + pause_s
        number = node.restarts.row
        self._note(node, f"{ended}; started again in {pause_s:g} s ({number} of {LIMIT} in a row)")
        self.serial += 1

    def _note(self, node: Node, text: str) -> None:
        note_in(self._run.node_log(node.spec.name), text)

    def _give_up(self, nodes: Iterable[Node]) -> None:
        """Those that wait to be started again stay where they are, as if they had been asked to."""
        for node in nodes:
            if node.restart_at is not None:
                node.restart_at = None
                node.asked = True

    def _let_go(self, nodes: list[Node], timeout_s: float) -> None:
        for node in nodes:
            node.asked = True
            self._end(node, timeout_s)

    def _end(self, node: Node, timeout_s: float) -> None:
        """Ask it to leave, and remember when to insist."""
        node.kill_at = time.monotonic() + timeout_s
        program = node.spec.program
        node.send(signal.Signals[program.stop] if program else signal.SIGTERM)
