"""The launcher, with programs that stand in for nodes, and with agents."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import fuzzing
import pytest
from launching import STUBBORN, all_in, program, start

from testbed.kernel import netns, processes
from testbed.launch import spawning
from testbed.launch.client import Launcher, LauncherError, LauncherGone, NodeStatus
from testbed.rundir import RunDir

WaitUntil = Callable[..., None]

pytestmark = pytest.mark.usefixtures("root")


def test_a_program_runs_in_its_namespace_and_leaves_when_told(
    run: RunDir, launcher: Launcher, there: str
) -> None:
    launcher.start([program("n", there)])
    node = launcher.wait(all_in("ready"), 5).nodes["n"]
    assert node.state == "ready"
    inode = os.stat(f"/proc/{node.pid}/ns/net").st_ino
    assert inode == netns.inode_of(there)
    assert processes.start_ticks(node.pid) == node.start_ticks
    assert os.getsid(node.pid) == node.pid
    assert node.pid in {marked.pid for marked in processes.find_marked(run.path)}
    left = launcher.stop(["n"]).nodes["n"]
    assert (left.state, left.exit_status, left.asked) == ("exited", -signal.SIGTERM, True)
    assert not Path(f"/proc/{node.pid}").exists()


def test_what_it_prints_is_in_its_log(run: RunDir, launcher: Launcher, there: str) -> None:
    launcher.start([program("n", there, "sh", "-c", "echo out; echo err >&2; pwd; exit 3")])
    node = launcher.wait(all_in("exited"), 5).nodes["n"]
    assert (node.exit_status, node.asked) == (3, False)
    assert run.node_log("n").read_text().splitlines() == ["out", "err", str(run.node("n"))]


def test_only_its_own_descriptors_and_default_signals(
    run: RunDir, launcher: Launcher, there: str
) -> None:
    script = """import os
print(sorted(os.listdir("/proc/self/fd")))
print(open("/proc/self/status").read())"""
    launcher.start([program("n", there, sys.executable, "-S", "-c", script)])
    launcher.wait(all_in("exited"), 5)
    first, *status = run.node_log("n").read_text().splitlines()
    assert first == "['0', '1', '2', '3']"  # 3 is the listing's own
    masks = dict(line.split(":\t") for line in status if line.startswith(("SigBlk", "SigIgn")))
    # Python itself ignores SIGPIPE (13) and SIGXFSZ (25).
    assert int(masks["SigBlk"], 16) == 0
    assert int(masks["SigIgn"], 16) & ~(1 << 12 | 1 << 24) == 0


def test_a_program_that_is_not_there_says_so(run: RunDir, launcher: Launcher, there: str) -> None:
    launcher.start([program("n", there, "/no/such/program")])
    node = launcher.wait(all_in("exited"), 5).nodes["n"]
    assert node.exit_status == 127
    assert node.error == "/no/such/program: No such file or directory"


def test_a_namespace_that_is_not_there_ends_the_node(
    run: RunDir, launcher: Launcher, there: str
) -> None:
    launcher.start([program("n", there + "x")])
    node = launcher.wait(all_in("exited"), 5).nodes["n"]
    assert node.exit_status == 70
    assert "FileNotFoundError" in (run.last_log_line("n") or "")


def test_whoever_does_not_leave_is_killed_with_its_children(
    run: RunDir, launcher: Launcher, there: str, wait_until: WaitUntil
) -> None:
    child = f"{STUBBORN[0]} -S -c '{STUBBORN[3]}' & {STUBBORN[0]} -S -c '{STUBBORN[3]}'"
    launcher.start([program("n", there, "sh", "-c", f"trap '' TERM; {child}")])
    wait_until(lambda: run.node_log("n").read_text().count("here") == 2)
    begun = time.monotonic()
    node = launcher.stop(["n"], timeout_s=0.2).nodes["n"]
    assert node.exit_status == -signal.SIGKILL
    assert 0.2 <= time.monotonic() - begun < 5
    launcher_pid = launcher.snapshot().pid
    wait_until(lambda: {m.pid for m in processes.find_marked(run.path)} == {launcher_pid})


def test_environment_and_pinning(run: RunDir, launcher: Launcher, there: str) -> None:
    cpu = sorted(os.sched_getaffinity(0))[0]
    script = "import os; print(os.environ['GREETING'], os.sched_getaffinity(0))"
    launcher.start(
        [
            program(
                "n", there, sys.executable, "-S", "-c", script, env={"GREETING": "hi"}, cpus=(cpu,)
            )
        ]
    )
    launcher.wait(all_in("exited"), 5)
    assert run.node_log("n").read_text() == f"hi {{{cpu}}}\n"


def test_nodes_have_the_same_environment_whoever_starts_them(
    run: RunDir, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a shell has besides, such as keys, reaches neither launcher nor agents nor programs."""
    monkeypatch.setenv("LEAKED_SECRET", "s3cret")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("LC_TIME", "C")
    monkeypatch.setenv("TESTBED_FOR_A_TEST", "yes")
    monkeypatch.setenv("TESTBED_NODE", "another")
    with start(run) as launcher:
        script = "import json, os; print(json.dumps(dict(os.environ)))"
        own = {"GREETING": "hi"}
        launcher.start([program("n", there, sys.executable, "-S", "-c", script, env=own)])
        launcher.wait(all_in("exited"), 5)
        told = json.loads(run.node_log("n").read_text())
        environ = Path(f"/proc/{launcher.snapshot().pid}/environ").read_bytes().decode()
        launchers = dict(one.split("=", 1) for one in environ.split("\0") if one)
        launcher.shutdown()
    assert told.keys() - launchers.keys() == {"GREETING", "TESTBED_NODE"}
    assert told["TESTBED_NODE"] == "n"
    for seen in (told, launchers):
        assert "LEAKED_SECRET" not in seen
        assert (seen["LC_TIME"], seen["TESTBED_FOR_A_TEST"]) == ("C", "yes")
        assert seen["OMP_NUM_THREADS"] == "1"
        assert seen["PATH"] == os.environ["PATH"]
    known = spawning.PASSED_ON | {f"{name}_NUM_THREADS" for name in ("OMP", "MKL", "OPENBLAS")}
    others = {name for name in launchers if not name.startswith(spawning.PASSED_ON_PREFIXES)}
    assert others <= known


def test_nobody_starts_twice_but_anybody_again(launcher: Launcher, there: str) -> None:
    launcher.start([program("n", there)])
    with pytest.raises(LauncherError, match="already running: n"):
        launcher.start([program("n", there)])
    first = launcher.wait(all_in("ready"), 5).nodes["n"].pid
    launcher.stop(["n"])
    launcher.start([program("n", there)])
    assert launcher.wait(all_in("ready"), 5).nodes["n"].pid != first


def test_a_death_is_seen_at_once(launcher: Launcher, there: str) -> None:
    launcher.start([program("n", there), program("m", there)])
    nodes = launcher.wait(all_in("ready"), 5).nodes
    os.kill(nodes["n"].pid, signal.SIGKILL)
    begun = time.monotonic()
    after = launcher.wait(lambda now: now["n"].state == "exited", 5).nodes
    assert time.monotonic() - begun < 1
    assert (after["n"].exit_status, after["n"].asked) == (-signal.SIGKILL, False)
    assert after["m"].state == "ready"


def test_it_forgets_only_who_left(launcher: Launcher, there: str) -> None:
    launcher.start([program("n", there), program("m", there)])
    launcher.stop(["m"])
    launcher.forget(["n", "m"])
    assert set(launcher.status()) == {"n"}


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"nonsense\n",
        b"[]\n",
        b"{}\n",
        b'{"cmd":"fly"}\n',
        b'{"cmd":"start","specs":[{}]}\n',
        b'{"cmd":"stop","names":["n"],"timeout_s":"soon"}\n',
        b"\xff\xfe\n",
        b"[" * 60_000 + b"\n",
        b'{"cmd":' * 60_000 + b"\n",
        b'{"cmd":["stop"],"names":null,"timeout_s":1}\n',
        b'{"cmd":"stop","names":["x"],"timeout_s":NaN}\n',
        b'{"cmd":"stop","names":["x"],"timeout_s":true}\n',
        b'{"cmd":"watch","serial":-1,"timeout_s":1e999}\n',
        b'{"cmd":"watch","serial":1e999,"timeout_s":1}\n',
        b'{"cmd":"shutdown","timeout_s":-1}\n',
        b'{"cmd":"forget","names":[["n"]]}\n',
    ],
)
def test_bad_requests_are_answered_and_harm_nobody(
    run: RunDir, launcher: Launcher, there: str, line: bytes
) -> None:
    launcher.start([program("n", there)])
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(str(run.launcher_socket))
        sock.sendall(line)
        assert "error" in json.loads(sock.recv(4096))
    assert launcher.wait(all_in("ready"), 5).nodes["n"].alive


@pytest.mark.parametrize(
    "values",
    [
        {"argv": []},
        {"argv": [1]},
        {"env": {"A": 1}},
        {"env": {"A": "nothing\0more"}},
        {"stop": "SIGNOTHING"},
        {"stop": ["SIGTERM"]},
        {"ready_within_s": "soon"},
        {"ready_within_s": float("nan")},
        {"ready_log": "("},
        {"user": 5},
    ],
    ids=str,
)
def test_what_cannot_be_a_node_is_refused_before_it_is_started(
    run: RunDir, launcher: Launcher, there: str, values: dict[str, object]
) -> None:
    launcher.start([program("n", there)])
    spec = program("bad", there).to_json()
    for bad in ({**spec, "program": {**spec["program"], **values}}, {**spec, "name": "../bad"}):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(str(run.launcher_socket))
            request = {"cmd": "start", "specs": [bad], "restart": True}
            sock.sendall(json.dumps(request).encode() + b"\n")
            assert "error" in json.loads(sock.recv(4096))
    assert set(launcher.wait(all_in("ready"), 5).nodes) == {"n"}
    launcher.shutdown()


def test_whatever_is_said_to_it_harms_nobody(
    run: RunDir, launcher: Launcher, there: str, seed: int
) -> None:
    launcher.start([program("n", there)])
    before = launcher.wait(all_in("ready"), 5)
    chance = random.Random(seed)
    for _ in range(100):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(str(run.launcher_socket))
            for _ in range(20):
                sock.sendall(fuzzing.line(chance, fuzzing.REQUESTS))
    after = launcher.snapshot()
    assert (after.pid, after.nodes["n"].pid) == (before.pid, before.nodes["n"].pid)
    assert "should not happen" not in run.launcher_log.read_text()


def test_one_that_asks_without_end_keeps_nobody_waiting(
    run: RunDir, launcher: Launcher, there: str
) -> None:
    """It asks for more than it ever reads, which fills whatever holds answers."""
    launcher.start([program("n", there)])
    script = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "while True: s.sendall(sys.argv[2].encode() * 1000 + b'\\n')\n"
    )
    for text in ('{"cmd":"status"}\n', "no request at all, and no end of a line either"):
        with subprocess.Popen(
            [sys.executable, "-S", "-c", script, str(run.launcher_socket), text],
            stderr=subprocess.DEVNULL,
        ) as asking:
            slowest_s = 0.0
            for _ in range(50):
                begun = time.monotonic()
                assert launcher.status()["n"].alive
                slowest_s = max(slowest_s, time.monotonic() - begun)
                time.sleep(0.01)
            asking.kill()
        assert slowest_s < 1.0


def test_clients_that_die_harm_nobody(
    run: RunDir, launcher: Launcher, there: str, wait_until: WaitUntil
) -> None:
    launcher.start([program("n", there, *STUBBORN)])
    wait_until(lambda: "here" in run.node_log("n").read_text())
    for line in (
        b'{"cmd":"sta',
        b'{"cmd":"status"}\n' * 1000,
        b'{"cmd":"watch","serial":-1,"timeout_s":60}\n',
        b'{"cmd":"stop","names":["n"],"timeout_s":30}\n',
    ):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(run.launcher_socket))
        sock.sendall(line)
        sock.close()
    assert launcher.status()["n"].alive
    assert launcher.stop(["n"], timeout_s=0).nodes["n"].exit_status == -signal.SIGKILL


def test_only_root_can_ask(run: RunDir, launcher: Launcher) -> None:
    assert run.launcher_socket.stat().st_mode & 0o777 == 0o600
    assert run.path.stat().st_mode & 0o777 == 0o700


def test_shutdown_ends_all_and_itself(
    run: RunDir, launcher: Launcher, there: str, wait_until: WaitUntil
) -> None:
    launcher.start([program("n", there), program("m", there, *STUBBORN)])
    launcher.wait(all_in("ready"), 5)
    launcher.shutdown(timeout_s=0.2)
    wait_until(lambda: not processes.find_marked(run.path))
    assert not run.launcher_socket.exists()
    with pytest.raises(LauncherGone, match="no launcher answers"):
        Launcher.connect(run)


def test_sigterm_is_a_shutdown(
    run: RunDir, launcher: Launcher, there: str, wait_until: WaitUntil
) -> None:
    launcher.start([program("n", there)])
    os.kill(launcher.snapshot().pid, signal.SIGTERM)
    wait_until(lambda: not processes.find_marked(run.path))


def test_its_nodes_do_not_outlive_it(
    run: RunDir, launcher: Launcher, there: str, wait_until: WaitUntil
) -> None:
    launcher.start([program("n", there), program("m", there)])
    launcher.wait(all_in("ready"), 5)
    os.kill(launcher.snapshot().pid, signal.SIGKILL)
    wait_until(lambda: not processes.find_marked(run.path))
    with pytest.raises(LauncherGone):
        launcher.status()


def test_it_is_nobodys_child_and_outlives_who_started_it(run: RunDir) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from launching import start\n"
        "from testbed.rundir import RunDir\n"
        "start(RunDir(Path(sys.argv[2]))).close()\n"
    )
    here = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-c", script, here, str(run.path)], check=True, timeout=60)
    with Launcher.connect(run) as launcher:
        pid = launcher.snapshot().pid
    # Init, or whoever adopts orphans here, but nobody of ours.
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert parent != os.getpid()
    assert parent not in {marked.pid for marked in processes.find_marked(run.path)}


def test_it_loads_nothing_that_an_agent_does_not_need() -> None:
    """Every node carries in memory what the launcher has loaded."""
    script = (
        "import sys; from testbed.launch import child, launcher; child.preload()\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60
    ).stdout.split()
    assert "numpy" in loaded
    heavy = {"pydantic", "pyroute2", "rich", "scipy", "scapy", "click", "yaml", "asyncio"}
    assert heavy & set(loaded) == set()


def test_it_does_not_start_in_the_directory_of_a_later_testbed(run: RunDir) -> None:
    spawned = spawning.spawn(run, "another-nonce")
    try:
        with pytest.raises(LauncherGone, match="removed before its launcher was ready"):
            spawned.connect()
    finally:
        spawned.close()


def test_one_that_cannot_start_says_why(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    spawned = spawning.spawn(run, "nonce")
    try:
        with pytest.raises(LauncherGone, match="ended before it was ready"):
            spawned.connect()
    finally:
        spawned.close()


def test_who_waits_for_news_is_answered_when_it_ends(run: RunDir, launcher: Launcher) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(run.launcher_socket))
        serial = launcher.snapshot().serial
        request = {"cmd": "watch", "serial": serial, "timeout_s": 60}
        sock.sendall(json.dumps(request).encode() + b"\n")
        # Asked in turn, so the launcher has taken the request above in when this is answered.
        launcher.snapshot()
        begun = time.monotonic()
        launcher.shutdown(timeout_s=0.2)
        assert time.monotonic() - begun < 5
        assert json.loads(sock.recv(4096))["ok"]


def kill(launcher: Launcher) -> NodeStatus:
    """Kill the node; its status once the launcher has seen that."""
    node = launcher.status()["n"]
    os.kill(node.pid, signal.SIGKILL)
    return launcher.wait(lambda nodes: nodes["n"].pid != node.pid or not nodes["n"].alive, 5).nodes[
        "n"
    ]


def test_a_node_that_is_killed_is_started_again(
    run: RunDir, launcher: Launcher, there: str
) -> None:
    launcher.start([program("n", there)], restart=True)
    first = launcher.wait(all_in("ready"), 5).nodes["n"]
    died = kill(launcher)
    if not died.alive:  # on a busy machine nobody may have seen it dead
        assert (died.state, died.exit_status) == ("exited", -signal.SIGKILL)
        assert died.restart_at_ns is not None
    again = launcher.wait(all_in("ready"), 5).nodes["n"]
    assert again.pid != first.pid
    assert (again.restarts, again.ended_before) == (1, -signal.SIGKILL)
    assert again.restart_at_ns is None
    said = run.node_log("n").read_text()
    assert "n was killed by SIGKILL; started again in 0.25 s (1 of 8 in a row)" in said


def test_a_node_that_keeps_failing_is_started_until_it_is_stopped(
    run: RunDir, launcher: Launcher, there: str
) -> None:
    launcher.start([program("n", there, "sh", "-c", "exit 3")], restart=True)
    launcher.wait(lambda nodes: nodes["n"].restarts >= 3 and not nodes["n"].alive, 10)
    assert "n ended with status 3; started again in 0.5 s (2 of 8" in run.node_log("n").read_text()
    stopped = launcher.stop(["n"]).nodes["n"]
    assert (stopped.state, stopped.asked, stopped.restart_at_ns) == ("exited", True, None)
    launcher.start([program("n", there)])
    node = launcher.wait(all_in("ready"), 5).nodes["n"]
    assert (node.restarts, node.ended_before) == (0, None)


def test_a_launcher_that_is_told_to_leave_starts_nothing_again(
    run: RunDir, launcher: Launcher, there: str
) -> None:
    launcher.start([program("n", there)], restart=True)
    kill(launcher)
    launcher.shutdown()
    assert processes.find_marked(run.path) == []


@pytest.mark.parametrize(
    ("command", "restart"),
    [("exit 0", True), ("exit 3", False), (None, True)],
    ids=["ended well", "not wanted", "never worked"],
)
def test_not_every_node_that_ends_is_started_again(
    launcher: Launcher, there: str, command: str | None, restart: bool
) -> None:
    arguments = ("/no/such/program",) if command is None else ("sh", "-c", command)
    launcher.start([program("n", there, *arguments)], restart=restart)
    node = launcher.wait(all_in("exited"), 5).nodes["n"]
    assert (node.restarts, node.restart_at_ns) == (0, None)
