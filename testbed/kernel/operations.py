"""What can be made in the kernel for a testbed, as values; each has a key and the keys it needs.

Must not know how one is made or undone, nor which of them a testbed consists of.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class MakeNamespace:
    """A network namespace, for a node or (`medium`) for the ports of all nodes."""

    key: str
    netns: str
    medium: bool = False
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class MakeCable:
    """A veth pair whose two ends are the radios of two nodes that hear only each other."""

    key: str
    netns: tuple[str, str]
    mac: tuple[str, str]
    mtu: int
    needs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class MakePort:
    """A veth pair: the radio of a node, and its port in the medium, which nobody hears yet."""

    key: str
    netns: str
    mac: str
    medium: str
    port: str
    mtu: int
    needs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Hear:
    """What comes in at `port` of the medium goes out at exactly `peers`."""

    key: str
    medium: str
    port: str
    peers: tuple[str, ...]
    needs: tuple[str, ...]
