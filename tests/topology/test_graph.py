"""Drawings: every node, every way to hear, and, where a testbed runs, who has joined whom."""

from __future__ import annotations

import re
from itertools import pairwise

import pydot
import pytest

from testbed.files import yamlfile
from testbed.topology.graph import dot, mermaid
from testbed.topology.loader import load_topology, topology_of
from testbed.topology.model import Topology


def load(name: str) -> Topology:
    return load_topology(name, env={})


MIXED = topology_of(
    yamlfile.parse(
        "name: mixed\ntopology:\n  defaults: {kind: obu}\n"
        "  nodes: {rsu1: {kind: rsu}, end: , a.b-c: }\n"
        "  links: [[rsu1, end]]\n  segments: {bus: [end, a.b-c]}\n",
        file="mixed.yaml",
        env={},
    )
)


def test_mermaid() -> None:
    assert mermaid(MIXED).splitlines()[:8] == [
        "graph LR",
        '  n0["rsu1<br/>10.77.0.1"]:::rsu',
        '  n1(["end<br/>10.77.0.2"]):::obu',
        '  n2(["a.b-c<br/>10.77.0.3"]):::obu',
        '  s0{{"bus"}}:::segment',
        "  n0 --- n1",
        "  n1 -.- s0",
        "  n2 -.- s0",
    ]


def test_mermaid_with_the_joined_tree() -> None:
    text = mermaid(MIXED, upstreams={"rsu1": None, "end": "rsu1", "a.b-c": None})
    assert "  n1 ==> n0" in text
    assert "  n0 --- n1" not in text
    assert '(["a.b-c<br/>10.77.0.3"]):::alone' in text
    assert '(["end<br/>10.77.0.2"]):::obu' in text
    assert '["rsu1<br/>10.77.0.1"]:::rsu' in text


def test_dot() -> None:
    text = dot(MIXED)
    assert text.splitlines()[0] == 'graph "mixed" {'
    assert text.endswith("}\n")
    assert '"rsu1" [label="rsu1\\n10.77.0.1", shape=box' in text
    assert '"a.b-c" [label="a.b-c\\n10.77.0.3", shape=ellipse' in text
    assert '"segment/0" [label="bus", shape=hexagon' in text
    assert '  "rsu1" -- "end";' in text
    assert '  "a.b-c" -- "segment/0" [style=dashed];' in text
    assert "layout=dot" in text
    assert "pos=" not in text


def test_dot_with_the_joined_tree() -> None:
    text = dot(MIXED, upstreams={"end": "rsu1", "a.b-c": "end"})
    assert '  "end" -- "rsu1" [dir=forward, penwidth=3];' in text
    assert '  "a.b-c" -- "end" [dir=forward, penwidth=3];' in text
    assert '  "rsu1" -- "end";' not in text
    assert 'style="filled,dashed"' not in text
    alone = dot(MIXED, upstreams={"end": None})
    assert alone.count('style="filled,dashed"') == 2


def test_an_upstream_that_is_no_node_of_ours_is_left_out() -> None:
    assert dot(MIXED, upstreams={"end": "stranger", "a.b-c": "end", "ghost": "end"}) == dot(
        MIXED, upstreams={"end": "stranger", "a.b-c": "end"}
    )
    assert "stranger" not in mermaid(MIXED, upstreams={"end": "stranger"})


def test_every_link_of_the_highway_is_drawn_once() -> None:
    topology = load("highway")
    assert dot(topology).count(" -- ") == len(topology.links)
    assert mermaid(topology).count(" --- ") == len(topology.links)


def test_positions_keep_their_order_and_scale() -> None:
    topology = load("highway")
    text = dot(topology)
    assert "layout=neato" in text
    placed = {
        name: (float(x), float(y))
        for name, x, y in re.findall(r'"(\w+)" \[.*pos="([0-9.]+),([0-9.]+)!"', text)
    }
    assert set(placed) == {node.name for node in topology.nodes}
    metres = sorted((node.position[0], placed[node.name][0]) for node in topology.nodes)
    scale = metres[-1][1] / (metres[-1][0] - metres[0][0])
    for (before_m, before), (after_m, after) in pairwise(metres):
        assert after - before == pytest.approx((after_m - before_m) * scale, abs=0.002)
    # Four metres beside 2.4 km would not show; each y is a row of its own.
    assert sorted({y for _, y in placed.values()}) == [0.0, 1.2, 2.4]


def test_nodes_in_one_place_can_be_drawn() -> None:
    topology = topology_of(
        yamlfile.parse(
            "name: x\ntopology:\n  nodes: {a: {kind: rsu, position: [5, 5]}, "
            "b: {kind: obu, position: [5, 5]}}\n  links: [[a, b]]\n",
            file="x",
            env={},
        )
    )
    assert dot(topology).count('pos="0.000,0.000!"') == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning:pydot")  # pyparsing's new names
@pytest.mark.parametrize("name", ["pair", "line", "cell", "highway"])
def test_what_reads_graphviz_text_finds_every_node_and_link(name: str) -> None:
    topology = load(name)
    read = pydot.graph_from_dot_data(dot(topology))
    assert read is not None
    (drawing,) = read
    nodes = [*drawing.get_nodes(), *(n for s in drawing.get_subgraphs() for n in s.get_nodes())]
    drawn = {node.get_name().strip('"') for node in nodes} - {"node", "edge", "graph"}
    assert {node.name for node in topology.nodes} <= drawn
    assert len(drawing.get_edges()) >= len(topology.links)
