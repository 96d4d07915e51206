"""The topology as values: everything resolved, nothing left to default.

Made by the loader, read by everybody else. Must not know YAML, files, the kernel or an agent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from types import MappingProxyType
from typing import Any, Literal, get_args

Kind = Literal["obu", "rsu"]
ReadyHow = Literal["tap", "log", "started"]
Handler = Literal["auto", "per-packet", "batched"]
GroupCopies = Literal["reference", "addressed"]
Coalesce = Literal["off", "fixed", "adaptive"]
WireEngine = Literal[
    "auto", "per-packet", "writev", "aggregate", "mmsg", "uring", "ring", "xsk", "xsk-tx"
]
TapEngine = Literal["auto", "per-packet", "writev", "uring"]

KINDS: tuple[Kind, ...] = get_args(Kind)
STOP_SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGKILL")
HANDLERS: tuple[Handler, ...] = get_args(Handler)
GROUP_COPIES: tuple[GroupCopies, ...] = get_args(GroupCopies)
COALESCE: tuple[Coalesce, ...] = get_args(Coalesce)
WIRE_ENGINES: tuple[WireEngine, ...] = get_args(WireEngine)
TAP_ENGINES: tuple[TapEngine, ...] = get_args(TapEngine)

RADIO_INTERFACE = "radio0"
TAP_INTERFACE = "tap0"

RADIO_MTU = 1500
"""Of every radio interface, in bytes: what a frame carries behind its Ethernet header."""
MTU_MIN = 1280
"""Every TAP has an IPv6 address, and IPv6 needs that much (RFC 8200, section 5)."""
MTU_MAX = RADIO_MTU + 14 - 28 - 14
"""A radio frame less 28 bytes of downstream header and 14 bytes of inner Ethernet header."""

FORMAT = 2
"""Version of the form that `Topology.to_json` writes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """What tells that a program is ready.

    `tap`: its TAP is there, up and with a carrier. `log`: a line of what it prints matches the
    regular expression `pattern`, and then the TAP. `started`: that it runs, and nothing more.
    """

    how: ReadyHow = "tap"
    pattern: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeSettings:
    """What a node is told to do; the defaults are the reference node's.

    `coalesce` None is "fixed" where there is a `max_wait_us`, else "off". `adaptive_batch` is two
    sizes such as "8..128", `metrics` an address and port such as "127.0.0.1:9100"; or "off".

    `command` is the command line, with placeholders (`testbed.topology.placeholders`), of the
    program that runs as the node; empty for our agent. What stands below it is about programs
    alone: `env` is added to the environment, `user` None is root.
    """

    hello_periodicity_ms: int = 5000
    hello_history: int = 10
    cached_candidates: int = 3
    mtu: int = 1436
    engine_wire: WireEngine = "auto"
    engine_tap: TapEngine = "auto"
    handler: Handler = "auto"
    batch: int = 32
    adaptive_batch: str = "off"
    coalesce: Coalesce | None = None
    max_wait_us: int = 0
    group_copies: GroupCopies = "reference"
    metrics: str = "off"
    command: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    ready: Ready = Ready()
    ready_within_ms: int = 10_000
    stop: str = "SIGTERM"
    user: str | None = None

    @property
    def is_program(self) -> bool:
        """Whether a program runs as the node, and not our agent."""
        return bool(self.command)

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` makes equal settings of them."""
        return {
            **{key: getattr(self, key) for key in self.__slots__},
            "command": list(self.command),
            "env": dict(self.env),
            "ready": {"how": self.ready.how, "pattern": self.ready.pattern},
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> NodeSettings:
        """The settings that `to_json` wrote."""
        return cls(
            **{
                **values,
                "command": tuple(values["command"]),
                "env": tuple(values["env"].items()),
                "ready": Ready(**values["ready"]),
            }
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """One OBU or RSU.

    `mac` belongs to the radio interface, `tap_mac` to the TAP, as `02:00:…` text. The addresses
    are the TAP's, with the prefix length of the whole testbed. `position` is in metres.
    """

    name: str
    kind: Kind
    settings: NodeSettings
    ipv4: IPv4Interface
    ipv6: IPv6Interface
    mac: str
    tap_mac: str
    position: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """Two nodes that hear each other."""

    a: str
    b: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A group of nodes that all hear each other. With one member: a node that hears nobody yet."""

    name: str
    members: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Topology:
    """A whole testbed. `source` is the file that it was read from, None where there was none."""

    name: str
    nodes: tuple[Node, ...]
    links: tuple[Link, ...]
    segments: tuple[Segment, ...]
    prefix4: IPv4Network
    prefix6: IPv6Network
    source: str | None = None

    @property
    def obus(self) -> tuple[Node, ...]:
        """The OBUs, in the order of the file."""
        return tuple(node for node in self.nodes if node.kind == "obu")

    @property
    def rsus(self) -> tuple[Node, ...]:
        """The RSUs, in the order of the file."""
        return tuple(node for node in self.nodes if node.kind == "rsu")

    def node(self, name: str) -> Node:
        """The node of that name; KeyError where there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def neighbours(self) -> Mapping[str, frozenset[str]]:
        """Who hears whom: every node, and all that hear it, by links and segments together."""
        heard: dict[str, set[str]] = {node.name: set() for node in self.nodes}
        for link in self.links:
            heard[link.a].add(link.b)
            heard[link.b].add(link.a)
        for segment in self.segments:
            for member in segment.members:
                heard[member].update(other for other in segment.members if other != member)
        return MappingProxyType({name: frozenset(others) for name, others in heard.items()})

    def hops_to_rsu(self) -> Mapping[str, int | None]:
        """Radio hops from every node to its nearest RSU: 0 for an RSU, None without any path."""
        neighbours = self.neighbours()
        hops: dict[str, int | None] = {node.name: None for node in self.nodes}
        waiting = deque((rsu.name, 0) for rsu in self.rsus)
        while waiting:
            name, distance = waiting.popleft()
            if hops[name] is not None:
                continue
            hops[name] = distance
            waiting.extend((other, distance + 1) for other in sorted(neighbours[name]))
        return MappingProxyType(hops)

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`; `from_json` makes an equal topology of them."""
        return {
            "format": FORMAT,
            "name": self.name,
            "source": self.source,
            "prefix4": str(self.prefix4),
            "prefix6": str(self.prefix6),
            "nodes": [_node_to_json(node) for node in self.nodes],
            "links": [[link.a, link.b] for link in self.links],
            "segments": [
                {"name": segment.name, "members": list(segment.members)}
                for segment in self.segments
            ],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Topology:
        """The topology that `to_json` wrote; ValueError for another format, KeyError if cut."""
        if values["format"] != FORMAT:
            raise ValueError(f"topology format {values['format']!r}, this version reads {FORMAT}")
        return cls(
            name=values["name"],
            source=values["source"],
            prefix4=IPv4Network(values["prefix4"]),
            prefix6=IPv6Network(values["prefix6"]),
            nodes=tuple(_node_from_json(node) for node in values["nodes"]),
            links=tuple(Link(a=a, b=b) for a, b in values["links"]),
            segments=tuple(
                Segment(name=segment["name"], members=tuple(segment["members"]))
                for segment in values["segments"]
            ),
        )


def _node_to_json(node: Node) -> dict[str, Any]:
    return {
        "name": node.name,
        "kind": node.kind,
        "settings": node.settings.to_json(),
        "ipv4": str(node.ipv4),
        "ipv6": str(node.ipv6),
        "mac": node.mac,
        "tap_mac": node.tap_mac,
        "position": None if node.position is None else list(node.position),
    }


def _node_from_json(values: Mapping[str, Any]) -> Node:
    position = values["position"]
    return Node(
        name=values["name"],
        kind=values["kind"],
        settings=NodeSettings.from_json(values["settings"]),
        ipv4=IPv4Interface(values["ipv4"]),
        ipv6=IPv6Interface(values["ipv6"]),
        mac=values["mac"],
        tap_mac=values["tap_mac"],
        position=None if position is None else (position[0], position[1]),
    )
