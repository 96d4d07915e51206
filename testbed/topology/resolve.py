"""From the topology file as written to the topology as it holds: inherited, checked, addressed.

Must not know YAML nor how single values are written. Finds everything that only shows when parts
of the file are seen together, and reports all of it at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from testbed.files.document import Document, Place
from testbed.files.fields import did_you_mean
from testbed.files.problems import Problems
from testbed.topology import addressing, model
from testbed.topology.adjacency import Adjacency
from testbed.topology.effect import without_effect
from testbed.topology.file import Body, NodeBody, TopologyFile
from testbed.topology.given_addresses import check_prefix, given
from testbed.topology.settings import KindedSettings, Settings, merge, said

Kinds = dict[str, str | None]


def resolve(file: TopologyFile, document: Document, *, name: str | None = None) -> model.Topology:
    """The topology; `name` replaces the one in the file. `FileError` with all that is wrong."""
    body, name = file.topology, name or file.name
    problems = Problems(document)
    kinds = _kinds(body, problems)
    _check_kinds(kinds, problems)
    _check_periods(body, kinds, problems)
    _check_effect(body, kinds, problems)
    adjacency = Adjacency(body.nodes, problems)
    links = adjacency.links(body.links)
    segments = adjacency.segments(body.segments)
    adjacency.check_heard(links, segments)
    prefix4 = body.addressing.ipv4 or addressing.DEFAULT_PREFIX4
    prefix6 = body.addressing.ipv6 or addressing.DEFAULT_PREFIX6
    check_prefix(prefix4, len(body.nodes), problems)
    check_prefix(prefix6, len(body.nodes), problems)
    given4 = given({node: said.ipv4 for node, said in body.nodes.items()}, prefix4, problems)
    given6 = given({node: said.ipv6 for node, said in body.nodes.items()}, prefix6, problems)
    problems.raise_any()
    ipv4 = addressing.assign4(body.nodes, prefix4, given4)
    ipv6 = addressing.assign6(body.nodes, prefix6, given6)
    macs = addressing.assign_macs(name, body.nodes)
    return model.Topology(
        name=name,
        nodes=tuple(
            model.Node(
                name=node,
                kind=cast(model.Kind, kinds[node]),
                settings=merge(_layers(body, said, kinds[node])),
                ipv4=ipv4[node],
                ipv6=ipv6[node],
                mac=macs[node].radio,
                tap_mac=macs[node].tap,
                position=said.position,
            )
            for node, said in body.nodes.items()
        ),
        links=links,
        segments=segments,
        prefix4=prefix4,
        prefix6=prefix6,
        source=document.file,
    )


def _group(body: Body, node: NodeBody) -> KindedSettings | None:
    return None if node.group is None else body.groups.get(node.group)


def _layers(body: Body, node: NodeBody, kind: str | None) -> Sequence[Settings]:
    """Where a node's settings come from, the strongest first."""
    group = _group(body, node)
    of_kind = body.kinds.rsu if kind == "rsu" else body.kinds.obu
    return (node, *(() if group is None else (group,)), of_kind, body.defaults)


def _kinds(body: Body, problems: Problems) -> Kinds:
    """The kind of every node; None, and a problem, where the file does not say it."""
    kinds: Kinds = {}
    for name, node in body.nodes.items():
        place: Place = ("topology", "nodes", name)
        group = _group(body, node)
        lost = node.group is not None and group is None
        if node.group is not None and group is None:
            known = list(body.groups)
            problems.add(
                (*place, "group"),
                f"there is no such group{did_you_mean(node.group, known)}",
                value=node.group,
                expected="one of " + ", ".join(known) if known else "a key of topology.groups",
            )
        kind = node.kind or (group.kind if group else None) or body.defaults.kind
        kinds[name] = kind
        # A node whose group is not there may have got its kind from that.
        if kind is None and not lost:
            problems.add(
                place,
                "the node has no kind",
                expected="kind: obu or kind: rsu here, in its group or in defaults",
            )
    return kinds


def _check_kinds(kinds: Kinds, problems: Problems) -> None:
    if not kinds:
        problems.add(("topology", "nodes"), "there are no nodes", expected="an RSU and an OBU")
    if not kinds or None in kinds.values():
        return
    for kind, meaning in (("obu", "on-board unit"), ("rsu", "roadside unit")):
        if kind not in kinds.values():
            problems.add(
                ("topology", "nodes"),
                f"there is no {kind.upper()} ({meaning})",
                expected=f"at least one node with kind: {kind}",
            )


def _check_periods(body: Body, kinds: Kinds, problems: Problems) -> None:
    """A period where only OBUs would read it has no effect, and that must be said."""
    places: list[tuple[Place, Settings]] = [(("topology", "kinds", "obu"), body.kinds.obu)]
    places += [
        (("topology", "nodes", name), node)
        for name, node in body.nodes.items()
        if kinds[name] == "obu"
    ]
    for place, settings in places:
        if settings.hello.period is not None:
            problems.add(
                (*place, "hello", "period"),
                "an OBU sends no heartbeats of its own",
                expected="the period at an RSU, in kinds.rsu or in defaults",
            )


def _check_effect(body: Body, kinds: Kinds, problems: Problems) -> None:
    """What a node says itself must mean something to what runs there."""
    for name, node in body.nodes.items():
        effective = merge(_layers(body, node, kinds[name]))
        for place, problem, expected in without_effect(said([node]), effective):
            problems.add(("topology", "nodes", name, *place), problem, expected=expected)
