"""Several nodes joined by passing bytes: what users of a network of them see."""

from __future__ import annotations

import itertools

import pytest
from sim_network import GROUP, MS, SECOND, Network, mac

from agent.protocol.codec import encode
from agent.protocol.drops import DropCause
from agent.protocol.messages import Heartbeat
from agent.protocol.rsu import GroupCopies


def line(obus: int, *, joined: bool = False, group_copies: GroupCopies = "reference") -> Network:
    """rsu – obu1 – obu2 – …: each hears only the next ones."""
    network = Network(joined=joined, group_copies=group_copies)
    names = ["rsu", *(f"obu{index}" for index in range(1, obus + 1))]
    for name in names[1:]:
        network.obu(name)
    network.rsu("rsu")
    network.link(*itertools.pairwise(names))
    return network


def cell(obus: int) -> Network:
    """An RSU and OBUs that all hear it and each other."""
    network = Network()
    names = ["rsu", *(f"obu{index}" for index in range(1, obus + 1))]
    for name in names[1:]:
        network.obu(name)
    network.rsu("rsu")
    network.link(*[(a, b) for i, a in enumerate(names) for b in names[i + 1 :]])
    return network


def highway() -> Network:
    """Three RSUs along a road with nine OBUs; every third OBU hears no RSU itself.

    r1 – a1 – a2 – a3 – r2 – …: of each three the middle one depends on its neighbours; a3 and b1
    hear each other and r2 both.
    """
    network = Network()
    for group in "abc":
        for index in (1, 2, 3):
            network.obu(f"{group}{index}")
    for index in (1, 2, 3):
        network.rsu(f"r{index}")
    network.link(("r1", "a1"), ("a1", "a2"), ("a2", "a3"), ("a3", "r2"))
    network.link(("r2", "b1"), ("a3", "b1"), ("b1", "b2"), ("b2", "b3"), ("b3", "r3"))
    network.link(("r3", "c1"), ("b3", "c1"), ("c1", "c2"), ("c2", "c3"))
    return network


class TestLine:
    @pytest.mark.parametrize("joined", [False, True], ids=["separate", "one frame"])
    def test_one_heartbeat_joins_every_hop(self, joined: bool) -> None:
        network = line(3, joined=joined)
        network.run(10 * MS)
        assert [network.upstream(f"obu{index}") for index in (1, 2, 3)] == ["rsu", "obu1", "obu2"]
        routes = network.nodes["rsu"].snapshot(0).routes
        assert [(network.name(r.node), network.name(r.next_hop), r.hops) for r in routes] == [
            ("obu1", "obu1", 1),
            ("obu2", "obu1", 2),
            ("obu3", "obu1", 3),
        ]

    @pytest.mark.parametrize("joined", [False, True], ids=["separate", "one frame"])
    def test_unicast_reaches_every_pair_once_and_nobody_else(self, joined: bool) -> None:
        network = line(3, joined=joined)
        network.settle()
        network.say_hello_from_every_tap()
        for source in network.nodes:
            for dest in network.nodes:
                if source != dest:
                    assert network.delivered(source, dest), f"{source} to {dest}"

    def test_after_joining_only_heartbeats_and_answers_are_on_the_air(self) -> None:
        network = line(3)
        network.run(10 * SECOND)
        before = network.frames
        network.run(10 * SECOND)
        # Per heartbeat: the RSU's, three passed on, and 1 + 2 + 3 answers hop by hop.
        assert network.frames - before == 10 * (1 + 3 + 6)

    def test_reference_group_copies_stay_with_the_first_hop(self) -> None:
        network = line(3)
        network.settle()
        assert network.reached("rsu") == ["obu1", "obu1", "obu1"]

    def test_addressed_group_copies_reach_every_obu_once(self) -> None:
        network = line(3, group_copies="addressed")
        network.settle()
        assert network.reached("rsu") == ["obu1", "obu2", "obu3"]
        assert network.reached("obu1") == ["obu2", "obu3", "rsu"]
        assert network.reached("obu2") == ["obu1", "obu3", "rsu"]
        assert network.reached("obu3") == ["obu1", "obu2", "rsu"]

    def test_an_unknown_client_is_found_where_it_lives_by_addressed_copies(self) -> None:
        network = line(3, group_copies="addressed")
        network.settle()
        network.send("rsu", network.tap_mac("obu3"), b"where are you")
        network.settle()
        assert any(frame[14:] == b"where are you" for frame in network.taps["obu3"])

    def test_an_unknown_client_of_an_obu_is_dropped_by_the_rsu(self) -> None:
        network = line(2)
        network.settle()
        assert not network.delivered("obu2", "obu1")
        assert network.nodes["rsu"].drops[DropCause.UNKNOWN_CLIENT] == 1


class TestCell:
    def test_every_obu_goes_to_the_rsu_directly(self) -> None:
        network = cell(6)
        network.run(3 * SECOND)
        for index in range(1, 7):
            assert network.upstream(f"obu{index}") == "rsu"
            snapshot = network.nodes[f"obu{index}"].snapshot(network.now_ns)
            assert len(snapshot.candidates) == 3
            assert [candidate.hops for candidate in snapshot.candidates] == [1, 2, 2]

    def test_group_traffic_reaches_everybody_once(self) -> None:
        network = cell(6)
        network.settle()
        names = set(network.nodes)
        for source in network.nodes:
            assert network.reached(source) == sorted(names - {source})

    def test_unicast_between_obus_goes_through_the_rsu(self) -> None:
        network = cell(3)
        network.settle()
        network.say_hello_from_every_tap()
        assert network.delivered("obu1", "obu3")

    def test_overheard_frames_are_not_relayed(self) -> None:
        network = cell(4)
        network.settle()
        network.say_hello_from_every_tap()
        before = network.frames
        assert network.delivered("obu1", "rsu")
        assert network.frames == before + 1

    def test_an_obu_out_of_reach_of_the_rsu_takes_another_one_as_upstream(self) -> None:
        network = cell(3)
        network.run(5 * SECOND)
        network.unlink(("rsu", "obu1"))
        network.run(11 * SECOND)
        assert network.upstream("obu1") in ("obu2", "obu3")
        network.say_hello_from_every_tap()
        assert network.delivered("obu1", "rsu")
        assert network.delivered("rsu", "obu1")

    def test_back_in_reach_it_returns_at_once(self) -> None:
        network = cell(3)
        network.run(5 * SECOND)
        network.unlink(("rsu", "obu1"))
        network.run(11 * SECOND)
        network.link(("rsu", "obu1"))
        network.run(1100 * MS)
        assert network.upstream("obu1") == "rsu"

    def test_a_failed_send_moves_traffic_to_the_next_candidate_at_once(self) -> None:
        network = cell(2)
        network.settle()
        network.say_hello_from_every_tap()
        network.unlink(("rsu", "obu1"))
        network.nodes["obu1"].on_send_failed(network.mac("rsu"), network.now_ns)
        assert network.upstream("obu1") == "obu2"
        assert network.delivered("obu1", "rsu")


class TestHighway:
    def test_every_obu_joins_within_one_heartbeat(self) -> None:
        network = highway()
        network.run(10 * MS)
        upstreams = {name: network.upstream(name) for name in network.nodes if name[0] != "r"}
        assert upstreams["a1"] == "r1"
        assert upstreams["a2"] in ("a1", "a3")
        assert upstreams["a3"] == "r2"
        assert upstreams["b1"] == "r2"
        assert upstreams["b2"] in ("b1", "b3")
        assert upstreams["b3"] == "r3"
        assert upstreams["c1"] == "r3"
        assert upstreams["c2"] == "c1"
        assert upstreams["c3"] == "c2"

    def test_the_choice_is_stable(self) -> None:
        network = highway()
        network.run(5 * SECOND)
        before = {n: network.upstream(n) for n in network.nodes if n[0] != "r"}
        for _ in range(20):
            network.run(1 * SECOND)
            assert {n: network.upstream(n) for n in network.nodes if n[0] != "r"} == before

    def test_every_obu_reaches_its_rsu_and_is_answered(self) -> None:
        network = highway()
        network.run(2 * SECOND)
        for name in [name for name in network.nodes if name[0] != "r"]:
            reached = [found for found in network.reached(name) if found[0] == "r"]
            assert len(reached) == 1, f"{name} reaches {reached}"
            assert network.delivered(reached[0], name)
            assert network.delivered(name, reached[0])

    def test_nothing_circulates_while_rsus_die_one_by_one(self) -> None:
        network = highway()
        network.run(5 * SECOND)
        left = {"r1", "r2", "r3"}
        for dead in ("r2", "r3"):
            network.silence(dead)
            left.remove(dead)
            for _ in range(15):
                for name in network.nodes:
                    network.send(name, network.tap_mac("r1"))
                network.run(1 * SECOND)
            for name in network.nodes:
                if name[0] != "r":
                    reached = {found for found in network.reached(name) if found[0] == "r"}
                    assert len(reached & left) == 1, f"{name} without {dead}"
        assert network.upstream("c1") == "b3"
        assert network.upstream("b3") == "b2"


class TestRestart:
    @pytest.mark.parametrize("seconds", [3, 30])
    def test_a_restarted_rsu_is_joined_again_with_its_first_heartbeat(self, seconds: int) -> None:
        network = line(3)
        network.run(seconds * SECOND)
        network.run(700 * MS)
        network.rsu("rsu")
        assert network.nodes["rsu"].snapshot(0).routes == ()
        network.run(10 * MS)
        assert len(network.nodes["rsu"].snapshot(0).routes) == 3
        network.say_hello_from_every_tap()
        assert network.delivered("obu3", "rsu")
        assert network.delivered("rsu", "obu3")

    def test_answers_to_the_earlier_life_are_outdated(self) -> None:
        network = line(1)
        network.run(30 * SECOND)
        network.unlink(("rsu", "obu1"))
        network.link(("rsu", "obu1"), delay_ns=300 * MS)
        network.run(1100 * MS)
        network.rsu("rsu")
        network.run(900 * MS)
        assert network.nodes["rsu"].drops[DropCause.OUTDATED] >= 1

    def test_a_restarted_obu_joins_with_the_next_heartbeat(self) -> None:
        network = line(3)
        network.run(5500 * MS)
        network.obu("obu2")
        assert network.upstream("obu2") is None
        network.run(1 * SECOND)
        assert network.upstream("obu2") == "obu1"
        network.say_hello_from_every_tap()
        assert network.delivered("obu3", "rsu")


class TestLoss:
    def test_an_obu_without_any_rsu_left_has_no_upstream(self) -> None:
        network = line(3)
        network.run(10 * SECOND)
        network.silence("rsu")
        network.run(9 * SECOND)
        assert network.upstream("obu3") == "obu2"
        network.run(2 * SECOND)
        assert [network.upstream(f"obu{index}") for index in (1, 2, 3)] == [None] * 3
        network.send("obu3", network.tap_mac("rsu"))
        assert network.nodes["obu3"].drops[DropCause.NO_UPSTREAM] == 1

    def test_neighbours_behind_each_other_never_become_each_others_upstream(self) -> None:
        network = line(3)
        network.run(10 * SECOND)
        network.silence("rsu")
        for _ in range(120):
            network.run(100 * MS)
            chosen = {name: network.upstream(name) for name in ("obu1", "obu2", "obu3")}
            for name, upstream in chosen.items():
                assert upstream is None or chosen.get(upstream) != name

    def test_an_rsu_forgets_an_obu_that_has_gone(self) -> None:
        network = cell(2)
        network.run(3 * SECOND)
        network.silence("obu2")
        network.run(11 * SECOND)
        [route] = network.nodes["rsu"].snapshot(0).routes
        assert network.name(route.node) == "obu1"

    def test_a_hop_that_breaks_is_routed_around(self) -> None:
        network = Network()
        for name in ("near1", "near2", "far"):
            network.obu(name)
        network.rsu("rsu")
        network.link(("rsu", "near1"), ("rsu", "near2"), ("near1", "far"), ("near2", "far"))
        network.run(5 * SECOND)
        network.say_hello_from_every_tap()
        first = network.upstream("far")
        assert first is not None
        other = {"near1": "near2", "near2": "near1"}[first]
        network.unlink((first, "far"))
        network.run(12 * SECOND)
        assert network.upstream("far") == other
        assert network.delivered("far", "rsu")
        assert network.delivered("rsu", "far")


class TestLoops:
    def test_a_ring_carries_each_frame_once(self) -> None:
        network = Network()
        names = [f"obu{index}" for index in range(1, 6)]
        for name in names:
            network.obu(name)
        network.rsu("rsu")
        ring = ["rsu", *names]
        network.link(*zip(ring, [*names, "rsu"], strict=True))
        network.run(2 * SECOND)
        network.say_hello_from_every_tap()
        for name in names:
            assert network.delivered(name, "rsu")
            assert network.delivered("rsu", name)

    def test_two_obus_that_take_each_other_for_upstream_do_not_play_ball(self) -> None:
        network = Network()
        network.obu("a")
        network.obu("b")
        network.link(("a", "b"))
        # Forged: each hears from the other that it knows an RSU.
        for index, (name, other) in enumerate((("a", "b"), ("b", "a"))):
            forged = Heartbeat(
                receiver=GROUP,
                transmitter=network.mac(name),
                duration_ms=0,
                hello_id=0,
                hops=2,
                rsu=mac(500 + index),
            )
            network.nodes[other].on_wire(encode(forged), 0)
        assert (network.upstream("a"), network.upstream("b")) == ("b", "a")
        before = network.frames
        network.send("a", network.tap_mac("b"))
        network.settle()
        assert network.frames == before + 1
        assert network.nodes["b"].drops[DropCause.LOOP] == 1


class TestSelection:
    def test_routes_of_the_rsu_follow_the_faster_relay(self) -> None:
        network = Network()
        for name in ("slow", "fast", "far"):
            network.obu(name)
        network.rsu("rsu")
        network.link(("rsu", "slow"), ("slow", "far"), delay_ns=20 * MS)
        network.link(("rsu", "fast"), ("fast", "far"), delay_ns=2 * MS)
        network.run(3 * SECOND)
        hop = network.nodes["rsu"].downstream_next_hop(network.mac("far"))
        assert network.name(hop) == "fast"

    def test_frames_of_any_content_do_no_harm_to_a_network(self) -> None:
        network = line(2)
        network.settle()
        network.say_hello_from_every_tap()
        for size in range(0, 120, 3):
            for start in (b"", network.mac("obu1") + network.mac("rsu") + b"00"):
                network.transmit("rsu", (start + bytes(range(size)))[: max(size, 1)])
        network.settle()
        assert network.delivered("obu2", "rsu")
        assert network.delivered("rsu", "obu2")
