"""How long a testbed takes to come up, phase by phase, and what its agents cost in memory.

    python benchmarks/bench_bringup.py [--nodes 100] [--neighbours 8] [--repeat 3] [TOPOLOGY…]

A topology is a file or the name of a shipped one; without any, a road of RSUs and OBUs is made up,
in which each node hears the `--neighbours` nearest. Memory is PSS (proc_pid_smaps_rollup(5)), each
page shared by n processes counted at 1/n, so that the sum is what the machine really has less.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from dataclasses import replace
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from pathlib import Path

from testbed.running import lifecycle
from testbed.topology.loader import load_topology
from testbed.topology.model import Link, Node, NodeSettings, Topology


def road(nodes: int, neighbours: int) -> Topology:
    """Every tenth node an RSU, the others OBUs; each hears the nearest on both sides."""
    names = [f"rsu{n}" if n % 10 == 5 else f"obu{n}" for n in range(nodes)]
    reach = max(1, neighbours // 2)
    return Topology(
        name="bench",
        nodes=tuple(
            Node(
                name=name,
                kind="rsu" if name.startswith("rsu") else "obu",
                settings=NodeSettings(hello_periodicity_ms=1000),
                ipv4=IPv4Interface((int(IPv4Network("10.77.0.0/16")[1 + n]), 16)),
                ipv6=IPv6Interface(f"fd77::{n + 1:x}/64"),
                mac=f"02:00:00:00:{n >> 8:02x}:{n & 255:02x}",
                tap_mac=f"02:01:00:00:{n >> 8:02x}:{n & 255:02x}",
            )
            for n, name in enumerate(names)
        ),
        links=tuple(
            Link(a=names[a], b=names[b])
            for a in range(nodes)
            for b in range(a + 1, min(nodes, a + reach + 1))
        ),
        segments=(),
        prefix4=IPv4Network("10.77.0.0/16"),
        prefix6=IPv6Network("fd77::/64"),
    )


def pss_kib(pid: int) -> int:
    """The process's proportional share of the memory, in KiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise ValueError(f"no Pss of {pid}")


def measure(topology: Topology) -> None:
    """Bring it up once and down again, and print what that took."""
    load = os.getloadavg()[0]
    with lifecycle.up(topology, wait_s=60) as running:
        report = running.report
        assert report is not None
        pids = [node.pid for node in running.status().values() if node.alive]
        pss = [pss_kib(pid) for pid in pids]
        launcher = pss_kib(running.launcher.snapshot().pid)
    begun = time.monotonic()
    lifecycle.down(topology.name)
    down_s = time.monotonic() - begun
    print(f"{topology.name}: {len(topology.nodes)} nodes, load before {load:.1f}")
    for phase in report.phases:
        print(f"  {phase.name:12} {phase.count:5}  {phase.seconds * 1000:8.1f} ms")
    print(f"  up in all           {report.seconds * 1000:8.1f} ms")
    print(f"  down                {down_s * 1000:8.1f} ms")
    if pss:
        print(
            f"  PSS per agent: median {statistics.median(pss) / 1024:.1f} MiB, "
            f"largest {max(pss) / 1024:.1f} MiB; launcher {launcher / 1024:.1f} MiB"
        )
    for node in report.not_ready:
        print(f"  not ready: {node}")


def main() -> int:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("topologies", nargs="*", metavar="TOPOLOGY")
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--neighbours", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    chosen = [load_topology(name) for name in arguments.topologies]
    for topology in chosen or [road(arguments.nodes, arguments.neighbours)]:
        own = replace(topology, name=f"bench-{os.getpid()}")
        for _ in range(arguments.repeat):
            measure(own)
    return 0


if __name__ == "__main__":
    sys.exit(main())
