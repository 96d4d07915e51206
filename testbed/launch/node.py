"""One node as its launcher holds it: the process, how it is, and what is planned for it.

A value that changes. Must not know other nodes, nor who asks. Imported by the launcher, whose every
import each node carries in memory.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from testbed.launch.events import Event, EventPipe, Failed, Ready, Upstream
from testbed.launch.messages import NodeSpec, State
from testbed.launch.programs import ProgramWatch
from testbed.launch.restarts import Restarts


@dataclass(slots=True, eq=False)
class Node:
    """A child. `events` is None and `pidfd` -1 once closed; `kill_at` is set while it is to leave.

    `network` is the inode of the namespace that it was started in. `restarts` is None for a node
    that stays where it died; `restart_at` is set while it waits.
    """

    spec: NodeSpec
    pid: int
    pidfd: int
    events: EventPipe | None
    network: int | None
    started_ns: int
    start_ticks: int
    since_ns: int
    state: State = "starting"
    exit_status: int | None = None
    asked: bool = False
    kill_at: float | None = None
    upstream: Mapping[str, Any] | None = None
    engines: Mapping[str, Any] | None = None
    error: str | None = None
    unheard: str | None = None
    restarts: Restarts | None = None
    restart_at: float | None = None
    ended_before: int | None = None
    program: ProgramWatch | None = None

    @property
    def alive(self) -> bool:
        """Whether its process is there."""
        return self.state != "exited"

    @property
    def ending(self) -> str:
        """In words how its process ended, once it has."""
        status = self.exit_status or 0
        if status < 0:
            with suppress(ValueError):
                return f"was killed by {signal.Signals(-status).name}"
        return f"ended with status {status}"

    def send(self, number: signal.Signals) -> None:
        """Send it this signal, if it is there."""
        if self.pidfd < 0:
            return
        with suppress(ProcessLookupError):
            # A program's children are asked as well, once it has a group of its own.
            if self.program is not None and os.getpgid(self.pid) == self.pid:
                os.killpg(self.pid, number)
            else:
                signal.pidfd_send_signal(self.pidfd, number)

    def turn(self, state: State) -> bool:
        """It is in another state from now on."""
        self.state = state
        self.since_ns = time.monotonic_ns()
        return True

    def take(self, event: Event) -> bool:
        """What its agent has told; whether that is news."""
        match event:
            case Ready():
                if self.state != "starting":
                    return False
                self.engines = event.engines
                return self.turn("ready")
            case Upstream():
                changed = self.upstream != event.upstream
                self.upstream = event.upstream
                return changed
            case Failed():
                self.error = event.error
                return False

    def describe(self) -> dict[str, Any]:
        """Plain values for the launcher's answers: those of a `messages.NodeStatus`."""
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
            "unheard": self.unheard,
            "restarts": 0 if self.restarts is None else self.restarts.total,
            "restart_at_ns": None if self.restart_at is None else int(self.restart_at * 1e9),
            "ended_before": self.ended_before,
        }
