"""Placeholders in the command line of a program: `{ip}` and the like, and what they stand for.

Pure. Must not know files, nor how a program is started. `{{` and `}}` stand for braces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from testbed.topology.model import RADIO_INTERFACE, TAP_INTERFACE, Node, NodeSettings

MEANINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "kind": "`obu` or `rsu`",
        "name": "the node's name",
        "testbed": "the testbed's name",
        "netns": "the name of the node's network namespace",
        "iface": f"its radio interface, `{RADIO_INTERFACE}`",
        "mac": "the MAC address of that",
        "tap": f"its TAP, `{TAP_INTERFACE}`",
        "tap_mac": "the MAC address that our agent would give the TAP",
        "ip": "the IPv4 address of the TAP, without a prefix length",
        "prefix": "the length of the IPv4 prefix",
        "ip6": "the IPv6 address of the TAP, without a prefix length",
        "prefix6": "the length of the IPv6 prefix",
        "mtu": "largest IP packet on the TAP, in bytes",
        "hello_periodicity_ms": "`hello.period` in milliseconds",
        "hello_history": "`hello.history`",
        "cached_candidates": "`cached_candidates`",
        "engine_wire": "`engine.wire`",
        "engine_tap": "`engine.tap`",
        "handler": "`handler`",
        "batch": "`batch`",
        "adaptive_batch": "`adaptive_batch`",
        "coalesce": "`coalesce`, or what stands for it where it is left out",
        "max_wait_us": "`max_wait` in microseconds",
        "group_copies": "`group_copies`",
        "metrics": "`metrics`",
    }
)
"""Every placeholder there is, in words for the documentation."""

_PART: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class PlaceholderError(ValueError):
    """Not a template; `expected` says what would be one."""

    def __init__(self, problem: str, expected: str, *, unknown: str | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.expected = expected
        self.unknown = unknown


def names_in(text: str) -> frozenset[str]:
    """The placeholders of a template.

    :raises PlaceholderError: one is unknown, or a brace belongs to none.
    """
    return frozenset(_names(text))


def _names(text: str) -> Iterator[str]:
    for part in _PART.finditer(text):
        if part[0] in ("{{", "}}"):
            continue
        name = part[1]
        if name is None:
            raise PlaceholderError(
                f"a {part[0]!r} that belongs to no placeholder",
                f"a placeholder such as {{ip}}, or {part[0] * 2} for a brace",
            )
        if name not in MEANINGS:
            raise PlaceholderError(
                f"there is no placeholder {{{name}}}",
                "one of " + ", ".join(f"{{{known}}}" for known in MEANINGS),
                unknown=name,
            )
        yield name


def fill(text: str, values: Mapping[str, str]) -> str:
    """The template with every placeholder replaced, and doubled braces made single."""

    def replaced(part: re.Match[str]) -> str:
        return values[part[1]] if part[1] is not None else part[0][0]

    return _PART.sub(replaced, text)


def values_for(testbed: str, netns: str, node: Node, settings: NodeSettings) -> dict[str, str]:
    """What the placeholders stand for at `node`, told `settings`."""
    return {
        "kind": node.kind,
        "name": node.name,
        "testbed": testbed,
        "netns": netns,
        "iface": RADIO_INTERFACE,
        "mac": node.mac,
        "tap": TAP_INTERFACE,
        "tap_mac": node.tap_mac,
        "ip": str(node.ipv4.ip),
        "prefix": str(node.ipv4.network.prefixlen),
        "ip6": str(node.ipv6.ip),
        "prefix6": str(node.ipv6.network.prefixlen),
        "coalesce": settings.coalesce or ("fixed" if settings.max_wait_us else "off"),
        **{
            name: str(getattr(settings, name))
            for name in (
                "mtu",
                "hello_periodicity_ms",
                "hello_history",
                "cached_candidates",
                "engine_wire",
                "engine_tap",
                "handler",
                "batch",
                "adaptive_batch",
                "max_wait_us",
                "group_copies",
                "metrics",
            )
        },
    }
