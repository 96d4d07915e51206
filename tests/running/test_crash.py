"""Whatever dies, and whenever: `down --all` leaves nothing of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from running_helpers import leftovers, make_topology

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
    step = 9 if what == "programs" else 13
    for lines in range(1, total + 1, step):
        kill_after_lines(begin(UP, testbed_name, what), journal, lines)
        lifecycle.down_all()
        assert leftovers(testbed_name, run_dir) == [], f"killed after {lines} lines"


def test_a_change_killed_at_any_line_is_finished_by_the_next_up(
    run_dir: Path, testbed_name: str
) -> None:
    journal = run_dir / testbed_name / "journal.jsonl"
    for more in range(1, 40, 9):
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


@pytest.mark.timeout(600)
def test_whoever_is_killed_and_whenever(request: pytest.FixtureRequest, seed: int) -> None:
    """Orchestrators, launchers, agents, generators, sinks, and the medium; up, run and down."""
    points = int(request.config.getoption("kills"))
    unshare = shutil.which("unshare")
    assert unshare is not None
    done = subprocess.run(
        [
            *(unshare, "--mount", "--net", "--pid", "--kill-child", "--mount-proc"),
            *("--propagation", "private"),
            *(sys.executable, str(HERE / "chaos.py"), str(seed), "0", str(points)),
        ],
        capture_output=True,
        text=True,
        timeout=590,
    )
    *wrong, last = done.stdout.splitlines()
    assert (wrong, done.returncode) == ([], 0), done.stderr
    told = json.loads(last)
    assert told["points"] == points
    assert sum(told["killed"].values()) >= points
    if points >= 50:
        stages, victims = zip(*(one.split() for one in told["killed"]), strict=True)
        assert set(stages) == {"up", "run", "down"}
        assert set(victims) == {
            *("orchestrator", "launcher", "agent"),
            *("generator", "sink", "medium"),
        }
