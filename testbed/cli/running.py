"""Which testbed and which node a command means: those that were named, or the only one there is.

Must not know what the command does with it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from testbed.errors import InputError, Lacking

if TYPE_CHECKING:
    from testbed.rundir import RunDir
    from testbed.topology.model import Topology


def require_root() -> None:
    """Run directories are root's: without root nothing can be found out about a testbed."""
    if os.geteuid() != 0:
        raise Lacking("a running testbed is root's", "run it with sudo")


def names() -> list[str]:
    """The testbeds that are up, and those of which something is left."""
    from testbed import rundir

    require_root()
    return [found.name for found in rundir.all_run_dirs()]


def named_or_only(name: str | None) -> str:
    """`name`, or the only testbed there is; `InputError` where there is none or several."""
    found = names()
    if name is not None:
        return name
    if not found:
        raise InputError("no testbed is up", expected="`testbed up FILE` before")
    if len(found) > 1:
        raise InputError(
            "several testbeds are up, so which one? Say it with -n",
            expected="one of " + ", ".join(found),
        )
    return found[0]


def topology_of(name: str | None) -> tuple[RunDir, Topology]:
    """The run directory and the topology of a testbed that is up; `InputError` if it is not."""
    from testbed import rundir
    from testbed.running.running import read_topology

    run = rundir.run_dir(named_or_only(name))
    topology = read_topology(run)
    if topology is None:
        raise not_up(run.name)
    return run, topology


def not_up(name: str) -> InputError:
    """That there is no testbed of that name, or not enough of it."""
    there = names()
    if name in there:
        return InputError(
            f"testbed {name} is not up, but something of it is left",
            expected=f"`testbed down {name}`, then `testbed up FILE`",
        )
    return InputError("no testbed of that name is up", value=name, expected=_among(there))


def check_node(topology: Topology, node: str) -> None:
    """`InputError` where the testbed has no such node."""
    known = [one.name for one in topology.nodes]
    if node not in known:
        raise InputError(
            f"testbed {topology.name} has no such node", value=node, expected=_among(known)
        )


def _among(known: list[str]) -> str:
    return "one of " + ", ".join(known) if known else "`testbed up FILE` before"
