"""Topologies as values, frames on radios, and what a testbed may leave behind; for these tests."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from pathlib import Path

from testbed.kernel import netns, processes
from testbed.topology.model import (
    RADIO_INTERFACE,
    Kind,
    Link,
    Node,
    NodeSettings,
    Ready,
    Segment,
    Topology,
)

MARKER = 0x3030
SO_RCVBUFFORCE = 33
"""socket(7); not in Python's socket module."""

SLEEPER = (sys.executable, "-S", "-c", "import signal; signal.pause()")
"""A program that stands in for a node: stays until it is told to leave."""


def as_program(node: Node, *command: str) -> Node:
    """The node with a program in place of the agent, of which nothing is asked but that it runs."""
    settings = replace(node.settings, command=command, ready=Ready(how="started"))
    return replace(node, settings=settings)


def make_node(
    number: int, name: str, *, kind: Kind = "obu", command: tuple[str, ...] | None = SLEEPER
) -> Node:
    node = Node(
        name=name,
        kind=kind,
        settings=NodeSettings(hello_periodicity_ms=1000),
        ipv4=IPv4Interface((int(IPv4Network("10.77.0.0/16")[number + 1]), 16)),
        ipv6=IPv6Interface(f"fd77::{number + 1:x}/64"),
        mac=f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}",
        tap_mac=f"02:01:00:00:{number >> 8:02x}:{number & 255:02x}",
    )
    return node if command is None else as_program(node, *command)


def make_topology(
    name: str,
    nodes: Sequence[str],
    *,
    links: Iterable[tuple[str, str]] = (),
    segments: Iterable[Sequence[str]] = (),
    command: tuple[str, ...] | None = SLEEPER,
) -> Topology:
    """Nodes whose names begin with "rsu" are RSUs."""
    return Topology(
        name=name,
        nodes=tuple(
            make_node(
                number, node, kind="rsu" if node.startswith("rsu") else "obu", command=command
            )
            for number, node in enumerate(nodes)
        ),
        links=tuple(Link(a=a, b=b) for a, b in links),
        segments=tuple(
            Segment(name=f"segment{number}", members=tuple(members))
            for number, members in enumerate(segments)
        ),
        prefix4=IPv4Network("10.77.0.0/16"),
        prefix6=IPv6Network("fd77::/64"),
    )


class Radio:
    """A packet socket on the radio of a node, which hears whatever comes to it."""

    def __init__(self, testbed: str, node: Node) -> None:
        self.node = node

        def bind() -> socket.socket:
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(MARKER))
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
            sock.bind((RADIO_INTERFACE, MARKER))
            sock.setblocking(False)
            return sock

        self.sock = netns.run_in(netns.namespace_name(testbed, node.name), bind)

    def send(self, number: int, *, to: str = "ff:ff:ff:ff:ff:ff") -> None:
        header = bytes.fromhex(to.replace(":", "")) + bytes.fromhex(self.node.mac.replace(":", ""))
        self.sock.send(header + struct.pack("!HI40x", MARKER, number))

    def heard(self) -> list[tuple[str, int]]:
        """Sender and number of every frame since the last call, in order."""
        frames = []
        while True:
            try:
                data, address = self.sock.recvfrom(2048)
            except BlockingIOError:
                return frames
            if address[2] != socket.PACKET_OUTGOING:
                frames.append((data[6:12].hex(":"), struct.unpack_from("!I", data, 14)[0]))

    def close(self) -> None:
        self.sock.close()


def leftovers(testbed: str, base: Path) -> list[str]:
    """What is still there of that testbed: names, mounts, processes, files."""
    prefix = f"tb.{testbed}."
    found = [f"namespace {name}" for name in netns.names() if name.startswith(prefix)]
    found += [
        f"mount {line}"
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if prefix in line
    ]
    run = base / testbed
    found += [f"process {process.pid}" for process in processes.find_marked(run)]
    if base.exists():
        found += [str(path) for path in base.iterdir()]
    return found
