"""Traffic from one node's TAP to another's, through two small nodes and the wire between them."""

from __future__ import annotations

import subprocess

import pytest
from traffic_rig import Wire, small_node

from testbed.errors import InputError
from testbed.traffic.errors import NotForwarding
from testbed.traffic.legs import TesterCpus
from testbed.traffic.path import Direction, PathNode, PathTester
from testbed.traffic.trial import Load

CPUS = TesterCpus.one(0)


def ends(wire: Wire) -> tuple[PathNode, PathNode]:
    return PathNode(name="rsu1", netns=wire.tester), PathNode(name="obu1", netns=wire.node)


@pytest.fixture
def pair(wire: Wire) -> Wire:
    """An RSU at one end of the wire, an OBU at the other."""
    small_node(wire, wire.tester, "rsu")
    small_node(wire, wire.node, "obu")
    return wire


@pytest.mark.parametrize(("direction", "legs"), [("forth", 1), ("back", 1), ("both", 2)])
def test_a_path_delivers_in_every_direction(pair: Wire, direction: Direction, legs: int) -> None:
    rsu, obu = ends(pair)
    with PathTester(rsu, obu, direction=direction, cpus=CPUS) as tester:
        tester.prepare(sizes=(60, 300, 1450), flows=3)
        done = tester.run(Load(rate_pps=1_000), duration_s=0.4, warm_up_s=0.1)
    assert len(done.legs) == legs
    assert done.trial.offered == pytest.approx(400 * legs, rel=0.1)
    assert done.whole.lost == 0
    assert done.ledger.unexplained == 0
    assert done.latency.count == done.trial.delivered


def test_losses_on_the_way_are_found_at_the_node_where_they_happen(wire: Wire) -> None:
    small_node(wire, wire.tester, "rsu", "--buffer", "20000", "--stall", "0.3")
    small_node(wire, wire.node, "obu")
    rsu, obu = ends(wire)
    with PathTester(obu, rsu, cpus=CPUS) as tester:
        tester.prepare()
        done = tester.run(Load(rate_pps=2_000), duration_s=0.5)
    lost = done.whole.lost
    assert lost > 100
    found = {(line.place, line.cause): line.count for line in done.ledger.lines}
    # Replies to heartbeats compete for the same buffer.
    assert found["rsu1's radio", "socket buffer full"] == pytest.approx(lost, abs=10)
    assert abs(done.ledger.unexplained) <= 10


def test_a_path_that_is_not_there_is_told(pair: Wire) -> None:
    rsu, obu = ends(pair)
    pair.link(pair.end, up=False)
    with (
        PathTester(rsu, obu, cpus=CPUS) as tester,
        pytest.raises(NotForwarding, match=f"tap0 in {pair.tester} → tap0 in {pair.node}"),
    ):
        tester.prepare(timeout_s=0.3)


def test_frames_that_a_tap_cannot_carry_are_refused(pair: Wire) -> None:
    rsu, obu = ends(pair)
    command = ["ip", "-n", pair.node, "link", "set", "tap0", "mtu", "600"]
    subprocess.run(command, check=True)
    with (
        PathTester(rsu, obu, cpus=CPUS) as tester,
        pytest.raises(InputError, match="60 to 614 bytes"),
    ):
        tester.prepare(sizes=(615,))
