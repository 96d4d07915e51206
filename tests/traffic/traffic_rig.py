"""Two namespaces with a wire between them, and a small node in one of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agent.linux import netif
from testbed.kernel import netns
from testbed.kernel.netns import run_in
from testbed.traffic.peer import NodeUnderTest, Place, Surface

NODE_MAC = "02:7b:00:00:00:55"
NODE = Path(__file__).with_name("small_node.py")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@dataclass
class Wire:
    """A veth pair between the namespace of the tester and that of the node."""

    tester: str
    node: str
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def end(self) -> Place:
        """The tester's end."""
        return Place(netns=self.tester, ifname="radio0", surface=Surface.WIRE)

    @property
    def far(self) -> Place:
        """The node's end."""
        return Place(netns=self.node, ifname="radio0", surface=Surface.WIRE)

    def under_test(self, kind: str) -> NodeUnderTest:
        assert kind in ("obu", "rsu")
        return NodeUnderTest(kind="obu" if kind == "obu" else "rsu", mac=NODE_MAC, netns=self.node)

    def start(self, kind: str, *options: str) -> None:
        """A small node at the node's end; it is ready when this returns."""
        small_node(self, self.node, kind, *options)

    def stop(self) -> None:
        for process in self.started:
            process.kill()
            process.communicate()
        self.started.clear()

    def link(self, place: Place, *, up: bool) -> None:
        run_in(place.netns, lambda: netif.set_up(place.ifname, up))


@contextmanager
def wired(name: str) -> Iterator[Wire]:
    """Namespaces `NAME-t` and `NAME-n` with a wire, gone afterwards."""
    wire = Wire(tester=f"{name}-t", node=f"{name}-n")
    made: list[tuple[str, int]] = []
    try:
        with netns.directory():
            for side in (wire.tester, wire.node):
                inode = netns.create(side, prepare=lambda: None, record=lambda _: None)
                made.append((side, inode))
        ip(
            "link", "add", "radio0", "netns", wire.tester, "type", "veth",
            "peer", "name", "radio0", "netns", wire.node, "address", NODE_MAC,
        )  # fmt: skip
        for place in (wire.end, wire.far):
            run_in(place.netns, quieten)
            wire.link(place, up=True)
        yield wire
    finally:
        wire.stop()
        for side, inode in made:
            netns.remove(side, inode)
        netns.tidy_directory()


def quieten() -> None:
    """Nothing is said in this namespace of the kernel's own accord."""
    Path("/proc/sys/net/ipv6/conf/radio0/disable_ipv6").write_text("1")


def small_node(wire: Wire, where: str, kind: str, *options: str) -> None:
    """A small node in that namespace, ended with the wire; it is ready when this returns."""
    process = subprocess.Popen(
        ["ip", "netns", "exec", where, sys.executable, "-S", str(NODE), kind, *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    wire.started.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
