"""What nodes say by themselves, counted hop by hop."""

from __future__ import annotations

from dataclasses import replace

import pytest

from testbed.topology.control_load import FRAMES_PER_CPU, frames_per_s, warning
from testbed.topology.loader import load_topology
from testbed.topology.model import Topology


def with_period(name: str, period_ms: int) -> Topology:
    topology = load_topology(name)
    return replace(
        topology,
        nodes=tuple(
            replace(node, settings=replace(node.settings, hello_periodicity_ms=period_ms))
            for node in topology.nodes
        ),
    )


@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("pair", 1 + (1 + 1)),  # heartbeat, passed on, answered
        ("line", 1 + (1 + 1) + (1 + 2) + (1 + 3)),
        ("cell", 1 + 6 * (1 + 1)),
    ],
)
def test_one_heartbeat_and_the_answers_to_it(name: str, frames: int) -> None:
    assert frames_per_s(with_period(name, 1000)) == frames
    assert frames_per_s(with_period(name, 250)) == 4 * frames


def test_rsus_pass_on_nothing() -> None:
    """Of three RSUs in a row, with an OBU between each two, none hears through another."""
    highway = with_period("highway", 1000)
    heard = frames_per_s(highway)
    alone = []
    for rsu in highway.rsus:
        nodes = tuple(node for node in highway.nodes if node.kind == "obu" or node is rsu)
        names = {node.name for node in nodes}
        links = tuple(link for link in highway.links if {link.a, link.b} <= names)
        alone.append(frames_per_s(replace(highway, nodes=nodes, links=links)))
    assert heard == sum(alone)


def test_a_warning_where_the_machine_may_be_too_small() -> None:
    assert warning(load_topology("highway"), cpus=1) is None
    busy = with_period("cell", 1)
    assert 2 * FRAMES_PER_CPU < frames_per_s(busy) < 3 * FRAMES_PER_CPU
    told = warning(busy, cpus=2)
    assert told is not None
    assert "13000 frames in a second" in told
    assert warning(busy, cpus=3) is None
