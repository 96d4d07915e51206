"""An agent that has been taken over harms nobody by what it tells its launcher."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import fuzzing
import pytest
from running_helpers import make_topology

from testbed.launch import events, notes
from testbed.running import lifecycle
from testbed.running.inspect import NodeView, inspect
from testbed.running.running import Running

WaitUntil = Callable[..., None]

pytestmark = pytest.mark.usefixtures("root", "run_dir")

EVENTS_FD = 3
"""Of the pipe that every agent holds (`testbed.launch.child`)."""


@pytest.fixture
def running(testbed_name: str) -> Iterator[Running]:
    topology = make_topology(
        testbed_name, ["rsu", "a", "b"], links=[("rsu", "a"), ("a", "b")], command=None
    )
    with lifecycle.up(topology) as made:
        assert made.report is not None
        assert made.report.not_ready == ()
        yield made


def pids(running: Running) -> tuple[int, dict[str, int]]:
    snapshot = running.launcher.snapshot()
    return snapshot.pid, {name: node.pid for name, node in snapshot.nodes.items() if node.alive}


def tell(running: Running, node: str, text: bytes) -> None:
    """Write into the agent's pipe, as the agent could; nothing once nobody reads."""
    pid = running.status()[node].pid
    with suppress(OSError):
        pipe = os.open(f"/proc/{pid}/fd/{EVENTS_FD}", os.O_WRONLY)
        try:
            os.write(pipe, text)
        finally:
            os.close(pipe)


def view(running: Running, node: str) -> NodeView:
    return {one.name: one for one in inspect(running.name).nodes}[node]


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 60_000 + b"\n",
        b'{"event":"ready","engines":[1,2]}\n',
        b'{"event":"upstream","mac":[],"rsu":{},"hops":"1"}\n',
        b'{"event":"upstream","mac":"\\ud800"}\n',
        b'["event"]\n\xff\n\n',
    ],
    ids=lambda text: str(text[:30]),
)
def test_what_cannot_be_read_is_noted_and_nothing_else(
    running: Running, text: bytes, wait_until: WaitUntil
) -> None:
    before = pids(running)
    upstream = view(running, "a").upstream
    tell(running, "a", text)
    log = running.run.launcher_log
    wait_until(lambda: "a: no event" in log.read_text())
    assert pids(running) == before
    shown = view(running, "a")
    assert (shown.state, shown.why, shown.upstream) == ("ready", None, upstream)
    # It is still listened to.
    tell(running, "a", b'{"event":"upstream","mac":null}\n')
    wait_until(lambda: view(running, "a").upstream is None)


def test_no_bytes_end_anything(running: Running, seed: int) -> None:
    before = pids(running)
    chance = random.Random(seed)
    for number in range(400):
        for name in ("a", "b", "rsu"):
            tell(running, name, fuzzing.line(chance, fuzzing.EVENTS))
        if number % 50 == 0:
            inspect(running.name)
    assert pids(running) == before, seed
    said = running.run.launcher_log.read_text()
    assert "should not happen" not in said
    assert len(said) < 100_000


def test_one_that_tells_without_end_is_not_listened_to_and_goes_on_as_a_node(
    running: Running, wait_until: WaitUntil
) -> None:
    before = pids(running)
    pid = before[1]["a"]
    script = (
        "import os, sys\npipe = os.open(sys.argv[1], os.O_WRONLY)\n"
        'while True: os.write(pipe, b\'{"event":"x"}\\n\' * 4000)\n'
    )
    with subprocess.Popen(
        [sys.executable, "-S", "-c", script, f"/proc/{pid}/fd/{EVENTS_FD}"],
        stderr=subprocess.DEVNULL,
    ) as telling:
        slowest_s = 0.0
        for _ in range(20):
            begun = time.monotonic()
            assert {node.state for node in inspect(running.name).nodes} == {"ready"}
            slowest_s = max(slowest_s, time.monotonic() - begun)
        # Whoever writes into a pipe that nobody reads gets SIGPIPE, or its error.
        wait_until(lambda: telling.poll() is not None)
    assert slowest_s < 1.5
    shown = view(running, "a")
    assert shown.why == "its agent is not listened to any more: it tells far too much"
    assert shown.stats is not None  # it answers, and works
    said = "a is not listened to any more: it tells far too much"
    assert said in running.run.node_log("a").read_text()
    assert said in running.run.launcher_log.read_text()
    assert pids(running) == before
    # Nor does another `up` take that for a reason to replace it, or wait for what it cannot know.
    begun = time.monotonic()
    with lifecycle.up(running.topology, wait_s=10) as again:
        assert pids(again) == before
        assert again.report is not None
        assert [one.node for one in again.report.not_ready] == ["a"]
    assert time.monotonic() - begun < 5
    # Started anew it is heard again.
    assert running.restart("a").unheard is None


def test_what_is_noted_of_one_does_not_fill_the_disk(
    running: Running, wait_until: WaitUntil
) -> None:
    before = running.run.launcher_log.stat().st_size
    for _ in range(events.UNREADABLE * 2):
        tell(running, "a", b"\xff" * 50_000 + b"\n")
        time.sleep(0.01)
    wait_until(lambda: running.status()["a"].unheard == "it tells what cannot be read")
    assert running.run.launcher_log.stat().st_size - before < 8192
    # Whatever else there is to note: there is an end to it.
    os.truncate(running.run.launcher_log, notes.LONGEST_LOG)
    for _ in range(3):
        tell(running, "b", b"no event\n")
    tell(running, "b", b'{"event":"upstream","mac":null}\n')
    wait_until(lambda: running.status()["b"].upstream is None)
    assert running.run.launcher_log.stat().st_size == notes.LONGEST_LOG
