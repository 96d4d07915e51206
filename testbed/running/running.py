"""A testbed that is up, in the hands of whoever works with it.

Nodes are stopped and started with other settings, and who hears whom is changed, in milliseconds;
each change is in the journal. Must not know how a testbed is brought up or taken away.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from types import TracebackType

from testbed import rundir
from testbed.errors import InputError, TestbedError
from testbed.kernel import netns
from testbed.kernel.netlink import Kernel
from testbed.kernel.operations import MakePort
from testbed.launch.client import Launcher, NodeStatus
from testbed.rundir import RunDir
from testbed.running import agent_control, joining, journal
from testbed.running.apply import Phase
from testbed.running.joining import NotReady
from testbed.running.journal import Journal, State
from testbed.running.plan import StartNode, hear, node_key, node_spec
from testbed.topology.model import NodeSettings, Topology


class NotRunning(TestbedError):
    """There is no testbed of that name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UpReport:
    """What `up` did.

    `reconciled` tells that the testbed was there before; `made`, `removed` and `kept` count
    operations. `not_ready` holds the nodes that are not ready or not joined, with the reason;
    `warnings` what may hurt later.
    """

    phases: tuple[Phase, ...]
    seconds: float
    reconciled: bool
    made: int
    removed: int
    kept: int
    not_ready: tuple[NotReady, ...]
    warnings: tuple[str, ...]


class Running:
    """A testbed that is up. Closing it lets go of the connection; the testbed stays."""

    def __init__(
        self, topology: Topology, run: RunDir, launcher: Launcher, report: UpReport | None = None
    ) -> None:
        """Made by `up` and `attach`."""
        self.topology = topology
        self.run = run
        self.launcher = launcher
        self.report = report
        self._as_started = topology

    @property
    def name(self) -> str:
        """The testbed's name."""
        return self.topology.name

    def netns(self, node: str) -> str:
        """The name of the node's namespace, for `ip netns exec`. KeyError without such a node."""
        return netns.namespace_name(self.name, self.topology.node(node).name)

    def ports(self) -> dict[str, str]:
        """The port of every node that has one in the namespace of the medium."""
        state = journal.read(self.run.journal)
        return {} if state is None else {n: f"p{port}" for n, port in port_numbers(state).items()}

    def close(self) -> None:
        """Disconnect."""
        self.launcher.close()

    def __enter__(self) -> Running:
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

    def status(self) -> dict[str, NodeStatus]:
        """Every node that was ever started, as its launcher sees it."""
        return self.launcher.status()

    def stop(self, node: str, *, timeout_s: float = 2.0) -> NodeStatus | None:
        """Let the node's process leave, and wait for that; None if it was never started."""
        self.topology.node(node)
        status = self.launcher.stop([node], timeout_s).nodes.get(node)
        with rundir.locked(self.run) as there, self._log(there) as log:
            log.undone(node_key(node))
        return status

    def _log(self, there: bool) -> AbstractContextManager[Journal]:
        if not there or journal.read(self.run.journal) is None:
            raise NotRunning(f"testbed {self.name} is not up any more")
        return closing(Journal(self.run.journal))

    def restart(
        self,
        node: str,
        settings: NodeSettings | None = None,
        *,
        cpus: tuple[int, ...] | None = None,
        wait_s: float = 5.0,
        timeout_s: float = 2.0,
    ) -> NodeStatus:
        """Stop the node's process if there is one, and start it, with other settings if given.

        Returns when it is ready, died, or `wait_s` have passed (of a program, the time that it is
        given itself); the status tells which. An OBU has no upstream yet: see `wait_joined`.
        """
        wanted = self.topology.node(node)
        chosen = wanted.settings if settings is None else settings
        if chosen.is_program:
            wait_s = chosen.ready_within_ms / 1000 + timeout_s
        with rundir.locked(self.run) as there, self._log(there) as log:
            state = journal.read(self.run.journal)
            assert state is not None
            self.launcher.stop([node], timeout_s)
            operation = StartNode(
                key=node_key(node),
                kind=wanted.kind,
                spec=node_spec(self.name, wanted, chosen, cpus),
                needs=(f"netns/{node}", _radio_key(state, node)),
            )
            log.begin(operation)
            self.launcher.start([operation.spec])
            log.done(operation.key)
        self._as_started = _with_settings(self._as_started, node, chosen)
        return self.launcher.wait(lambda status: status[node].state != "starting", wait_s).nodes[
            node
        ]

    def nudge(self) -> None:
        """Have every RSU send a heartbeat now."""
        agent_control.ask_for_heartbeats(self.run, [rsu.name for rsu in self.topology.rsus])

    def wait_joined(self, timeout_s: float = 5.0) -> tuple[NotReady, ...]:
        """Wait until the running OBUs have an upstream; what has none returns, with the reason.

        RSUs are asked for a heartbeat now and whenever one seems to have been lost; where one is a
        program, which cannot be asked, it may take as long as two of its own.
        """
        alive = {name for name, node in self.status().items() if node.alive}
        self.nudge()
        return joining.wait(
            self._as_started,
            self.run,
            self.launcher,
            timeout_s=self.patience_s(timeout_s),
            running=alive,
            check=lambda: None,
            step=lambda done: None,
        )

    def patience_s(self, usual_s: float) -> float:
        """How long joining may take where it takes `usual_s`: longer if an RSU is a program."""
        return joining.patience_s(self._as_started, usual_s)

    def rewire(self, neighbours: Mapping[str, Collection[str]]) -> None:
        """Change who hears the nodes that are keys, while everything runs; no frame is doubled.

        `neighbours` is not made symmetric: give both directions. The next `up` of the topology
        sets everything back to what its file says.

        :raises InputError: a node is on a cable with another and has no port in the medium.
        """
        with rundir.locked(self.run) as there, self._log(there) as log, Kernel() as kernel:
            state = journal.read(self.run.journal)
            ports = port_numbers(state) if state is not None else {}
            for name, peers in neighbours.items():
                for needed in (name, *peers):
                    self.topology.node(needed)
                    if needed not in ports:
                        raise InputError(
                            f"{needed} has no port in the medium of {self.name}",
                            expected="a testbed brought up with every radio in the medium",
                        )
                hearing = hear(self.name, name, sorted(peers), ports)
                log.begin(hearing)
                kernel.hear(hearing)
                log.done(hearing.key)


def _with_settings(topology: Topology, node: str, settings: NodeSettings) -> Topology:
    nodes = tuple(
        replace(one, settings=settings) if one.name == node else one for one in topology.nodes
    )
    return replace(topology, nodes=nodes)


def _radio_key(state: State, node: str) -> str:
    own = f"netns/{node}"
    for key, entry in state.entries.items():
        if key.startswith("radio/") and own in entry.operation.needs:
            return key
    raise NotRunning(f"{node} has no radio in testbed {state.header.testbed}")


def port_numbers(state: State) -> dict[str, int]:
    """The number of every node's port in the medium."""
    return {
        key.removeprefix("radio/"): int(entry.operation.port.removeprefix("p"))
        for key, entry in state.entries.items()
        if isinstance(entry.operation, MakePort)
    }


def attach(name: str) -> Running:
    """Hold on to a testbed that is up.

    :raises NotRunning: there is none of that name. :raises LauncherGone: its launcher is dead.
    """
    run = rundir.run_dir(name)
    topology = read_topology(run)
    if topology is None:
        raise NotRunning(f"no testbed {name} is up")
    return Running(topology, run, Launcher.connect(run))


def read_topology(run: RunDir) -> Topology | None:
    """The topology of a testbed as it was resolved; None if there is no such testbed.

    :raises TestbedError: another version wrote it.
    """
    try:
        return Topology.from_json(json.loads(run.topology.read_text()))
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise TestbedError(f"{run.topology}: not of this version ({error!r})") from error
