"""Where a run happens, as its result describes it: the machine, the devices, what was unusual.

Looks and changes nothing. Must not know what is measured.
"""

from __future__ import annotations

import os
from dataclasses import asdict

from agent.config import SLOW_VARIABLE
from testbed import results
from testbed.container import inside
from testbed.experiment.pinning import Pins
from testbed.measure import environment
from testbed.running.running import Running


def surroundings(pins: Pins) -> results.Environment:
    """The machine as it is now, and how its CPUs are shared out; no devices yet."""
    machine = environment.machine()
    about = asdict(machine)
    about["machine"] = about.pop("architecture")
    about["load_average"] = list(machine.load_average)
    return results.Environment(
        **about, tester_cpus=list(pins.tester_cpus), node_cpus=list(pins.node)
    )


def devices(running: Running) -> list[results.Device]:
    """Every device in the nodes of a testbed; a TAP only while its node runs."""
    names = [node.name for node in running.topology.nodes]
    return [
        results.Device(**asdict(device))
        for device in environment.devices((name, running.netns(name)) for name in names)
    ]


def peculiarities(pinning: str | None) -> list[str]:
    """What a reader of the figures should know; `pinning` is what is wrong with the pins."""
    notes = [*inside.notes(), *([] if pinning is None else [pinning])]
    if (slow := os.environ.get(SLOW_VARIABLE, "0")) != "0":
        notes.append(f"nodes were slowed down on purpose: {SLOW_VARIABLE}={slow}")
    return notes
