"""What the processes of a testbed may do, while traffic flows, and what others may do to them."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from running_helpers import make_topology

from agent.linux import landlock
from agent.linux.rights import rights_of
from testbed.launch.client import Launcher
from testbed.reach.reach import reach
from testbed.running import agent_control, lifecycle
from testbed.running.lifecycle import Running
from testbed.topology.model import NodeSettings, Topology

WaitUntil = Callable[..., None]

pytestmark = pytest.mark.usefixtures("root", "run_dir")

NOBODY = 65534
SOMEBODY = 54321
ENGINES = {
    "rsu": NodeSettings(hello_periodicity_ms=500, metrics="127.0.0.1:9100"),
    "a": NodeSettings(engine_wire="per-packet", engine_tap="per-packet", handler="per-packet"),
    "b": NodeSettings(engine_wire="xsk", metrics="127.0.0.1:9100"),
    "c": NodeSettings(engine_wire="ring", engine_tap="uring"),
    "d": NodeSettings(engine_wire="uring", engine_tap="uring"),
}
"""Every way to hold descriptors, rings and threads."""


def cell(name: str) -> Topology:
    names = list(ENGINES)
    made = make_topology(name, names, segments=[names], command=None)
    return replace(
        made, nodes=tuple(replace(node, settings=ENGINES[node.name]) for node in made.nodes)
    )


@contextmanager
def traffic(topology: Topology) -> Iterator[None]:
    """Pings between all nodes, meanwhile."""
    stop = threading.Event()

    def ping() -> None:
        while not stop.is_set():
            reach(topology, rounds=1, timeout_s=0.2)

    thread = threading.Thread(target=ping)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def counted(running: Running) -> dict[str, Mapping[str, Any]]:
    """What those count that answer in time."""
    told = agent_control.ask_stats(running.run, list(ENGINES))
    return {name: one.stats for name, one in told.items() if one.stats is not None}


def frames(running: Running) -> dict[str, int]:
    return {name: stats["wire"]["rx_frames"] for name, stats in counted(running).items()}


def root_mount(pid: int) -> str:
    """The mount that a process has for its root."""
    descriptor = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_CLOEXEC)
    try:
        about = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
    finally:
        os.close(descriptor)
    return next(line.split()[1] for line in about.splitlines() if line.startswith("mnt_id:"))


def test_the_root_of_every_agent_is_one_without_user_namespaces_while_traffic_flows(
    testbed_name: str, wait_until: WaitUntil
) -> None:
    topology = cell(testbed_name)
    mounts = Path("/proc/self/mountinfo").read_text
    with lifecycle.up(topology) as running, traffic(topology):
        told = counted(running)
        assert set(told) == set(ENGINES)
        assert {stats["user_namespaces"] for stats in told.values()} == {"refused"}
        outside = {line.split()[0] for line in mounts().splitlines()}
        assert root_mount(os.getpid()) in outside
        for name, node in running.status().items():
            assert root_mount(node.pid) not in outside, name
            # It looks like the one outside, and the namespace of mounts is the one outside.
            assert os.path.samestat(os.stat(f"/proc/{node.pid}/root"), os.stat("/")), name
            assert os.path.samestat(
                os.stat(f"/proc/{node.pid}/ns/mnt"), os.stat("/proc/self/ns/mnt")
            ), name
            assert os.readlink(f"/proc/{node.pid}/cwd") == str(running.run.node(name))
        before = frames(running)
        wait_until(
            lambda: all(now > before[name] + 5 for name, now in frames(running).items()),
            timeout=20,
            what="traffic flows through all",
        )
        again = running.restart("a")
        assert again.state == "ready"
        assert root_mount(again.pid) not in outside
        launcher = running.launcher.snapshot().pid
        assert root_mount(launcher) in outside
    lifecycle.down(testbed_name)
    assert testbed_name not in mounts()


def test_every_thread_of_every_agent_is_nobody_without_rights_while_traffic_flows(
    testbed_name: str, wait_until: WaitUntil
) -> None:
    topology = cell(testbed_name)
    with lifecycle.up(topology) as running, traffic(topology):
        assert running.report is not None
        assert running.report.not_ready == ()
        before = frames(running)
        assert set(before) == set(ENGINES)
        wait_until(
            lambda: all(now > before[name] + 5 for name, now in frames(running).items()),
            timeout=20,
            what="traffic flows through all",
        )
        for name, node in running.status().items():
            threads = [int(tid) for tid in os.listdir(f"/proc/{node.pid}/task")]
            assert len(threads) >= (2 if ENGINES[name].metrics != "off" else 1)
            for thread in threads:
                left = rights_of(thread)
                assert left.none_left, name
                assert left.uids == left.gids == (NOBODY,) * 4, name
                assert left.groups == (), name
        confined = {stats["landlock"] for stats in counted(running).values()}
        assert confined == {landlock.version() or None}
        after = frames(running)
        wait_until(
            lambda: all(now > after[name] for name, now in frames(running).items()),
            timeout=20,
            what="traffic still flows",
        )
    lifecycle.down(testbed_name)


REACH = """
import os, signal, socket, sys
uid, run, socket_path, pid = sys.argv[1:]
os.setgroups([])
os.setresgid(int(uid), int(uid), int(uid))
os.setresuid(int(uid), int(uid), int(uid))
def tried(what, action):
    try:
        action()
    except PermissionError:
        return
    print("reached:", what)
tried("run directory", lambda: os.listdir(run))
tried("socket", lambda: socket.socket(socket.AF_UNIX).connect(socket_path))
if uid != "65534":  # who is the agents' own user may signal them
    tried("signal", lambda: os.kill(int(pid), 0))
tried("descriptors", lambda: os.listdir(f"/proc/{pid}/fd"))
tried("memory", lambda: open(f"/proc/{pid}/mem", "rb"))
tried("namespace", lambda: os.readlink(f"/proc/{pid}/ns/net"))
"""


@pytest.mark.parametrize("uid", [NOBODY, SOMEBODY])
def test_nobody_else_reaches_sockets_files_or_processes(
    testbed_name: str, run_dir: Path, uid: int
) -> None:
    """Not even a program that runs as the agents' own user."""
    run_dir.chmod(0o755)  # so that it is the testbed's own directory that keeps others out
    topology = make_topology(testbed_name, ["rsu", "a"], links=[("rsu", "a")], command=None)
    with lifecycle.up(topology) as running:
        run = running.run
        agent = running.status()["a"].pid
        for path, pid in (
            (run.control_socket("a"), agent),
            (run.launcher_socket, running.launcher.snapshot().pid),
        ):
            mode = path.stat()
            assert stat.S_ISSOCK(mode.st_mode)
            assert (stat.S_IMODE(mode.st_mode), mode.st_uid) == (0o600, 0)
            got = subprocess.run(
                [sys.executable, "-c", REACH, str(uid), str(run.path), str(path), str(pid)],
                capture_output=True,
                text=True,
                check=False,
            )
            assert (got.stdout, got.stderr, got.returncode) == ("", "", 0)
        assert stat.S_IMODE(run.path.stat().st_mode) == 0o700
        assert stat.S_IMODE(run.node("a").stat().st_mode) == 0o700
        # A node cannot put anything in place of what the launcher opens as root.
        assert run.node_log("a").stat().st_uid == 0
        assert run.node_log("a").parent.stat().st_uid == 0
        with Launcher.connect(run) as launcher:
            assert launcher.status()["a"].alive
    lifecycle.down(testbed_name)


def test_no_address_of_a_node_is_reached_from_outside(testbed_name: str) -> None:
    topology = make_topology(testbed_name, ["rsu", "a"], links=[("rsu", "a")], command=None)
    before = {link for _, link in socket.if_nameindex()}
    with lifecycle.up(topology):
        assert {link for _, link in socket.if_nameindex()} <= before
        routes = subprocess.check_output(["ip", "route", "show", "table", "all"], text=True)
        assert str(topology.prefix4) not in routes
    lifecycle.down(testbed_name)
