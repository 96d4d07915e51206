"""What goes wrong with a node, a disk or the launcher itself ends nothing else, and is said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from launching import all_in, program
from running_helpers import as_program, make_topology
from starved import disk

from testbed.kernel import netns, processes
from testbed.launch.client import Launcher, LauncherGone
from testbed.rundir import RunDir
from testbed.running import lifecycle

WaitUntil = Callable[..., None]

pytestmark = pytest.mark.usefixtures("root")

TESTBED = (sys.executable, "-m", "testbed")
TAP = (
    "import os, fcntl, socket, struct, signal\n"
    "tap = os.open('/dev/net/tun', os.O_RDWR)\n"
    "fcntl.ioctl(tap, 0x400454CA, struct.pack('16sH22x', b'tap0', 0x1002))\n"
    "s = socket.socket(); fcntl.ioctl(s, 0x8914, struct.pack('16sh22x', b'tap0', 1))\n"
    "print('made', flush=True); signal.pause()\n"
)
"""A program that makes its TAP, sets it up, and stays."""


# -- a disk that is full


@pytest.fixture
def small_disk(run_dir: Path) -> Iterator[Path]:
    """Room for one testbed and not much more."""
    with disk(run_dir, "size=600k"):
        yield run_dir


def fill(place: Path) -> None:
    """Leave no byte on the disk."""
    with (place / "filler").open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    assert os.statvfs(place).f_bavail == 0


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_and_a_death_end_no_other_node(
    run_dir: Path, run: RunDir, launcher: Launcher, there: str
) -> None:
    launcher.start([program("n", there), program("m", there)], restart=True)
    before = launcher.wait(all_in("ready"), 5)
    fill(run_dir)
    os.kill(before.nodes["n"].pid, signal.SIGKILL)
    again = launcher.wait(lambda nodes: nodes["n"].restarts == 1 and nodes["n"].alive, 5)
    assert again.pid == before.pid
    assert again.nodes["m"].pid == before.nodes["m"].pid
    (run_dir / "filler").unlink()
    launcher.shutdown()


@pytest.mark.usefixtures("small_disk")
def test_up_says_that_a_node_has_filled_the_disk(run_dir: Path, testbed_name: str) -> None:
    made = make_topology(testbed_name, ["rsu", "a"], links=[("rsu", "a")])
    rsu, a = made.nodes
    topology = replace(made, nodes=(rsu, as_program(a, "sh", "-c", "yes; exit 3")))
    with lifecycle.up(topology, wait_s=3) as running:
        assert running.report is not None
        told = {one.node: one.why for one in running.report.not_ready}
        if not told:  # it had not ended yet
            running.launcher.wait(lambda nodes: not nodes["a"].alive, 5)
        else:
            assert "exited with status 3" in told["a"]
            assert f"no space is left on the disk of {running.run.path}" in told["a"]
        assert running.status()["rsu"].alive
    assert lifecycle.down(testbed_name).remaining == ()


# -- a node that cannot be watched or started


def test_a_log_that_goes_away_is_the_failure_of_its_node_alone(
    run: RunDir, launcher: Launcher, there: str
) -> None:
    launcher.start(
        [program("n", there, ready_log="never", ready_within_s=0.5), program("m", there)]
    )
    run.node_log("n").unlink()
    nodes = launcher.wait(lambda nodes: not nodes["n"].alive, 5).nodes
    assert nodes["n"].error is not None
    assert nodes["n"].error.startswith("not ready within 0.5 s: it cannot be seen: ")
    assert "No such file or directory" in nodes["n"].error
    assert nodes["m"].alive


def test_a_namespace_whose_name_goes_away_is_the_failure_of_its_node_alone(
    run: RunDir, launcher: Launcher, there: str, wait_until: WaitUntil
) -> None:
    """Before its TAP, which has been made, could be given its addresses."""
    go = run.path / "go"
    script = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)\n{TAP}"
    one = program(
        *("n", there, sys.executable, "-S", "-c", script),
        tap="tap0",
        addresses=("10.1.1.1/24",),
        ready_within_s=3.0,
    )
    launcher.start([one, program("m", there)])
    launcher.wait(lambda nodes: nodes["m"].state == "ready", 5)
    inode = netns.inode_of(there)
    assert inode
    netns.remove(there, inode)
    try:
        go.touch()
        wait_until(lambda: "made" in run.node_log("n").read_text())
        nodes = launcher.wait(lambda nodes: not nodes["n"].alive, 10).nodes
    finally:
        go.unlink()
    assert nodes["n"].error is not None
    assert "it cannot be seen: " in nodes["n"].error
    assert there in nodes["n"].error
    assert nodes["m"].alive


def test_a_restart_for_which_something_lacks_is_tried_again(
    run: RunDir, there: str, wait_until: WaitUntil
) -> None:
    """Here a thread, by which the launcher looks into the namespace: there is no room for one."""
    lacking = run.path / "lacking"
    # As where pids.max is used up.
    preamble = (
        "import os, threading\n"
        "begin = threading.Thread.start\n"
        "def start(self):\n"
        f'    if os.path.exists({str(lacking)!r}): raise RuntimeError("can\'t start new thread")\n'
        "    begin(self)\n"
        "threading.Thread.start = start\n"
    )
    with by_hand(run, preamble, wait_until) as launcher:
        one = program("n", there, sys.executable, "-S", "-c", TAP, tap="tap0")
        launcher.start([one, program("m", there)], restart=True)
        first = launcher.wait(all_in("ready"), 5)
        lacking.touch()
        os.kill(first.nodes["n"].pid, signal.SIGKILL)
        log = run.node_log("n")
        wait_until(lambda: "n could not be started: no further thread" in log.read_text())
        now = launcher.snapshot()
        assert (now.pid, now.nodes["m"].pid) == (first.pid, first.nodes["m"].pid)
        lacking.unlink()
        assert launcher.wait(all_in("ready"), 10).nodes["n"].state == "ready"
        launcher.shutdown()


# -- the launcher


_BE_IT = "sys.exit(one.main(sys.argv[1:]))"


@contextmanager
def by_hand(run: RunDir, before: str, wait_until: WaitUntil) -> Iterator[Launcher]:
    """A launcher that executes some Python first; it is to be shut down."""
    nonce = json.loads(run.journal.read_text().splitlines()[0])["nonce"]
    with (
        run.launcher_log.open("ab") as log,
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"{before}import sys; from testbed.launch import launcher as one\n{_BE_IT}",
                str(run.path),
            ],
            env=os.environ | {processes.MARK_VARIABLE: processes.mark(run.path, nonce)},
            stderr=log,
        ) as process,
    ):
        try:
            wait_until(run.launcher_socket.exists, 20)
            with Launcher.connect(run) as launcher:
                yield launcher
            assert process.wait(20) == 0
        finally:
            process.kill()


def test_what_should_never_happen_is_noted_and_ends_nothing(
    run: RunDir, wait_until: WaitUntil
) -> None:
    failing = (
        "from testbed.launch import nodes\n"
        "tend, left = nodes.Nodes.tend, [5]\n"
        "def failing(self):\n"
        "    left[0] -= 1\n"
        "    if left[0] >= 0: raise RuntimeError('out of the blue')\n"
        "    tend(self)\n"
        "nodes.Nodes.tend = failing\n"
    )
    with by_hand(run, failing, wait_until) as launcher:
        for _ in range(5):
            assert launcher.status() == {}
        launcher.shutdown()
    said = run.launcher_log.read_text()
    assert said.count("RuntimeError: out of the blue") == 5
    assert "this should not happen" in said


def test_who_asks_one_that_is_gone_is_told_which_and_why(
    run: RunDir, launcher: Launcher, wait_until: WaitUntil
) -> None:
    os.kill(launcher.snapshot().pid, signal.SIGKILL)
    wait_until(lambda: not processes.find_marked(run.path))
    for _ in range(2):
        with pytest.raises(LauncherGone) as caught:
            launcher.status()
        said = str(caught.value)
        assert said.startswith(f"testbed {run.name}: its launcher has ended, and its nodes with it")
        assert f"`testbed down {run.name}` removes" in said
    with pytest.raises(LauncherGone, match=f"^testbed {run.name}: no launcher answers"):
        Launcher.connect(run)


def test_who_asks_one_that_hangs_is_told_for_how_long(run: RunDir, launcher: Launcher) -> None:
    pid = launcher.snapshot().pid
    os.kill(pid, signal.SIGSTOP)
    try:
        with (
            Launcher.connect(run, answer_s=0.2) as other,
            pytest.raises(LauncherGone, match=f"{run.name}: .* has not answered for 0.2 s"),
        ):
            other.status()
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_testbed_that_is_taken_down_meanwhile_is_named(run_dir: Path, testbed_name: str) -> None:
    topology = make_topology(testbed_name, ["rsu", "a"], links=[("rsu", "a")])
    with lifecycle.up(topology) as running:
        lifecycle.down(testbed_name)
        with pytest.raises(LauncherGone) as caught:
            running.status()
    assert str(caught.value) == (
        f"testbed {testbed_name} is no more: another command has taken it down"
    )


def test_a_run_whose_launcher_is_killed_says_so(
    run_dir: Path, tmp_path: Path, wait_until: WaitUntil
) -> None:
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text(
        "name: killed\ntopology: pair\nmeasure:\n  relay: {node: obu1, path: relay}\n"
        "traffic:\n  loads: {medium: 2kpps}\nvariants:\n"
        "  single: {baseline: true, engine: per-packet, handler: per-packet, batch: 1}\n"
        "  batched: {engine: mmsg, handler: batched, batch: 32}\n"
        "repeats: 20\ntrial: 1s\nwarm_up: 50ms\n"
    )
    with subprocess.Popen(
        (*TESTBED, "run", str(scenario), "--output", str(tmp_path / "output")),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        wait_until(lambda: any(d.joinpath("launcher.sock").exists() for d in run_dir.iterdir()), 60)
        name = next(d.name for d in run_dir.iterdir() if d.joinpath("launcher.sock").exists())
        with Launcher.connect(RunDir(run_dir / name)) as launcher:
            launcher.wait(lambda nodes: bool(nodes) and all_in("ready")(nodes), 30)
            os.kill(launcher.snapshot().pid, signal.SIGKILL)
        _, said = command.communicate(timeout=100)
    assert command.returncode == 1
    last = said.splitlines()[-1]
    ways = ("its launcher has ended, and its nodes with it", "no launcher answers")
    assert last.startswith(tuple(f"error: testbed {name}: {way}" for way in ways)), said
