"""Waits until the nodes of a testbed are ready and joined, and says of each that is not why.

Must not know how nodes are started. Joined is an OBU that has an upstream; of a program, which does
not tell, one that was seen to answer a heartbeat.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from testbed.launch.client import Launcher, NodeStatus
from testbed.naturally import naturally
from testbed.rundir import RunDir, last_words
from testbed.running import agent_control
from testbed.running.agent_control import Told
from testbed.topology.model import Topology

NOT_ANSWERED: Final = "was not seen to answer a heartbeat"

_PATIENCE_S: Final = 0.5
"""One heartbeat joins everything; where frames were lost, RSUs are asked for one more."""
_PERIODS: Final = 2.5
"""So many periods of its own accord give an RSU that cannot be asked time for two heartbeats."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NotReady:
    """A node that is not ready or has no upstream, and why, as far as can be told."""

    node: str
    why: str

    def __str__(self) -> str:
        return f"{self.node}: {self.why}"


def joinable(topology: Topology, running: Collection[str]) -> frozenset[str]:
    """The OBUs among `running` that could have an upstream through others of them."""
    neighbours = topology.neighbours()
    reached: set[str] = set()
    waiting = deque(rsu.name for rsu in topology.rsus if rsu.name in running)
    while waiting:
        name = waiting.popleft()
        if name not in reached:
            reached.add(name)
            waiting.extend(other for other in neighbours[name] if other in running)
    return frozenset(obu.name for obu in topology.obus if obu.name in reached)


def tells(topology: Topology, node: str) -> bool:
    """Whether it can be known of that node that it has joined; KeyError without such a node.

    Of a program that is only started nothing is known, not even that it speaks the protocol.
    """
    settings = topology.node(node).settings
    return not settings.is_program or settings.ready.how != "started"


def patience_s(topology: Topology, usual_s: float) -> float:
    """How long joining may take: `usual_s`, or more where an RSU cannot be asked to send one."""
    periods = [
        rsu.settings.hello_periodicity_ms / 1000 for rsu in topology.rsus if rsu.settings.is_program
    ]
    return max([usual_s, *(_PERIODS * period for period in periods)])


def wait(
    topology: Topology,
    run: RunDir,
    launcher: Launcher,
    *,
    timeout_s: float,
    running: Collection[str],
    check: Callable[[], None],
    step: Callable[[int], None],
) -> tuple[NotReady, ...]:
    """Wait for the `running` nodes; what is missing returns.

    Nodes that died, that have no path to an RSU, or of which nothing can be known are not waited
    for.
    """
    expected = expected_to_join(topology, running)
    rsus = [rsu.name for rsu in topology.rsus if rsu.name in running]
    deadline = time.monotonic() + timeout_s

    def settled(status: Mapping[str, NodeStatus]) -> bool:
        step(sum(_is_joined(status.get(name)) for name in expected))
        return all(
            (node := status.get(name)) is None
            or not node.alive
            or node.unheard is not None
            or (node.state == "ready" and (name not in expected or node.joined))
            for name in running
        )

    while True:
        remaining_s = deadline - time.monotonic()
        now = launcher.wait(settled, max(0.0, min(_PATIENCE_S, remaining_s)), check=check)
        if settled(now.nodes) or remaining_s <= _PATIENCE_S:
            return explain(topology, run, now.nodes, expected=expected, running=running)
        agent_control.ask_for_heartbeats(run, rsus)


def _is_joined(node: NodeStatus | None) -> bool:
    return node is not None and node.alive and node.joined


def expected_to_join(topology: Topology, running: Collection[str]) -> frozenset[str]:
    """The OBUs among `running` that could join, and of which that could be known."""
    return frozenset(name for name in joinable(topology, running) if tells(topology, name))


def explain(
    topology: Topology,
    run: RunDir,
    status: Mapping[str, NodeStatus],
    *,
    expected: Collection[str],
    running: Collection[str],
) -> tuple[NotReady, ...]:
    """Why each of the `running` nodes is not ready, or, of `expected` ones, not joined."""
    silent = [
        name
        for name in expected
        if (node := status.get(name)) is not None and node.state == "ready" and not node.joined
    ]
    told = agent_control.ask_stats(run, silent)
    found = []
    for name in sorted(running):
        why = _why(run, name, status.get(name), name in expected, told.get(name), topology)
        if why is not None:
            found.append(NotReady(node=name, why=why))
    return tuple(found)


def _why(
    run: RunDir,
    name: str,
    node: NodeStatus | None,
    expected: bool,
    told: Told | None,
    topology: Topology,
) -> str | None:
    if node is None:
        return "was never started"
    if not node.alive:
        return f"{describe_exit(node)}{_last_words(run, name)}"
    if node.unheard is not None:
        return f"its agent is not listened to any more: {node.unheard}"
    if node.state == "starting":
        waited_s = (time.monotonic_ns() - node.started_ns) / 1e9
        return f"not ready {waited_s:.1f} s after its start{_last_words(run, name)}"
    if not expected or node.joined:
        return None
    heard_by = ", ".join(sorted(topology.neighbours()[name], key=naturally))
    if topology.node(name).settings.is_program:
        return f"{NOT_ANSWERED} (it hears {heard_by})"
    if told is None or told.stats is None:
        answers = (told and told.nonsense) or "does not answer"
        return f"no upstream, and its agent {answers}"
    stats = told.stats
    heartbeats = stats["messages"].get("heartbeat", 0)
    if not heartbeats:
        return f"no upstream: no heartbeat came (it hears {heard_by})"
    drops = {cause: count for cause, count in stats["drops"].items() if count}
    dropped = f"; it dropped {drops}" if drops else ""
    return f"no upstream, though {heartbeats} heartbeats came (it hears {heard_by}){dropped}"


def describe_exit(node: NodeStatus) -> str:
    """In words how a node that is no more ended."""
    if node.error is not None:
        return f"could not be started: {node.error}"
    status = node.exit_status
    if status is not None and status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        return f"killed by {name}"
    return f"exited with status {status}"


def _last_words(run: RunDir, name: str) -> str:
    told = last_words(run.last_log_line(name)) or "; its log is empty"
    # Which may be why, and why it could not say so.
    with suppress(OSError):
        if os.statvfs(run.path).f_bavail == 0:
            told += f"; no space is left on the disk of {run.path}"
    return told
