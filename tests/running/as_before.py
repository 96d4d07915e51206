"""Brings topologies up and down in a world of its own, and says what is not as it was before.

Run it as `unshare --mount --net --propagation private python as_before.py NAME TOPOLOGY…`: with
mounts, links and a /run of its own nothing else that happens on the machine can be mistaken for a
trace of a testbed. Each difference is a line on standard output.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from testbed.kernel import processes
from testbed.running import lifecycle
from testbed.topology.loader import load_topology


def world(name: str) -> dict[str, set[str]]:
    return {
        "namespaces": set(subprocess.check_output(["ip", "netns"], text=True).split("\n")),
        "links": {link for _, link in socket.if_nameindex()},
        # Without its own number and its parent's, which tell nothing.
        "mounts": {
            line.split(" ", 2)[2] for line in Path("/proc/self/mountinfo").read_text().splitlines()
        },
        "files": {
            f"{path} {path.lstat().st_mode:o}" for path in (Path("/run"), *Path("/run").rglob("*"))
        },
        "processes": {
            str(found.pid) for found in processes.find_marked(Path("/run/testbed") / name)
        },
    }


def main(name: str, *topologies: str) -> None:
    subprocess.check_call(["mount", "-t", "tmpfs", "tmpfs", "/run"])
    os.environ.pop("TESTBED_RUN_DIR", None)
    before = world(name)
    for topology in topologies:
        wanted = replace(load_topology(topology), name=name)
        with lifecycle.up(wanted, wait_s=30) as running:
            report = running.report
            assert report is not None
            for node in report.not_ready:
                print(f"{topology}: not ready: {node}")
            during = world(name)
            for what in ("namespaces", "mounts", "files", "processes"):
                if during[what] == before[what]:
                    print(f"{topology}: no {what} while it is up")
            if during["links"] != before["links"]:
                print(f"{topology}: links outside of its namespaces")
        removed = lifecycle.down(name)
        for left in removed.left:
            print(f"{topology}: {left}")
        after = world(name)
        for what, there in after.items():
            for item in there ^ before[what]:
                # What others have mounted in the machine's own /run they may take away meanwhile.
                if what != "mounts" or item in there:
                    print(f"{topology}: {what}: {'left' if item in there else 'gone'}: {item}")


if __name__ == "__main__":
    main(*sys.argv[1:])
