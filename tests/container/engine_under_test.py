"""What a test may do with the real engine, past the testbed, to see what it has done."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class RealEngine:
    """`host` is for DOCKER_HOST, empty for the machine's own engine."""

    host: str
    image: str

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | ({"DOCKER_HOST": self.host} if self.host else {})

    def docker(self, *arguments: str) -> str:
        """What the client prints; the test fails where the client does."""
        done = subprocess.run(
            ("docker", *arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def containers(self) -> list[str]:
        """Those of ours, in whatever state."""
        return self.docker("ps", "-a", "-q", "--filter", "label=testbed.owner").split()


def same_twice(name: str, *, trial: str, repeats: int = 4) -> str:
    """A scenario on `near.yaml` whose two variants are one.

    Fewer than five pairs decide nothing, on any machine: the verdict is inconclusive. More than
    one, since a busy machine may spoil some.
    """
    return f"""\
name: {name}
topology: near.yaml
measure:
  relay: {{node: obu1, path: relay}}
traffic:
  loads: {{low: 500pps}}
variants:
  single: {{baseline: true, engine: per-packet, handler: per-packet, batch: 1}}
  again: {{engine: per-packet, handler: per-packet, batch: 1}}
targets: [throughput-low]
repeats: {repeats}
trial: {trial}
warm_up: 20ms
"""
