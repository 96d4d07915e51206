"""Routes from observations, and the client cache."""

from __future__ import annotations

import pytest
from sim_network import mac

from agent.protocol.addresses import checked_mac
from agent.protocol.clients import ClientCache
from agent.protocol.routing import Route, Routes, score_us

NODE, VIA_1, VIA_2, VIA_3 = mac(9), mac(1), mac(2), mac(3)


class Changes:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def test_the_score_is_least_plus_mean_latency_in_whole_microseconds() -> None:
    assert score_us([100]) == 200
    assert score_us([100, 201]) == 100 + 150
    assert score_us([]) is None


def test_only_observations_of_the_fewest_hops_count() -> None:
    routes = Routes(Changes())
    routes.observe(1, NODE, via=VIA_1, hops=3, latency_us=1)
    routes.observe(2, NODE, via=VIA_2, hops=2, latency_us=5000)
    routes.observe(3, NODE, via=VIA_2, hops=4, latency_us=1)
    best = routes.ranked(NODE)[0]
    assert best == Route(next_hop=VIA_2, hops=2, score_us=10_000)


def test_the_lowest_score_wins_and_ties_go_to_the_lower_mac() -> None:
    routes = Routes(Changes())
    routes.observe(1, NODE, via=VIA_1, hops=2, latency_us=300)
    routes.observe(1, NODE, via=VIA_3, hops=2, latency_us=100)
    routes.observe(1, NODE, via=VIA_2, hops=2, latency_us=100)
    assert [route.next_hop for route in routes.ranked(NODE)] == [VIA_2, VIA_3, VIA_1]


def test_least_and_mean_are_taken_over_all_remembered_heartbeats() -> None:
    routes = Routes(Changes())
    for key, latency_us in enumerate((100, 900)):
        routes.observe(key, NODE, via=VIA_1, hops=1, latency_us=latency_us)
    for key, latency_us in enumerate((290, 310)):
        routes.observe(key, NODE, via=VIA_2, hops=1, latency_us=latency_us)
    assert [route.score_us for route in routes.ranked(NODE)] == [590, 600]
    assert routes.next_hop(NODE) == VIA_2


def test_never_back_to_where_it_came_from() -> None:
    routes = Routes(Changes())
    routes.observe(1, NODE, via=VIA_1, hops=1, latency_us=1)
    assert routes.next_hop(NODE, came_from=VIA_1) is None
    routes.observe(1, NODE, via=VIA_2, hops=5, latency_us=1)
    assert routes.next_hop(NODE) == VIA_1
    assert routes.next_hop(NODE, came_from=VIA_1) == VIA_2


def test_a_measurement_replaces_none_and_the_first_one_stays() -> None:
    routes = Routes(Changes())
    for latency_us in (None, 50, 10, None):
        routes.observe(1, NODE, via=VIA_1, hops=1, latency_us=latency_us)
    assert routes.ranked(NODE)[0].score_us == 100
    assert len(routes) == 1


def test_what_a_heartbeat_brought_goes_with_it() -> None:
    changes = Changes()
    routes = Routes(changes)
    routes.observe(1, NODE, via=VIA_1, hops=1, latency_us=1)
    routes.observe(2, NODE, via=VIA_2, hops=2, latency_us=1)
    assert routes.next_hop(NODE) == VIA_1
    before = changes.count
    routes.forget(1)
    assert changes.count == before + 1
    assert routes.next_hop(NODE) == VIA_2
    routes.forget(2)
    assert NODE not in routes
    assert routes.next_hop(NODE) is None
    assert len(routes) == 0
    routes.forget(2)


def test_the_table_is_bounded_per_heartbeat_and_in_all() -> None:
    routes = Routes(Changes(), max_per_hello=2, max_observations=3)
    assert routes.observe(1, mac(1), via=VIA_1, hops=1, latency_us=1)
    assert routes.observe(1, mac(2), via=VIA_1, hops=1, latency_us=1)
    assert not routes.observe(1, mac(3), via=VIA_1, hops=1, latency_us=1)
    assert routes.observe(2, mac(3), via=VIA_1, hops=1, latency_us=1)
    assert not routes.observe(3, mac(4), via=VIA_1, hops=1, latency_us=1)
    assert len(routes) == 3
    # What is known is still measured.
    assert routes.observe(1, mac(1), via=VIA_1, hops=1, latency_us=2)
    routes.forget(1)
    assert routes.observe(3, mac(4), via=VIA_1, hops=1, latency_us=1)


def test_a_client_moves_to_where_it_was_seen_last() -> None:
    changes = Changes()
    clients = ClientCache(mac(1), changes)
    clients.learn(NODE, mac(2))
    clients.learn(NODE, mac(2))
    assert changes.count == 1
    clients.learn(NODE, mac(1))
    assert clients.node_of(NODE) == mac(1)
    clients.learn(NODE, mac(3))
    assert clients.node_of(NODE) == mac(3)
    assert clients.items() == ((NODE, mac(3)),)
    assert changes.count == 3


def test_a_flood_of_clients_is_bounded_and_does_not_push_out_the_own_ones() -> None:
    clients = ClientCache(mac(1), Changes(), max_clients=8)
    clients.learn(mac(500), mac(1))
    for index in range(1000, 2000):
        clients.learn(mac(index), mac(2))
    assert len(clients) == 9
    assert clients.node_of(mac(500)) == mac(1)
    assert clients.node_of(mac(1999)) == mac(2)
    assert clients.node_of(mac(1000)) is None


def test_the_address_of_a_station_is_six_bytes_and_no_group() -> None:
    assert checked_mac(mac(1), "mac") == mac(1)
    for wrong in (b"", mac(1) + b"x", b"\xff" * 6):
        with pytest.raises(ValueError, match="mac must be"):
            checked_mac(wrong, "mac")
