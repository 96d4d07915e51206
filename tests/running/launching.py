"""A launcher by itself, with programs that stand in for nodes; for these tests."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from running_helpers import SLEEPER

from testbed.kernel import netns
from testbed.launch import spawning
from testbed.launch.client import Launcher, NodeSpec
from testbed.launch.messages import Program
from testbed.rundir import RunDir

STUBBORN = (
    sys.executable,
    "-S",
    "-c",
    """import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print("here", flush=True)
while True: signal.pause()""",
)


@contextmanager
def namespace(name: str) -> Iterator[str]:
    with netns.directory():
        inode = netns.create(name, prepare=lambda: None, record=lambda inode: None)
    try:
        yield name
    finally:
        netns.remove(name, inode)
        netns.tidy_directory()


def start(run: RunDir) -> Launcher:
    nonce = json.loads(run.journal.read_text().splitlines()[0])["nonce"]
    spawned = spawning.spawn(run, nonce)
    try:
        return spawned.connect()
    finally:
        spawned.close()


def program(
    name: str, there: str, *command: str, cpus: tuple[int, ...] | None = None, **more: object
) -> NodeSpec:
    what = Program(argv=command or SLEEPER, **more)  # type: ignore[arg-type]
    return NodeSpec(name=name, netns=there, program=what, cpus=cpus)


def all_in(state: str) -> Callable[..., bool]:
    return lambda nodes: all(node.state == state for node in nodes.values())
