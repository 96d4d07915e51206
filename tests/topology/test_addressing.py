"""Addresses out of prefixes and MACs out of names: the same each time, and never twice."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.topology import addressing


def test_nodes_get_the_lowest_addresses_that_are_free() -> None:
    given_ = {"b": IPv4Address("10.0.0.1"), "d": IPv4Address("10.0.0.3")}
    found = addressing.assign4("abcd", IPv4Network("10.0.0.0/24"), given_)
    assert {name: str(address) for name, address in found.items()} == {
        "a": "10.0.0.2/24",
        "b": "10.0.0.1/24",
        "c": "10.0.0.4/24",
        "d": "10.0.0.3/24",
    }


def test_ipv6_begins_behind_the_routers_anycast_address() -> None:
    found = addressing.assign6("ab", IPv6Network("fd00::/64"), {"b": IPv6Address("fd00::1")})
    assert {name: str(address) for name, address in found.items()} == {
        "a": "fd00::2/64",
        "b": "fd00::1/64",
    }


def test_a_node_added_at_the_end_moves_nobody() -> None:
    prefix = IPv4Network("10.0.0.0/24")
    before = addressing.assign4(["a", "b"], prefix, {})
    after = addressing.assign4(["a", "b", "c"], prefix, {})
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(
    ("prefix", "first", "last"),
    [
        ("10.0.0.0/24", "10.0.0.1", "10.0.0.254"),
        ("10.0.0.0/30", "10.0.0.1", "10.0.0.2"),
        ("10.0.0.0/31", "10.0.0.0", "10.0.0.1"),
        ("10.0.0.7/32", "10.0.0.7", "10.0.0.7"),
        ("fd00::/126", "fd00::1", "fd00::3"),
        ("fd00::/127", "fd00::", "fd00::1"),
        ("fd00::7/128", "fd00::7", "fd00::7"),
    ],
)
def test_the_addresses_that_nodes_can_have(prefix: str, first: str, last: str) -> None:
    network = ip_network(prefix)
    family = type(network.network_address)
    assert addressing.usable(network) == (int(family(first)), int(family(last)))
    hosts = list(network.hosts())
    assert addressing.capacity(network) == len(hosts)
    assert (hosts[0], hosts[-1]) == (family(first), family(last))


@pytest.mark.parametrize("version", [4, 6])
@given(nodes=st.integers(min_value=1, max_value=5000))
def test_the_advised_prefix_is_the_smallest_that_holds_them(version: int, nodes: int) -> None:
    length = addressing.prefix_length_for(nodes, version)
    family = IPv4Network if version == 4 else IPv6Network
    assert addressing.capacity(family((0, length))) >= nodes
    if length < (32 if version == 4 else 128):
        assert addressing.capacity(family((0, length + 1))) < nodes


def test_more_nodes_than_addresses_are_an_error() -> None:
    with pytest.raises(ValueError, match="more nodes than addresses"):
        addressing.assign4("abc", IPv4Network("10.0.0.0/30"), {})


@given(
    count=st.integers(min_value=1, max_value=60),
    taken=st.sets(st.integers(min_value=0, max_value=61), max_size=20),
)
def test_no_address_is_assigned_twice(count: int, taken: set[int]) -> None:
    prefix = IPv4Network("10.0.0.0/26")
    hosts = list(prefix.hosts())
    names = [f"n{index}" for index in range(count)]
    fixed = {name: hosts[at] for name, at in zip(names, sorted(taken), strict=False)}
    found = addressing.assign4(names, prefix, fixed)
    assert list(found) == names
    assert len({address.ip for address in found.values()}) == count
    assert all(address.ip in hosts for address in found.values())
    assert all(found[name] == IPv4Interface((fixed[name], 26)) for name in fixed)


@pytest.mark.parametrize(
    ("prefix", "purpose"),
    [
        ("10.77.0.0/16", None),
        ("192.168.0.0/24", None),
        ("fd77:7465:7374::/64", None),
        ("2001:db8::/64", None),
        ("127.1.0.0/16", "loopback"),
        ("224.0.0.0/24", "multicast"),
        ("169.254.0.0/24", "link-local addresses"),
        ("0.0.0.0/0", '"this network"'),
        ("255.255.255.0/24", "reserved addresses"),
        ("::/64", "loopback and the unspecified address"),
        ("fe80::/64", "link-local addresses"),
        ("ff02::/64", "multicast"),
        ("::ffff:10.0.0.0/104", "IPv4 addresses in IPv6"),
    ],
)
def test_prefixes_that_every_namespace_has_in_use(prefix: str, purpose: str | None) -> None:
    taken = addressing.taken_by(ip_network(prefix))
    assert (taken and taken[1]) == purpose


def test_the_default_prefixes_are_free() -> None:
    assert addressing.taken_by(addressing.DEFAULT_PREFIX4) is None
    assert addressing.taken_by(addressing.DEFAULT_PREFIX6) is None


def test_macs_follow_from_the_names() -> None:
    first = addressing.assign_macs("road", ["rsu1", "obu1"])
    assert first == addressing.assign_macs("road", ["rsu1", "obu1"])
    assert first["obu1"] == addressing.assign_macs("road", ["obu1"])["obu1"]
    assert first["obu1"] != addressing.assign_macs("street", ["obu1"])["obu1"]
    # Captures of old must stay readable, so these do not change.
    assert first["rsu1"] == addressing.NodeMacs(radio="02:99:a2:a2:9d:da", tap="06:99:a2:a2:9d:da")


def test_macs_are_unicast_and_locally_administered() -> None:
    macs = addressing.assign_macs("road", [f"obu{index}" for index in range(1000)])
    found = {mac for node in macs.values() for mac in (node.radio, node.tap)}
    assert len(found) == 2000
    for mac in found:
        octets = bytes.fromhex(mac.replace(":", ""))
        assert len(octets) == 6
        assert octets[0] & 0b11 == 0b10
    assert all(node.radio[3:] == node.tap[3:] for node in macs.values())


def test_colliding_hashes_give_different_macs() -> None:
    def narrow(text: bytes) -> bytes:
        """A hash that is the same for all names, and differs by attempt alone."""
        attempt = int(text.rsplit(b"/", 1)[1])
        return bytes([0, 0, 0, 0, attempt])

    macs = addressing.assign_macs("road", ["a", "b", "c"], narrow)
    assert [macs[name].radio for name in "abc"] == [
        "02:00:00:00:00:00",
        "02:00:00:00:00:01",
        "02:00:00:00:00:02",
    ]
