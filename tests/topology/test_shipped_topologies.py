"""The topologies that come along are what they say they are, wherever they are installed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from testbed import shipped
from testbed.topology.loader import load_topology
from testbed.topology.model import Topology

RADIO_RANGE_M = 300


def load(name: str) -> Topology:
    return load_topology(name, env={})


def test_these_are_shipped() -> None:
    assert {"pair", "line", "cell", "highway"} <= set(shipped.names("topologies"))


@pytest.mark.parametrize("name", shipped.names("topologies"))
def test_every_shipped_topology_loads(name: str) -> None:
    topology = load(name)
    assert topology.name == name
    assert topology.obus
    for rsu in topology.rsus:
        assert rsu.settings.hello_periodicity_ms == 1000
    unreachable = [node for node, hops in topology.hops_to_rsu().items() if hops is None]
    assert unreachable == []


def test_pair_is_two_nodes() -> None:
    assert load("pair").neighbours() == {"rsu1": {"obu1"}, "obu1": {"rsu1"}}


def test_line_has_three_hops() -> None:
    topology = load("line")
    assert topology.hops_to_rsu() == {"rsu1": 0, "obu1": 1, "obu2": 2, "obu3": 3}
    assert sum(len(others) for others in topology.neighbours().values()) == 2 * 3


def test_in_cell_all_hear_all() -> None:
    topology = load("cell")
    assert (len(topology.rsus), len(topology.obus)) == (1, 6)
    everybody = {node.name for node in topology.nodes}
    assert all(others == everybody - {node} for node, others in topology.neighbours().items())


def test_highway_is_a_road_of_cells_and_gaps() -> None:
    topology = load("highway")
    rsus = {node.name for node in topology.rsus}
    heard = {node.name: topology.neighbours()[node.name] & rsus for node in topology.obus}
    assert len(rsus) >= 3
    assert len(heard) >= 9
    assert {node for node, rsus in heard.items() if len(rsus) == 2} == {"obu3", "obu4"}
    assert {node for node, rsus in heard.items() if not rsus} == {"obu7", "obu11", "obu12"}
    assert topology.hops_to_rsu()["obu12"] == 3


def test_on_the_highway_range_decides_who_hears_whom() -> None:
    topology = load("highway")
    for node in topology.nodes:
        assert node.position is not None
        within = {
            other.name
            for other in topology.nodes
            if other is not node
            and other.position is not None
            and math.dist(node.position, other.position) <= RADIO_RANGE_M
        }
        assert topology.neighbours()[node.name] == within, node.name


# Where they are found


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("name: x\n")
    return path


def test_found_beside_the_package_in_a_source_tree(tmp_path: Path) -> None:
    package = tmp_path / "testbed"
    one = write(tmp_path / "topologies" / "one.yaml")
    write(tmp_path / "topologies" / "README.md")
    # Without a project file this is no source tree, just two folders side by side.
    assert shipped.names("topologies", package=package) == []
    write(tmp_path / "pyproject.toml")
    assert shipped.names("topologies", package=package) == ["one"]
    assert shipped.find("topologies", "one", package=package) == one
    assert shipped.find("topologies", "two", package=package) is None
    assert shipped.find("scenarios", "one", package=package) is None


def test_found_inside_the_package_once_installed(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "testbed"
    one = write(package / "share" / "scenarios" / "one.yaml")
    assert shipped.names("scenarios", package=package) == ["one"]
    assert shipped.find("scenarios", "one", package=package) == one


@pytest.mark.parametrize("name", ["../secret", "a/b", "pair.yaml", "", ".", "-"])
def test_only_bare_names_are_looked_for(name: str) -> None:
    assert not shipped.is_bare_name(name)
    assert shipped.find("topologies", name) is None
