"""Nothing that a node's program leaves running outlives the node, however it has gone away."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from launching import all_in, namespace, program
from running_helpers import as_program, make_topology

from testbed.kernel import netns
from testbed.launch.client import Launcher, NodeSpec
from testbed.rundir import RunDir
from testbed.running import lifecycle
from testbed.topology.model import Topology

WaitUntil = Callable[..., None]

pytestmark = pytest.mark.usefixtures("root")

TESTBED = (sys.executable, "-m", "testbed")
_numbers = count(os.getpid() * 100 + 86_400)


class Left:
    """A sleep of a length that nobody else sleeps, found by it."""

    def __init__(self) -> None:
        self.seconds = next(_numbers)

    def pids(self) -> list[int]:
        found = []
        for entry in os.listdir("/proc"):
            with suppress(OSError):
                if entry.isdigit() and Path(f"/proc/{entry}/cmdline").read_bytes() == (
                    f"sleep\0{self.seconds}\0".encode()
                ):
                    found.append(int(entry))
        return found


@pytest.fixture
def left() -> Iterator[Left]:
    one = Left()
    yield one
    for pid in one.pids():
        os.kill(pid, signal.SIGKILL)


WAYS = {
    "in its group": "sleep {s} &",
    "setsid": "setsid sleep {s} &",
    "double fork": "(setsid sh -c 'sleep {s} & exit' &);",
    "no environment": "env -i setsid sleep {s} &",
    "a tree": "env -i setsid sh -c 'sleep {s} & setsid sleep {s} & sleep {s} & wait' &",
    "another network": "setsid unshare --net sleep {s} &",
    "the machine's network": "setsid nsenter --net=/proc/{tests}/ns/net sleep {s} &",
    "deaf": "setsid sh -c \"trap '' TERM HUP INT; exec sleep {s}\" &",
}


def leaving(name: str, there: str, way: str, left: Left, then: str = "exec sleep 600") -> NodeSpec:
    command = WAYS[way].format(s=left.seconds, tests=os.getpid())
    return program(name, there, "sh", "-c", f"{command} {then}")


def some(left: Left, way: str) -> bool:
    return len(left.pids()) == (3 if way == "a tree" else 1)


@pytest.mark.parametrize("way", list(WAYS))
def test_it_ends_when_the_node_is_stopped(
    launcher: Launcher, there: str, left: Left, wait_until: WaitUntil, way: str
) -> None:
    launcher.start([leaving("n", there, way, left)])
    wait_until(lambda: some(left, way))
    launcher.stop(["n"])
    assert left.pids() == []


@pytest.mark.parametrize("way", ["setsid", "no environment"])
def test_it_ends_when_the_node_does_by_itself(
    launcher: Launcher, there: str, left: Left, wait_until: WaitUntil, way: str
) -> None:
    launcher.start([leaving("n", there, way, left, then="sleep 0.3; exit 3")], restart=True)
    first: list[int] = []
    wait_until(lambda: first.extend(left.pids()) or first)
    launcher.wait(lambda nodes: nodes["n"].restarts >= 2, 10)
    # Each life has but its own.
    wait_until(lambda: not set(first) & set(left.pids()))
    assert len(left.pids()) <= 1
    launcher.stop(["n"])
    assert left.pids() == []


def test_what_has_hidden_from_every_node_ends_with_the_launcher(
    launcher: Launcher, there: str, left: Left, wait_until: WaitUntil
) -> None:
    command = f"env -i setsid unshare --net sleep {left.seconds} & exec sleep 600"
    launcher.start([program("n", there, "sh", "-c", command)])
    wait_until(lambda: left.pids())
    launcher.stop(["n"])
    assert len(left.pids()) == 1
    launcher.shutdown()
    assert left.pids() == []


def test_one_node_ends_nothing_of_another(
    run: RunDir, launcher: Launcher, there: str, left: Left, wait_until: WaitUntil
) -> None:
    """Nor does it end what of its own is still wanted: a daemon of a program that runs."""
    with namespace(f"tb.{run.name}.m") as other:
        launcher.start(
            [program("n", there), leaving("m", other, "no environment", left)], restart=True
        )
        wait_until(lambda: left.pids())
        launcher.wait(all_in("ready"), 5)
        os.kill(launcher.status()["n"].pid, signal.SIGKILL)
        launcher.wait(lambda nodes: nodes["n"].restarts == 1, 5)
        launcher.stop(["n"])
        assert len(left.pids()) == 1
        launcher.stop(["m"])
        assert left.pids() == []


def test_a_shell_that_somebody_opened_in_the_node_stays(
    launcher: Launcher, there: str, left: Left, wait_until: WaitUntil
) -> None:
    """With what it has started, and what of that has lost its parent: none descends from us."""
    command = f"(setsid sleep {left.seconds} &) ; sleep {left.seconds} & wait"
    launcher.start([program("n", there)])
    with subprocess.Popen(["ip", "netns", "exec", there, "sh", "-c", command]) as shell:
        wait_until(lambda: len(left.pids()) == 2)
        launcher.wait(all_in("ready"), 5)
        launcher.stop(["n"])
        launcher.start([program("n", there)])
        launcher.wait(all_in("ready"), 5)
        launcher.shutdown()
        assert len(left.pids()) == 2
        assert shell.poll() is None
        shell.kill()


def test_what_ends_by_itself_is_no_zombie(
    launcher: Launcher, there: str, wait_until: WaitUntil
) -> None:
    command = "for i in $(seq 200); do (setsid true &); done; echo done; exec sleep 600"
    launcher.start([program("n", there, "sh", "-c", command)])
    pid = launcher.snapshot().pid
    children = Path(f"/proc/{pid}/task/{pid}/children")

    def settled() -> bool:
        node = launcher.status()["n"]
        sleeping = Path(f"/proc/{node.pid}/comm").read_text() == "sleep\n"
        return sleeping and children.read_text().split() == [str(node.pid)]

    wait_until(settled)


def test_one_that_makes_itself_anew_keeps_nobody_waiting(
    run: RunDir, launcher: Launcher, there: str, wait_until: WaitUntil
) -> None:
    """It is killed as often as it is found; who stops the node is told in the end."""
    script = (
        "import os, time\nprint('here', flush=True)\n"
        "while True:\n"
        "    if os.fork() == 0: os.setsid()\n"
        "    else: time.sleep(0.001); os._exit(0)\n"
    )
    command = f"{sys.executable} -S -c {shlex.quote(script)} & exec sleep 600"
    launcher.start([program("n", there, "sh", "-c", command), program("m", there)])
    wait_until(lambda: "here" in run.node_log("n").read_text())
    stopped = launcher.stop(["n"]).nodes["n"]
    assert stopped.state == "exited"
    assert launcher.status()["m"].alive
    launcher.shutdown()


# -- whole testbeds


def triangle(name: str, command: str) -> Topology:
    made = make_topology(name, ["rsu", "a", "b"], links=[("rsu", "a"), ("a", "b")])
    rsu, a, b = made.nodes
    return replace(made, nodes=(rsu, as_program(a, "sh", "-c", command), b))


@pytest.mark.parametrize("way", ["setsid", "no environment"])
def test_a_node_that_is_replaced_leaves_nothing_beside_the_new_one(
    run_dir: Path, testbed_name: str, left: Left, wait_until: WaitUntil, way: str
) -> None:
    command = WAYS[way].format(s=left.seconds, tests=os.getpid())
    with lifecycle.up(triangle(testbed_name, f"{command} exec sleep 600")) as running:
        wait_until(lambda: left.pids())
        before = set(left.pids())
        running.restart("a")
        wait_until(lambda: left.pids())
        assert len(left.pids()) == 1
        assert not before & set(left.pids())
    with lifecycle.up(triangle(testbed_name, "exec sleep 601")):
        assert left.pids() == []
    with lifecycle.up(triangle(testbed_name, f"{command} exec sleep 600")):
        wait_until(lambda: left.pids())
    assert lifecycle.down(testbed_name).left == ()
    assert left.pids() == []


def test_down_says_that_a_process_stays_and_fails(
    run_dir: Path, testbed_name: str, left: Left
) -> None:
    """One that is not ours to end: it has entered the namespace by itself."""
    with lifecycle.up(triangle(testbed_name, "exec sleep 600")) as running:
        inside = running.netns("a")
    with subprocess.Popen(["ip", "netns", "exec", inside, "sleep", str(left.seconds)]) as shell:
        while not left.pids():
            pass
        done = subprocess.run(
            (*TESTBED, "down", testbed_name),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert shell.poll() is None
        shell.kill()
    assert inside not in netns.names()
    assert done.returncode == 1
    said = f"process {shell.pid} (sleep) still runs in what was {inside}"
    assert done.stderr.splitlines()[-1] == f"error: not everything went: {said}"
