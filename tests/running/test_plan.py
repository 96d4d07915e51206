"""Plans: what is made in which order, and how one plan becomes another."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running_helpers import make_topology

from testbed.kernel.operations import Hear, MakeCable, MakeNamespace, MakePort
from testbed.running.plan import (
    Difference,
    Operation,
    Plan,
    StartNode,
    difference,
    operation_from_json,
    operation_to_json,
    plan,
)
from testbed.topology import medium
from testbed.topology.model import Link, Topology


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    """Any adjacency of up to seven nodes, some of them missing."""
    names = draw(st.lists(st.sampled_from(["rsu1", "rsu2", *"abcde"]), min_size=1, unique=True))
    couples = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    links = draw(st.lists(st.sampled_from(couples), unique=True)) if couples else []
    return make_topology("t", names, links=links)


class Ground:
    """What the operations would do to a kernel, kept honest: nothing is made on missing ground."""

    def __init__(self) -> None:
        self.there: dict[str, Operation] = {}

    def apply(self, change: Difference) -> None:
        for hearing in change.shrink:
            assert hearing.key in self.there
            self.there[hearing.key] = hearing
        for operation in change.undo:
            if isinstance(operation, MakePort):
                for other in self.there.values():
                    if isinstance(other, Hear) and other.port != operation.port:
                        assert operation.port not in other.peers, "a port goes that is still heard"
            del self.there[operation.key]
            dependents = [op for op in self.there.values() if operation.key in op.needs]
            assert all(isinstance(op, Hear) for op in dependents)
        for operation in change.do:
            assert isinstance(operation, Hear) or operation.key not in self.there
            for need in operation.needs:
                assert need in self.there, f"{operation.key} before {need}"
            self.there.pop(operation.key, None)
            self.there[operation.key] = operation
            ports = [op.port for op in self.there.values() if isinstance(op, MakePort)]
            assert len(ports) == len(set(ports))


def ports_of(there: dict[str, Operation]) -> dict[str, int]:
    return {
        key.removeprefix("radio/"): int(op.port[1:])
        for key, op in there.items()
        if isinstance(op, MakePort)
    }


@settings(max_examples=300, deadline=None)
@given(st.lists(topologies(), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_any_topology_becomes_any_other(steps: list[Topology], chance: object) -> None:
    ground = Ground()
    for topology in steps:
        wanted = plan(topology, ports=ports_of(ground.there))
        broken = {key for key in ground.there if chance.random() < 0.1}  # type: ignore[attr-defined]
        ground.apply(difference(ground.there, wanted, broken=broken))
        assert ground.there == {op.key: op for op in wanted.operations}
        assert difference(ground.there, wanted) == Difference(keep=wanted.operations)


@given(topologies())
def test_operations_survive_json(topology: Topology) -> None:
    for operation in plan(topology).operations:
        text = json.dumps(operation_to_json(operation))
        assert operation_from_json(json.loads(text)) == operation


@given(topologies())
def test_hearing_is_the_adjacency(topology: Topology) -> None:
    made = plan(topology)
    heard: dict[str, set[str]] = {node.name: set() for node in topology.nodes}
    by_port = {f"p{number}": name for name, number in made.ports.items()}
    for operation in made.operations:
        if isinstance(operation, Hear):
            heard[by_port[operation.port]] = {by_port[peer] for peer in operation.peers}
        if isinstance(operation, MakeCable):
            a, b = operation.key.removeprefix("radio/").split("+")
            heard[a], heard[b] = {b}, {a}
    assert heard == {name: set(peers) for name, peers in topology.neighbours().items()}


def test_a_lonely_pair_gets_a_cable_and_no_medium() -> None:
    made = plan(make_topology("t", ["rsu", "obu"], links=[("rsu", "obu")]))
    assert [type(op) for op in made.operations] == [
        MakeNamespace,
        MakeNamespace,
        MakeCable,
        StartNode,
        StartNode,
    ]
    assert made.ports == {}


def test_obus_start_before_rsus() -> None:
    made = plan(make_topology("t", ["rsu1", "a", "rsu2", "b"], segments=[["rsu1", "a", "rsu2"]]))
    assert [op.spec.name for op in made.operations if isinstance(op, StartNode)] == [
        "a",
        "b",
        "rsu1",
        "rsu2",
    ]


def test_only_named_nodes_are_started() -> None:
    topology = make_topology("t", ["rsu", "obu"], links=[("rsu", "obu")])
    started = [op for op in plan(topology, agents={"obu"}).operations if isinstance(op, StartNode)]
    assert [op.spec.name for op in started] == ["obu"]
    assert not any(isinstance(op, StartNode) for op in plan(topology, agents=False).operations)


def test_a_port_keeps_its_number_whoever_comes_or_goes() -> None:
    kept = medium.number_ports(("c", "b", "new", "newer"), {"a": 0, "b": 1, "c": 2})
    assert kept == {"c": 2, "b": 1, "new": 0, "newer": 3}


def test_moving_changes_hearing_in_place_and_nothing_else() -> None:
    names = ["rsu", "a", "b"]
    before = make_topology("t", names, links=[("rsu", "a"), ("a", "b")])
    after = make_topology("t", names, links=[("rsu", "a"), ("rsu", "b")])
    first = plan(before)
    change = difference({op.key: op for op in first.operations}, plan(after, ports=first.ports))
    assert change.undo == ()
    assert {op.key for op in change.do} == {"hearing/rsu", "hearing/a", "hearing/b"}


def test_a_node_starts_again_when_its_radio_is_made_again() -> None:
    before = make_topology("t", ["rsu", "a", "b"], links=[("rsu", "a")])
    after = make_topology("t", ["rsu", "a", "b"], links=[("rsu", "a"), ("a", "b")])
    first = plan(before)
    change = difference({op.key: op for op in first.operations}, plan(after, ports=first.ports))
    assert {"node/rsu", "node/a", "radio/rsu+a"} <= {op.key for op in change.undo}
    assert "node/b" not in {op.key for op in (*change.undo, *change.do)}


@pytest.mark.parametrize("broken", ["netns/a", "radio/a", "node/a"])
def test_what_stands_on_something_broken_is_made_again(broken: str) -> None:
    topology = make_topology("t", ["rsu", "a", "b"], segments=[["rsu", "a", "b"]])
    first: Plan = plan(topology)
    there = {op.key: op for op in first.operations}
    change = difference(there, plan(topology, ports=first.ports), broken={broken})
    again = {op.key for op in change.do}
    on_it = {"netns/a", "radio/a", "node/a"}
    expected = {
        "netns/a": on_it | {"hearing/rsu", "hearing/a", "hearing/b"},
        "radio/a": on_it - {"netns/a"} | {"hearing/rsu", "hearing/a", "hearing/b"},
        "node/a": {"node/a"},
    }
    assert again == expected[broken]


def test_links_named_twice_count_once() -> None:
    topology = make_topology("t", ["rsu", "a"], links=[("rsu", "a"), ("a", "rsu")])
    assert topology.links == (Link(a="rsu", b="a"), Link(a="a", b="rsu"))
    assert sum(isinstance(op, MakeCable) for op in plan(topology).operations) == 1
