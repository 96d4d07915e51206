"""The node agent as a forwarder, with any settings; and which of its engines work here.

The agent is started and asked as in any testbed; nothing of it is imported.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from testbed.bench.ground import NODE, Ground, Read, Reading
from testbed.errors import TestbedError
from testbed.measure import procstat
from testbed.running import agent_control
from testbed.topology.model import NodeSettings
from testbed.traffic.paths import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Agent:
    """An agent with these settings."""

    settings: NodeSettings

    @contextmanager
    def forwarding(self, ground: Ground, way: Path) -> Iterator[Read]:
        """Start it; :raises TestbedError: it does not come up."""
        running = ground.running
        status = running.restart(NODE, self.settings, cpus=ground.node_cpus)
        try:
            if status.state != "ready":
                line = running.run.last_log_line(NODE)
                raise TestbedError(f"the agent is {status.state}" + (f": {line}" if line else ""))

            def read(beginning: bool) -> Reading:
                # Answering costs the agent CPU time: it answers outside of what is counted.
                process = None if beginning else procstat.sample(status.pid)
                answer = agent_control.ask_stats(running.run, [NODE])[NODE]
                if answer.stats is None:
                    raise TestbedError(f"the agent {answer.nonsense or 'does not answer'}")
                told = answer.stats
                process = process or procstat.sample(status.pid)
                return Reading(
                    cpu_ns=process.cpu.total_ns,
                    run_delay_ns=process.cpu.run_delay_ns,
                    switches=process.switches.voluntary,
                    calls=told["syscalls"],
                    extra=_extra(told),
                )

            yield read
        finally:
            running.stop(NODE)


def _extra(told: Mapping[str, Any]) -> dict[str, int]:
    found = {"wakeups": told["wakeups"]}
    coalescing = told.get("coalescing")
    if coalescing:
        found["waits"] = coalescing["waits"]
        found |= {f"decision:{name}": n for name, n in coalescing["decisions"].items()}
    return found


def probe_engines() -> dict[tuple[str, str], str | None]:
    """Of each engine and side ("wire", "tap"): None if it works here, else why not."""
    done = subprocess.run(
        [sys.executable, "-m", "agent.cli", "engines", "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise TestbedError(f"the agent cannot say what works: {done.stderr.strip()}")
    return {
        (engine, side): None if found["available"] else found["why_not"]
        for engine, sides in json.loads(done.stdout).items()
        for side, found in sides.items()
    }
