"""Which pairs of nodes the protocol joins, by topology alone. Pure.

Must not know what a node is, or what was found.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from testbed.topology.model import Topology


def joined(topology: Topology, source: str, destination: str) -> bool:
    """Whether what the kernel at `source` asks for always finds `destination`.

    The two have to belong to the same RSU: an OBU belongs to the one that is nearest, and to none
    for certain where several are equally near. An address is asked for by group traffic, of which a
    reference RSU's copies reach OBUs one hop away alone (docs/protocol.md, "Group copies"): an OBU
    farther away is found only after it has asked itself.
    """
    home = homes(topology)
    a, b = home[source], home[destination]
    if a is None or b is None or a[0] != b[0]:
        return False
    copies = topology.node(b[0]).settings.group_copies
    return b[1] <= 1 or copies == "addressed"


def homes(topology: Topology) -> Mapping[str, tuple[str, int] | None]:
    """The RSU that each node belongs to, and how many hops it is away; None: not certain."""
    found: dict[str, list[tuple[int, str]]] = {node.name: [] for node in topology.nodes}
    neighbours = topology.neighbours()
    rsus = {rsu.name for rsu in topology.rsus}
    for rsu in rsus:
        distance = {rsu: 0}
        waiting = deque([rsu])
        while waiting:
            name = waiting.popleft()
            for other in neighbours[name]:
                # RSUs pass nothing on.
                if other not in distance and other not in rsus:
                    distance[other] = distance[name] + 1
                    waiting.append(other)
        for name, hops in distance.items():
            found[name].append((hops, rsu))
    return {name: _nearest(sorted(there)) for name, there in found.items()}


def _nearest(there: list[tuple[int, str]]) -> tuple[str, int] | None:
    if not there or (len(there) > 1 and there[0][0] == there[1][0]):
        return None
    hops, rsu = there[0]
    return rsu, hops
