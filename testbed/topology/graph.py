"""Drawings of a topology as text: Mermaid for documents, DOT for Graphviz.

Pure. Must not know how a testbed runs: where it does, who has joined whom is passed in.

OBUs are drawn round and RSUs angular; a link is a line between two nodes, a segment a node of its
own that its members are tied to. With `upstreams` (node to the name of its upstream, None while
it has none) the tree that the nodes have joined into is drawn over that, and an OBU that has not
joined is dashed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from testbed.topology.model import Node, Topology

Upstreams = Mapping[str, str | None]

# The larger side of a drawing with positions, in Graphviz inches, and the least room for a node.
_WIDEST_IN = 24.0
_NODE_IN = 1.2


def mermaid(topology: Topology, *, upstreams: Upstreams | None = None) -> str:
    """The topology as a Mermaid flowchart."""
    joined = _joined(topology, upstreams)
    ids = {node.name: f"n{index}" for index, node in enumerate(topology.nodes)}
    lines = ["graph LR"]
    for node in topology.nodes:
        left, right = ("[", "]") if node.kind == "rsu" else ("([", "])")
        label = f"{node.name}<br/>{node.ipv4.ip}"
        lines.append(f'  {ids[node.name]}{left}"{label}"{right}:::{_style(node, upstreams)}')
    for index, segment in enumerate(topology.segments):
        lines.append(f'  s{index}{{{{"{segment.name}"}}}}:::segment')
    for link in topology.links:
        if (link.a, link.b) not in joined and (link.b, link.a) not in joined:
            lines.append(f"  {ids[link.a]} --- {ids[link.b]}")
    for index, segment in enumerate(topology.segments):
        lines += [f"  {ids[member]} -.- s{index}" for member in segment.members]
    lines += [f"  {ids[node]} ==> {ids[upstream]}" for node, upstream in joined]
    lines += [
        "  classDef rsu fill:#dbe9ff,stroke:#1f4e9c",
        "  classDef obu fill:#e6f4e6,stroke:#2d7d2d",
        "  classDef alone fill:#fff,stroke:#b00020,stroke-dasharray:4 3",
        "  classDef segment fill:#f5f5f5,stroke:#888",
    ]
    return "\n".join(lines) + "\n"


def dot(topology: Topology, *, upstreams: Upstreams | None = None) -> str:
    """The topology as an undirected graph for Graphviz.

    Where every node has a position, those are kept (`layout=neato`), drawn to scale.
    """
    joined = _joined(topology, upstreams)
    places = dict(_places(topology))
    lines = [f"graph {_quoted(topology.name)} {{"]
    lines.append(f"  graph [layout={'neato' if places else 'dot'}, overlap=false, splines=true];")
    lines.append('  node [fontname="sans-serif", style=filled];')
    for node in topology.nodes:
        shape = "box" if node.kind == "rsu" else "ellipse"
        label = f"{node.name}\\n{node.ipv4.ip}"
        colours = {
            "rsu": 'fillcolor="#dbe9ff"',
            "obu": 'fillcolor="#e6f4e6"',
            "alone": 'fillcolor="#ffffff", color="#b00020", style="filled,dashed"',
        }
        place = places.get(node.name)
        at = "" if place is None else f', pos="{place[0]:.3f},{place[1]:.3f}!"'
        lines.append(
            f"  {_quoted(node.name)} [label={_quoted(label)}, shape={shape}, "
            f"{colours[_style(node, upstreams)]}{at}];"
        )
    for index, segment in enumerate(topology.segments):
        name = _quoted(f"segment/{index}")
        lines.append(
            f'  {name} [label={_quoted(segment.name)}, shape=hexagon, fillcolor="#f5f5f5"];'
        )
    for link in topology.links:
        if (link.a, link.b) not in joined and (link.b, link.a) not in joined:
            lines.append(f"  {_quoted(link.a)} -- {_quoted(link.b)};")
    for index, segment in enumerate(topology.segments):
        name = _quoted(f"segment/{index}")
        lines += [f"  {_quoted(member)} -- {name} [style=dashed];" for member in segment.members]
    lines += [
        f"  {_quoted(node)} -- {_quoted(upstream)} [dir=forward, penwidth=3];"
        for node, upstream in joined
    ]
    lines.append("}")
    return "\n".join(lines) + "\n"


def _joined(topology: Topology, upstreams: Upstreams | None) -> list[tuple[str, str]]:
    """Node and upstream, for all that have one; others than our nodes are left out."""
    names = {node.name for node in topology.nodes}
    return [
        (name, upstream)
        for name, upstream in (upstreams or {}).items()
        if upstream is not None and name in names and upstream in names
    ]


def _style(node: Node, upstreams: Upstreams | None) -> str:
    if node.kind == "obu" and upstreams is not None and upstreams.get(node.name) is None:
        return "alone"
    return node.kind


def _places(topology: Topology) -> Iterator[tuple[str, tuple[float, float]]]:
    """Positions in Graphviz inches, nothing unless every node has one.

    To scale, so that the closest two do not overlap where there is room for that. Across a road
    metres would not show: there each distinct y is one row.
    """
    placed = [(node.name, node.position) for node in topology.nodes if node.position is not None]
    if len(placed) < len(topology.nodes):
        return
    xs = sorted({x for _, (x, _) in placed})
    ys = sorted({y for _, (_, y) in placed})
    span = max(xs[-1] - xs[0], ys[-1] - ys[0])
    gaps = [b - a for values in (xs, ys) for a, b in pairwise(values)]
    scale = min(_NODE_IN / min(gaps), _WIDEST_IN / span) if gaps else 1.0
    flat = (ys[-1] - ys[0]) * scale < (len(ys) - 1) * _NODE_IN
    for name, (x, y) in placed:
        across = ys.index(y) * _NODE_IN if flat else (y - ys[0]) * scale
        yield name, ((x - xs[0]) * scale, across)


def _quoted(text: str) -> str:
    escaped = text.replace('"', '\\"')
    return f'"{escaped}"'
