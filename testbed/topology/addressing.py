"""Who gets which address: inner addresses out of a prefix, and MACs out of names.

Pure, and the same result for the same input. Must not know files, nodes' settings or the kernel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_network,
)

DEFAULT_PREFIX4 = IPv4Network("10.77.0.0/16")
DEFAULT_PREFIX6 = IPv6Network("fd77:7465:7374::/64")

Network = IPv4Network | IPv6Network
IPAddress = IPv4Address | IPv6Address

TAKEN: Mapping[Network, str] = {
    ip_network("0.0.0.0/8"): '"this network"',
    ip_network("127.0.0.0/8"): "loopback",
    ip_network("169.254.0.0/16"): "link-local addresses",
    ip_network("224.0.0.0/4"): "multicast",
    ip_network("240.0.0.0/4"): "reserved addresses",
    ip_network("::/96"): "loopback and the unspecified address",
    ip_network("::ffff:0:0/96"): "IPv4 addresses in IPv6",
    ip_network("fe80::/10"): "link-local addresses",
    ip_network("ff00::/8"): "multicast",
}
"""Prefixes that every network namespace has in use already (RFC 6890, RFC 4291), and what for."""

# First bytes of unicast MACs that are locally administered (IEEE 802, bit 1 set, bit 0 clear).
# The two interfaces of a node share the rest, so that a capture shows what belongs together.
_RADIO, _TAP = 0x02, 0x06


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeMacs:
    """The MACs of one node, as lower-case text with colons."""

    radio: str
    tap: str


def taken_by(prefix: Network) -> tuple[Network, str] | None:
    """A prefix that overlaps this one and is in use in every namespace, and what for."""
    for network, purpose in TAKEN.items():
        if network.version == prefix.version and network.overlaps(prefix):
            return network, purpose
    return None


def usable(prefix: Network) -> tuple[int, int]:
    """First and last address that a node can have, as integers.

    Not the network's own address: in IPv4 it is no host's, in IPv6 it is every router's (RFC 4291,
    section 2.6.1). Not the broadcast address of IPv4. A prefix of one or two addresses has no
    such thing (RFC 3021, RFC 6164).
    """
    first, last = int(prefix.network_address), int(prefix.broadcast_address)
    if last - first >= 2:
        first += 1
        last -= prefix.version == 4
    return first, last


def capacity(prefix: Network) -> int:
    """How many nodes the prefix has addresses for."""
    first, last = usable(prefix)
    return last - first + 1


def prefix_length_for(nodes: int, version: int) -> int:
    """The longest prefix length that has addresses for so many nodes."""
    length = 32 if version == 4 else 128
    family = IPv4Network if version == 4 else IPv6Network
    while capacity(family((0, length))) < nodes:
        length -= 1
    return length


def assign4(
    names: Iterable[str], prefix: IPv4Network, given: Mapping[str, IPv4Address]
) -> dict[str, IPv4Interface]:
    """An address for each name: the given one, else the lowest that is free, in order of names.

    More names than addresses raise ValueError.
    """
    free = _free(prefix, given.values())
    return {
        name: IPv4Interface((given.get(name) or IPv4Address(_next(free)), prefix.prefixlen))
        for name in names
    }


def assign6(
    names: Iterable[str], prefix: IPv6Network, given: Mapping[str, IPv6Address]
) -> dict[str, IPv6Interface]:
    """As `assign4`, for IPv6."""
    free = _free(prefix, given.values())
    return {
        name: IPv6Interface((given.get(name) or IPv6Address(_next(free)), prefix.prefixlen))
        for name in names
    }


def assign_macs(
    testbed: str,
    names: Iterable[str],
    digest: Callable[[bytes], bytes] = lambda text: hashlib.sha256(text).digest(),
) -> dict[str, NodeMacs]:
    """MACs that depend on the names of testbed and node alone.

    Two nodes of one testbed never share one: where hashes collide, the later name is hashed anew.
    """
    taken: set[bytes] = set()
    macs = {}
    for name in names:
        attempt = 0
        while True:
            tail = digest(f"{testbed}/{name}/{attempt}".encode())[:5]
            if tail not in taken:
                break
            attempt += 1
        taken.add(tail)
        macs[name] = NodeMacs(radio=_mac(_RADIO, tail), tap=_mac(_TAP, tail))
    return macs


def _mac(first: int, tail: bytes) -> str:
    return bytes([first, *tail]).hex(":")


def _free(prefix: Network, given: Collection[IPAddress]) -> Iterator[int]:
    taken = {int(address) for address in given}
    first, last = usable(prefix)
    number = first
    while number <= last:
        if number not in taken:
            yield number
        number += 1


def _next(free: Iterator[int]) -> int:
    number = next(free, None)
    if number is None:
        raise ValueError("more nodes than addresses")
    return number
