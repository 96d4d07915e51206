"""What runs: every testbed, every node, as frozen values and as JSON.

Only looks: takes no lock, changes nothing, and shows a half-made or broken testbed as what it is.
Must not know how to print.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from testbed import rundir
from testbed.kernel import netns
from testbed.kernel.operations import MakeCable, MakePort
from testbed.launch.client import Launcher, LauncherGone, NodeStatus, Snapshot
from testbed.launch.messages import Program
from testbed.naturally import naturally
from testbed.rundir import RunDir
from testbed.running import agent_control, joining, journal
from testbed.running.agent_control import Told
from testbed.running.joining import describe_exit
from testbed.running.plan import StartNode, node_key
from testbed.running.running import NotRunning, read_topology
from testbed.topology.model import Node, Topology

NodeState = Literal["ready", "starting", "exited", "stopped", "lost"]
"""`exited` was not asked for, `stopped` was, or the node was never to run; `lost`: no launcher."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UpstreamView:
    """What an OBU sends through: the neighbour, the RSU behind it and the hops to that.

    `node` and `rsu` are names of nodes, or MACs of nodes that are not of this testbed.
    """

    node: str
    rsu: str | None
    hops: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeView:
    """One node. `why` tells in words what is wrong with it, None if nothing is.

    `ok` tells whether it is as `up` waits for it to be: ready, and joined if it could be.

    `medium` is "cable", or the name of its port in the medium's namespace. `engines` is what its
    agent asked for and uses, `stats` all that it counts; both None where no agent tells.
    `restarts` counts how often it was started again after it had died. Of a program, `program` is
    its command line, and `answered` its first reply to a heartbeat, as it was seen on its radio;
    what it uses as upstream now only it knows.
    """

    name: str
    kind: str
    state: NodeState
    why: str | None
    pid: int | None
    exit_status: int | None
    uptime_s: float | None
    netns: str
    mac: str
    ipv4: str
    ipv6: str
    medium: str | None
    hears: tuple[str, ...]
    upstream: UpstreamView | None
    engines: Mapping[str, Any] | None
    stats: Mapping[str, Any] | None
    restarts: int = 0
    program: tuple[str, ...] | None = None
    answered: UpstreamView | None = None
    ok: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class TestbedView:
    """A whole testbed. `complete` is False while one is being made, or if that was cut short."""

    __test__ = False  # no test case, whatever its name begins with

    name: str
    run_dir: str
    source: str | None
    made_ns: int
    complete: bool
    launcher_pid: int | None
    nodes: tuple[NodeView, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """A testbed in one line; counts None where its directory does not tell."""

    name: str
    run_dir: str
    complete: bool
    launcher_alive: bool
    nodes: int | None
    ready: int
    obus: int | None
    joined: int

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        return asdict(self)


def summaries() -> tuple[Summary, ...]:
    """Every testbed that is up or was left by something that crashed, by name."""
    return tuple(_summary(run) for run in rundir.all_run_dirs())


def _summary(run: RunDir) -> Summary:
    topology = read_topology(run)
    snapshot = _ask_launcher(run)
    nodes = {} if snapshot is None else snapshot.nodes
    ready = [node for node in nodes.values() if node.state == "ready"]
    try:
        state = journal.read(run.journal)
    except journal.JournalError:
        state = None
    return Summary(
        name=run.name,
        run_dir=str(run.path),
        complete=state is not None and topology is not None and not state.unfinished,
        launcher_alive=snapshot is not None,
        nodes=None if topology is None else len(topology.nodes),
        ready=len(ready),
        obus=None if topology is None else len(topology.obus),
        joined=sum(node.joined for node in ready),
    )


def inspect(name: str, *, stats: bool = True) -> TestbedView:
    """The testbed `name` as it is now; with `stats` every agent is asked what it counted.

    :raises NotRunning: there is none of that name, or not enough of it to show.
    """
    run = rundir.run_dir(name)
    topology = read_topology(run)
    state = journal.read(run.journal)
    if topology is None or state is None:
        left = " (but what a crash left of it: take it down)" if run.exists() else ""
        raise NotRunning(f"no testbed {name} is up{left}")
    snapshot = _ask_launcher(run)
    nodes = {} if snapshot is None else snapshot.nodes
    alive = [node.name for node in topology.nodes if node.name in nodes and nodes[node.name].alive]
    told = agent_control.ask_stats(run, alive) if stats else {}
    joinable = joining.joinable(topology, alive)
    return TestbedView(
        name=name,
        run_dir=str(run.path),
        source=topology.source,
        made_ns=state.header.made_ns,
        complete=not state.unfinished,
        launcher_pid=None if snapshot is None else snapshot.pid,
        nodes=tuple(
            _view(
                node,
                topology,
                state,
                nodes.get(node.name),
                lost=snapshot is None and node_key(node.name) in state.entries,
                joinable=node.name in joinable,
                told=told.get(node.name, Told()),
            )
            for node in topology.nodes
        ),
    )


def _ask_launcher(run: RunDir) -> Snapshot | None:
    try:
        with Launcher.connect(run, answer_s=2.0) as launcher:
            return launcher.snapshot()
    except LauncherGone:
        return None


def _view(
    node: Node,
    topology: Topology,
    state: journal.State,
    status: NodeStatus | None,
    *,
    lost: bool,
    joinable: bool,
    told: Told,
) -> NodeView:
    program = _program(state, node.name)
    shown, why = _state(status, lost=lost)
    ok = shown == "ready"
    if status is not None and status.alive and status.unheard is not None:
        why, ok = f"its agent is not listened to any more: {status.unheard}", False
    elif ok and node.kind == "obu" and status is not None and not status.joined:
        if program is None:
            why, ok = "no upstream", not joinable
        elif program.answers_on is not None and joinable:
            why, ok = joining.NOT_ANSWERED, False
    radio = _radio(state, node.name)
    if radio is None and why is None:
        why, ok = "has no radio", False
    if told.nonsense is not None:
        why = f"{why}; its agent {told.nonsense}" if why else f"its agent {told.nonsense}"
        ok = False
    alive = status is not None and status.alive
    return NodeView(
        name=node.name,
        kind=node.kind,
        state=shown,
        why=why,
        pid=status.pid if status is not None and alive else None,
        exit_status=None if status is None else status.exit_status,
        uptime_s=(time.monotonic_ns() - status.started_ns) / 1e9
        if status is not None and alive
        else None,
        netns=netns.namespace_name(topology.name, node.name),
        mac=node.mac,
        ipv4=str(node.ipv4),
        ipv6=str(node.ipv6),
        medium=radio,
        hears=tuple(sorted(topology.neighbours()[node.name], key=naturally)),
        upstream=None if status is None else _upstream(topology, status.upstream),
        engines=None if status is None else status.engines,
        stats=told.stats,
        restarts=0 if status is None else status.restarts,
        program=None if program is None else program.argv,
        answered=None if status is None else _upstream(topology, status.answered),
        ok=ok,
    )


def _state(status: NodeStatus | None, *, lost: bool) -> tuple[NodeState, str | None]:
    if lost:
        return "lost", "its launcher is gone"
    if status is None:
        return "stopped", None
    if status.alive:
        return status.state, None
    if status.asked:
        return "stopped", None
    why = describe_exit(status)
    if status.restart_at_ns is not None:
        left_s = max(0, status.restart_at_ns - time.monotonic_ns()) / 1e9
        why += f"; started again in {left_s:.1f} s"
    elif status.restarts:
        why += f"; not started again after {status.restarts} restarts"
    return "exited", why


def _program(state: journal.State, name: str) -> Program | None:
    entry = state.entries.get(node_key(name))
    if entry is None or not isinstance(entry.operation, StartNode):
        return None
    return entry.operation.spec.program


def _radio(state: journal.State, name: str) -> str | None:
    own = f"netns/{name}"
    for entry in state.entries.values():
        operation = entry.operation
        if isinstance(operation, MakeCable) and own in operation.needs:
            return "cable"
        if isinstance(operation, MakePort) and own in operation.needs:
            return operation.port
    return None


def _upstream(topology: Topology, told: Mapping[str, Any] | None) -> UpstreamView | None:
    if told is None:
        return None
    names = {node.mac: node.name for node in topology.nodes}
    mac, rsu = told.get("mac"), told.get("rsu")
    if mac is None:
        return None
    return UpstreamView(
        node=names.get(mac, mac),
        rsu=None if rsu is None else names.get(rsu, rsu),
        hops=told.get("hops"),
    )
