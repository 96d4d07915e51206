"""How much the nodes of a topology say by themselves: heartbeats, and the answers to them.

Every OBU that an RSU's heartbeat reaches passes it on and answers, and the answer goes back hop by
hop; so in one connected topology of many nodes it is far more than the number of nodes. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from typing import Final

from testbed.topology.model import Topology

FRAMES_PER_CPU: Final = 5000
"""Control frames in a second that keep a CPU half busy; docs/protocol.md says where it is from."""


def frames_per_s(topology: Topology) -> float:
    """Control frames sent in a second, each hop counted, once all have joined."""
    neighbours = topology.neighbours()
    obus = {node.name for node in topology.obus}
    return sum(
        (1 + sum(1 + hops for hops in _hops(rsu.name, neighbours, obus).values()))
        / (rsu.settings.hello_periodicity_ms / 1000)
        for rsu in topology.rsus
    )


def warning(topology: Topology, *, cpus: int) -> str | None:
    """What to tell somebody whose machine has so many CPUs; None if it is not too much for it."""
    frames = frames_per_s(topology)
    if frames <= FRAMES_PER_CPU * cpus:
        return None
    return (
        f"heartbeats and their answers are {frames:.0f} frames in a second, each hop counted: "
        f"more than {cpus} CPUs may bear beside traffic; a longer hello period makes them fewer"
    )


def _hops(
    rsu: str, neighbours: Mapping[str, Collection[str]], obus: Collection[str]
) -> dict[str, int]:
    """The OBUs that the RSU's heartbeats reach, and how many hops away they are."""
    hops: dict[str, int] = {}
    waiting = deque([(rsu, 0)])
    while waiting:
        name, far = waiting.popleft()
        for other in neighbours[name]:
            if other in obus and other not in hops:
                hops[other] = far + 1
                waiting.append((other, far + 1))
    return hops
