"""One run of `up` over one testbed: what is missing made, what is not wanted removed.

What fails half-way is undone: a new testbed is removed, one that was up before is brought back to
what it was. Must not know how any one thing is made.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from contextlib import ExitStack, suppress

from testbed.errors import TestbedError
from testbed.interrupts import Interrupts
from testbed.kernel import netns
from testbed.kernel.netlink import Kernel, has_radio
from testbed.kernel.operations import MakeCable, MakeNamespace, MakePort
from testbed.launch.client import Launcher, LauncherGone, NodeStatus
from testbed.launch.spawning import Spawned, spawn
from testbed.rundir import RunDir
from testbed.running import joining, journal, removal
from testbed.running.apply import Applier, Timeline
from testbed.running.joining import NotReady
from testbed.running.journal import Journal, State
from testbed.running.plan import Difference, Plan, StartNode, difference, plan
from testbed.running.running import Running, port_numbers, read_topology
from testbed.topology.model import Topology


def _write_topology(run: RunDir, topology: Topology) -> None:
    try:
        run.topology_draft.write_text(json.dumps(topology.to_json(), indent=1))
        run.topology_draft.rename(run.topology)
    except OSError as error:
        raise TestbedError(f"{run.topology}: cannot write: {error.strerror}") from error


class BringUp:
    """One run of `up`, which holds the lock."""

    def __init__(
        self,
        topology: Topology,
        run: RunDir,
        timeline: Timeline,
        interrupts: Interrupts,
        wait_s: float,
        *,
        restart: bool = False,
    ) -> None:
        self._topology = topology
        self._run = run
        self._timeline = timeline
        self._interrupts = interrupts
        self._wait_s = wait_s
        self._restart = restart
        self.reconciled = False
        self.made = Difference()
        self.not_ready: tuple[NotReady, ...] = ()

    def go(
        self,
        *,
        agents: bool | Collection[str],
        cables: bool,
        cpus: Mapping[str, tuple[int, ...]] | None,
    ) -> Running:
        """Bring it up; on failure undo that."""
        before = journal.read(self._run.journal)
        if before is None:
            self._require_no_launcher()
        old_topology = read_topology(self._run)
        self.reconciled = before is not None
        ports = {} if before is None else port_numbers(before)
        wanted = plan(self._topology, agents=agents, ports=ports, cables=cables, cpus=cpus)
        try:
            if before is None:
                Journal.begin_new(self._run.journal, self._topology.name).close()
            return self._bring(self._topology, wanted)
        except BaseException as error:
            if before is None or old_topology is None:
                removal.remove(self._run, grace_s=0.5)
            else:
                self._go_back(before, old_topology, error)
            raise

    def _require_no_launcher(self) -> None:
        """What runs without a journal cannot be made equal to anything."""
        with suppress(LauncherGone), Launcher.connect(self._run, answer_s=5.0):
            raise TestbedError(
                f"{self._run.journal} is gone, and testbed {self._run.name} runs: `testbed down "
                f"{self._run.name}` takes it down all the same"
            )

    def _go_back(self, before: State, old_topology: Topology, error: BaseException) -> None:
        self._interrupts.ignore()
        old = Plan(
            testbed=old_topology.name,
            operations=tuple(before.operations.values()),
            ports=port_numbers(before),
        )
        try:
            self._bring(old_topology, old).close()
        except Exception as second:
            raise TestbedError(
                f"{error}; testbed {old_topology.name} could not be brought back to what it was "
                f"({second}): take it down"
            ) from error

    def _bring(self, topology: Topology, wanted: Plan) -> Running:
        state = journal.read(self._run.journal)
        assert state is not None
        _write_topology(self._run, topology)
        with ExitStack() as stack, ExitStack() as on_failure:
            kernel = stack.enter_context(Kernel())
            log = Journal(self._run.journal)
            stack.callback(log.close)
            launcher, spawned = self._find_launcher(state)
            stack.callback(spawned.close) if spawned is not None else None
            on_failure.callback(launcher.close) if launcher is not None else None
            status = {} if launcher is None else launcher.status()
            self.made = difference(state.operations, wanted, broken=_broken(state, status))
            applier = Applier(
                kernel=kernel,
                journal=log,
                mark=removal.alias(self._run.path, state.header.nonce),
                entries=state.entries,
                timeline=self._timeline,
                interrupts=self._interrupts,
                restart=self._restart,
            )
            applier.undo(self.made, launcher)
            with netns.directory():
                applier.make(self.made.do)
            if launcher is None:
                assert spawned is not None
                with self._timeline.phase("launcher", 1):
                    launcher = spawned.connect(check=self._interrupts.check)
                on_failure.callback(launcher.close)
            deadline = time.monotonic() + self._wait_s
            applier.start(self.made.do, launcher, self._wait_s)
            self._join(topology, wanted, launcher, deadline - time.monotonic())
            self._interrupts.check()
            on_failure.pop_all()
            return Running(topology, self._run, launcher)

    def _find_launcher(self, state: State) -> tuple[Launcher | None, Spawned | None]:
        """The launcher that is there, or one on its way."""
        try:
            # One that hangs is as good as dead.
            with Launcher.connect(self._run, answer_s=5.0) as launcher:
                launcher.status()
            return Launcher.connect(self._run), None
        except LauncherGone:
            removal.end_marked(self._run.path)  # of a dead launcher nothing can be watched
            return None, spawn(self._run, state.header.nonce)

    def _join(
        self, topology: Topology, wanted: Plan, launcher: Launcher, remaining_s: float
    ) -> None:
        names = [op.spec.name for op in wanted.operations if isinstance(op, StartNode)]
        expected = joining.expected_to_join(topology, names)
        with self._timeline.phase("joining", len(expected)) as step:
            self.not_ready = joining.wait(
                topology,
                self._run,
                launcher,
                timeout_s=max(0.0, remaining_s),
                running=names,
                check=self._interrupts.check,
                step=step,
            )


def _broken(state: State, status: Mapping[str, NodeStatus]) -> set[str]:
    """The keys of what the journal names and the kernel has not, or only half."""
    broken = state.unfinished
    for key, entry in state.entries.items():
        match entry.operation:
            case MakeNamespace(netns=name):
                if netns.inode_of(name) != entry.inode:
                    broken.add(key)
            case MakeCable(netns=(a, b)):
                if not (has_radio(a) and has_radio(b)):
                    broken.add(key)
            case MakePort(netns=name):
                if not has_radio(name):
                    broken.add(key)
            case StartNode(spec=spec):
                node = status.get(spec.name)
                if node is None or not node.alive:
                    broken.add(key)
            case _:
                pass
    return broken
