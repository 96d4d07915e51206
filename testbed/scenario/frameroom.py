"""Whether the frames of a scenario fit into the TAPs that they go in and come out at.

Must not know how frames are made. A program of the user's may set up its TAP as it likes, so that
only the tester can tell there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from testbed.files.document import Place
from testbed.files.problems import Problems
from testbed.scenario.markers import IMIX, LONGEST_FRAME
from testbed.scenario.model import FrameSize, Point, Variant
from testbed.topology.model import Topology

ETHERNET_HEADER = 14


def check_sizes(
    sizes: Sequence[FrameSize],
    place: Place,
    *,
    points: Sequence[Point],
    variants: Sequence[Variant],
    topology: Topology,
    problems: Problems,
) -> None:
    """One problem for each size that some TAP on the way is too small for."""
    rooms = list(_rooms(points, variants, topology))
    if not rooms:
        return
    room, point, where = min(rooms, key=lambda found: found[0])
    for number, size in enumerate(sizes):
        if (LONGEST_FRAME if size == IMIX else size) > room:
            problems.add(
                (*place, number),
                f"{where} carries no such frame, as {point} needs it to",
                value=size,
                expected=f"at most its mtu and {ETHERNET_HEADER}, {room} bytes",
            )


def _rooms(
    points: Sequence[Point], variants: Sequence[Variant], topology: Topology
) -> Iterator[tuple[int, str, str]]:
    """For each TAP that frames go in or come out at: what it carries, for which point, whose."""
    nodes = {node.name: node for node in topology.nodes}
    for point in points:
        for end in point.ends or point.nodes:
            node = nodes.get(end)
            if node is None:
                continue
            tap = f"the TAP of {end}"
            told = [(node.settings, tap)]
            if end in point.nodes:
                told = [(one.settings(node), f"{tap} under {one.name}") for one in variants]
            for settings, where in told:
                if not settings.is_program:
                    yield settings.mtu + ETHERNET_HEADER, point.name, where
