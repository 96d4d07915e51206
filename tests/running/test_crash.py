"""Whatever dies, and whenever: `down --all` leaves nothing of it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from running_helpers import leftovers, make_topology

from testbed.kernel import processes
from testbed.running import lifecycle
from testbed.topology.model import Topology

WaitUntil = Callable[..., None]

pytestmark = pytest.mark.usefixtures("root")

HERE = Path(__file__).parent

UP = """
import sys
sys.path.insert(0, sys.argv[1])
from test_crash import road
from testbed.running import lifecycle
lifecycle.up(road(sys.argv[2], agents=sys.argv[3] == "agents")).close()
"""

CHANGE = """
import sys
sys.path.insert(0, sys.argv[1])
from test_crash import other_road
from testbed.running import lifecycle
lifecycle.up(other_road(sys.argv[2])).close()
"""


def road(name: str, *, agents: bool = False) -> Topology:
    """Cables, ports, RSUs and OBUs: every kind of operation."""
    names = ["rsu1", "a", "b", "c", "rsu2", "x"]
    links = [("rsu1", "a"), ("a", "b"), ("b", "c"), ("rsu2", "x")]
    if agents:
        return make_topology(name, names, links=links, command=None)
    return make_topology(name, names, links=links)


def other_road(name: str) -> Topology:
    """Cables that become ports, nodes that come and go."""
    names = ["rsu1", "a", "c", "rsu2", "x", "y"]
    links = [("rsu1", "a"), ("a", "c"), ("rsu2", "x"), ("x", "y")]
    return make_topology(name, names, links=links)


def begin(script: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", script, str(HERE), *arguments])


def kill_after_lines(process: subprocess.Popen[bytes], journal: Path, lines: int) -> None:
    """SIGKILL as soon as the journal has so many lines, or when the process is done."""
    while process.poll() is None:
        try:
            if journal.read_bytes().count(b"\n") >= lines:
                break
        except FileNotFoundError:
            pass
    process.kill()
    process.wait()


@pytest.mark.parametrize("what", ["programs", "agents"])
def test_killed_after_any_line_of_the_journal(run_dir: Path, testbed_name: str, what: str) -> None:
    journal = run_dir / testbed_name / "journal.jsonl"
    whole = begin(UP, testbed_name, what)
    assert whole.wait(60) == 0
    total = journal.read_bytes().count(b"\n")
    lifecycle.down(testbed_name)
    assert total > 30
    step = 5 if what == "programs" else 11
    for lines in range(1, total + 1, step):
        kill_after_lines(begin(UP, testbed_name, what), journal, lines)
        lifecycle.down_all()
        assert leftovers(testbed_name, run_dir) == [], f"killed after {lines} lines"


def test_killed_at_any_moment(run_dir: Path, testbed_name: str) -> None:
    chance = random.Random(20)
    begun = time.monotonic()
    whole = begin(UP, testbed_name, "agents")
    assert whole.wait(60) == 0
    whole_s = time.monotonic() - begun
    lifecycle.down(testbed_name)
    for _ in range(12):
        process = begin(UP, testbed_name, "agents")
        delay_s = chance.uniform(0, whole_s)
        try:
            process.wait(delay_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        lifecycle.down_all()
        assert leftovers(testbed_name, run_dir) == [], f"killed after {delay_s} s"


def test_a_change_killed_at_any_line_is_finished_by_the_next_up(
    run_dir: Path, testbed_name: str
) -> None:
    journal = run_dir / testbed_name / "journal.jsonl"
    for more in range(1, 40, 6):
        lifecycle.up(road(testbed_name)).close()
        before = journal.read_bytes().count(b"\n")
        kill_after_lines(begin(CHANGE, testbed_name), journal, before + more)
        with lifecycle.up(other_road(testbed_name)) as running:
            assert running.report is not None
            assert running.report.not_ready == ()
            alive = {name for name, node in running.status().items() if node.alive}
            assert alive == {"rsu1", "a", "c", "rsu2", "x", "y"}
        lifecycle.down_all()
        assert leftovers(testbed_name, run_dir) == [], f"killed {more} lines into the change"


def test_orchestrator_and_launcher_killed_together(run_dir: Path, testbed_name: str) -> None:
    """Nobody is left who could end the nodes but who comes to clean up."""
    for lines in (40, 44, 48, 52):
        process = begin(UP, testbed_name, "programs")
        journal = run_dir / testbed_name / "journal.jsonl"
        while process.poll() is None:
            try:
                if journal.read_bytes().count(b"\n") >= lines:
                    break
            except FileNotFoundError:
                pass
        process.kill()
        for marked in processes.find_marked(run_dir / testbed_name):
            if b"testbed.launch.launcher" in Path(f"/proc/{marked.pid}/cmdline").read_bytes():
                os.kill(marked.pid, signal.SIGKILL)
                break
        process.wait()
        lifecycle.down_all()
        assert leftovers(testbed_name, run_dir) == [], f"killed after {lines} lines"


def test_down_killed_at_any_moment_is_finished_by_the_next(
    run_dir: Path, testbed_name: str
) -> None:
    script = "import sys; from testbed.running import lifecycle; lifecycle.down(sys.argv[2])"
    chance = random.Random(21)
    for _ in range(10):
        lifecycle.up(road(testbed_name)).close()
        process = begin(script, testbed_name)
        try:
            process.wait(chance.uniform(0, 0.6))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        lifecycle.down_all()
        assert leftovers(testbed_name, run_dir) == []
