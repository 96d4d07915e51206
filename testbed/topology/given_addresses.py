"""The addresses that a file gives its nodes, checked against the testbed's prefix and each other.

Must not know links or settings. What is wrong goes to `Problems`; the result then is not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import TypeVar

from testbed.files.document import Place
from testbed.files.fields import counted
from testbed.files.problems import Problems
from testbed.topology import addressing

Address = TypeVar("Address", IPv4Address, IPv6Address)
Said = Mapping[str, tuple[Address, int | None] | None]
"""What the file says of each node: an address, and perhaps the length of its prefix."""

_EXAMPLE = {4: addressing.DEFAULT_PREFIX4, 6: addressing.DEFAULT_PREFIX6}


def check_prefix(prefix: addressing.Network, nodes: int, problems: Problems) -> None:
    """The prefix must be free for hosts, and have an address for every node."""
    place: Place = ("topology", "addressing", f"ipv{prefix.version}")
    taken = addressing.taken_by(prefix)
    if taken is not None:
        network, purpose = taken
        problems.add(
            place,
            f"the prefix is in use already, {network} is for {purpose}",
            value=str(prefix),
            expected=f"a prefix for hosts, such as {_EXAMPLE[prefix.version]}",
        )
    room = addressing.capacity(prefix)
    if nodes > room:
        length = addressing.prefix_length_for(nodes, prefix.version)
        problems.add(
            place,
            f"{prefix} has {room} address{'' if room == 1 else 'es'} for {counted(nodes, 'node')}",
            expected=f"a prefix of /{length} or shorter",
        )


def given(
    said: Said[Address], prefix: addressing.Network, problems: Problems
) -> dict[str, Address]:
    """The addresses by node: each one a host's in the prefix, and no two the same."""
    found: dict[str, Address] = {}
    owners: dict[Address, str] = {}
    for name, value in said.items():
        if value is None:
            continue
        address, length = value
        place: Place = ("topology", "nodes", name, f"ipv{prefix.version}")
        _check(address, length, prefix, place, problems)
        if address in owners:
            problems.add(
                place,
                f"{owners[address]} has this address already",
                value=str(address),
                expected="each address once",
            )
        owners.setdefault(address, name)
        found[name] = address
    return found


def _check(
    address: addressing.IPAddress,
    length: int | None,
    prefix: addressing.Network,
    place: Place,
    problems: Problems,
) -> None:
    first, last = addressing.usable(prefix)
    if address not in prefix:
        problems.add(
            place,
            "the address is outside the testbed's prefix",
            value=str(address),
            expected=f"an address in {prefix}",
        )
    elif not first <= int(address) <= last:
        what = "network's own" if int(address) < first else "one for broadcasts"
        problems.add(
            place,
            f"the address is the {what}",
            value=str(address),
            expected=f"{type(address)(first)} to {type(address)(last)}",
        )
    elif length not in (None, prefix.prefixlen):
        problems.add(
            place,
            "another prefix length than the testbed's",
            value=f"{address}/{length}",
            expected=f"{address} or {address}/{prefix.prefixlen}",
        )
