"""Testbeds, brought up, held on to and taken down: what commands and scenarios call.

`up` makes what is missing, removes what is not wanted and leaves the rest as it runs. Must not know
how anything is done, only what has to hold before.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from typing import Final

from testbed import rundir
from testbed.errors import InputError
from testbed.interrupts import Interrupts, Terminated
from testbed.kernel import limits, netns
from testbed.rundir import Busy, RunDir
from testbed.running import journal, removal
from testbed.running.apply import Phase, Progress, Timeline
from testbed.running.bringup import BringUp
from testbed.running.joining import NotReady
from testbed.running.removal import Removed, down, down_all
from testbed.running.running import NotRunning, Running, UpReport, attach
from testbed.topology import control_load
from testbed.topology.model import Topology

__all__ = [
    "Busy",
    "NotReady",
    "NotRunning",
    "Phase",
    "Progress",
    "Removed",
    "Running",
    "Terminated",
    "UpReport",
    "attach",
    "down",
    "down_all",
    "up",
]

_LONGEST_FILE_NAME: Final = 255
"""NAME_MAX: a namespace is known by a file."""


def up(
    topology: Topology,
    *,
    wait_s: float = 10.0,
    progress: Progress | None = None,
    agents: bool | Collection[str] = True,
    cables: bool = True,
    cpus: Mapping[str, tuple[int, ...]] | None = None,
    restart: bool = False,
) -> Running:
    """Make `topology` real, or make a testbed of that name that is up equal to it.

    Waits up to `wait_s` for agents that are ready and OBUs that have an upstream; which have not
    is in the report of what returns, and no failure. `agents` names the nodes that get a process.
    With `cables` False every radio is in the medium, so that `Running.rewire` can move it. `cpus`
    pins nodes. With `restart` nodes that die are started again, but not those that
    `Running.restart` started. If anything fails, and on Ctrl-C or SIGTERM, a new testbed is undone,
    and one that was up before is brought back to what it was.

    :raises Lacking: rights or limits do not suffice; nothing was made.
    :raises Busy: another command is working on a testbed of that name.
    :raises TestbedError: something could not be made; undone.
    """
    begun = time.monotonic()
    run = rundir.run_dir(topology.name)
    known = {node.name for node in topology.nodes}
    if not isinstance(agents, bool) and (unknown := sorted(set(agents) - known)):
        raise InputError(f"no such node: {', '.join(unknown)}")
    for name in known:
        if len(netns.namespace_name(topology.name, name)) > _LONGEST_FILE_NAME:
            raise InputError("node name", value=name, expected="a shorter name")
    timeline = Timeline(progress)
    with timeline.phase("checks", 1):
        limits.require_rights()
        warnings = [str(limit) for limit in limits.require(len(topology.nodes))]
    hops = topology.hops_to_rsu()
    too_much = control_load.warning(topology, cpus=len(os.sched_getaffinity(0)))
    warnings += [] if too_much is None else [too_much]
    warnings += [f"{name} has no path to any RSU" for name in sorted(known) if hops[name] is None]
    with Interrupts() as interrupts:
        _clear_stale(run)
        with rundir.locked(run, create=True):
            bringing = BringUp(topology, run, timeline, interrupts, wait_s, restart=restart)
            running = bringing.go(agents=agents, cables=cables, cpus=cpus)
    running.report = UpReport(
        phases=tuple(timeline.phases),
        seconds=time.monotonic() - begun,
        reconciled=bringing.reconciled,
        made=len(bringing.made.do),
        removed=len(bringing.made.undo),
        kept=len(bringing.made.keep),
        not_ready=bringing.not_ready,
        warnings=tuple(warnings),
    )
    return running


def _clear_stale(run: RunDir) -> None:
    """Remove what a testbed of that name left in files, if the machine was booted since."""
    with rundir.locked(run) as there:
        if there:
            state = journal.read(run.journal)
            if state is not None and not state.header.of_this_boot:
                removal.remove(run)
