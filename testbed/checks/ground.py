"""The nodes that checks are made on: the topology of a check for every variant, all up at once.

Variants are islands in one testbed: nobody in one hears anybody in another, so that all of them are
checked in the time of one. Must not know what is checked.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

from testbed.checks.site import Site
from testbed.kernel import netns
from testbed.running.running import Running
from testbed.scenario.model import Variant
from testbed.topology import addressing
from testbed.topology.model import Kind, Link, Node, NodeSettings, Segment, Topology

HELLO_MS: Final = 100
HISTORY: Final = 5
"""In checks, RSUs send a heartbeat every `HELLO_MS`, and a neighbour that is silent for `HISTORY`
of them has gone, whatever a variant says: a failover then shows within a second."""

CELL_NAME: Final = "a cell of an RSU and three OBUs"
RSU: Final = "rsu1"
OBUS: Final = ("obu1", "obu2", "obu3")
FAR: Final = "obu3"
"""The OBU that loses the RSU in a failover, and has the other two as its candidates then."""


def cell() -> Topology:
    """An RSU and three OBUs that all hear each other."""
    names = (RSU, *OBUS)
    macs = addressing.assign_macs("checks", names)
    prefix4, prefix6 = addressing.DEFAULT_PREFIX4, addressing.DEFAULT_PREFIX6
    ipv4 = addressing.assign4(names, prefix4, {})
    ipv6 = addressing.assign6(names, prefix6, {})
    nodes = tuple(
        Node(
            name=name,
            kind="rsu" if name == RSU else "obu",
            settings=NodeSettings(),
            ipv4=ipv4[name],
            ipv6=ipv6[name],
            mac=macs[name].radio,
            tap_mac=macs[name].tap,
        )
        for name in names
    )
    return Topology(
        name="checks",
        nodes=nodes,
        links=(),
        segments=(Segment(name="cell", members=names),),
        prefix4=prefix4,
        prefix6=prefix6,
    )


def as_variant(topology: Topology, variant: Variant, kinds: Collection[Kind]) -> Topology:
    """The topology with the nodes of these kinds as the variant has them.

    The others stay as they are, but for the heartbeats of checks.
    """
    return replace(
        topology,
        nodes=tuple(
            replace(
                node,
                settings=replace(
                    variant.settings(node) if node.kind in kinds else node.settings,
                    hello_periodicity_ms=HELLO_MS,
                    hello_history=HISTORY,
                ),
            )
            for node in topology.nodes
        ),
    )


def islands(topologies: Sequence[Topology], *, name: str) -> Topology:
    """All of them in one testbed of that name, apart from each other; see `island_node`.

    Inner addresses are those of each topology: no island ever hears another.
    """
    every = [
        (topology, node, island_node(index, node.name))
        for index, topology in enumerate(topologies)
        for node in topology.nodes
    ]
    macs = addressing.assign_macs(name, [unique for _, _, unique in every])
    return Topology(
        name=name,
        nodes=tuple(
            replace(node, name=unique, mac=macs[unique].radio, tap_mac=macs[unique].tap)
            for _, node, unique in every
        ),
        links=tuple(
            Link(a=island_node(index, link.a), b=island_node(index, link.b))
            for index, topology in enumerate(topologies)
            for link in topology.links
        ),
        segments=tuple(
            Segment(
                name=island_node(index, segment.name),
                members=tuple(island_node(index, member) for member in segment.members),
            )
            for index, topology in enumerate(topologies)
            for segment in topology.segments
        ),
        prefix4=topologies[0].prefix4,
        prefix6=topologies[0].prefix6,
    )


def island_node(index: int, name: str) -> str:
    """What a node of island `index` is called in the testbed."""
    return f"{index}.{name}"


def site(running: Running, index: int, topology: Topology) -> Site:
    """The nodes of island `index` of a testbed that is up, by the names that `topology` has."""
    there = {
        node.name: running.topology.node(island_node(index, node.name)) for node in topology.nodes
    }
    ports = running.ports()
    return Site(
        replace(
            topology,
            nodes=tuple(replace(there[name], name=name) for name in there),
        ),
        {name: running.netns(node.name) for name, node in there.items()},
        medium=netns.namespace_name(running.name, netns.MEDIUM_NODE),
        ports={name: ports[node.name] for name, node in there.items()},
    )
