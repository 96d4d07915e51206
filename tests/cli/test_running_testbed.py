"""The commands on a testbed that runs: what they print, and how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TESTBED = (sys.executable, "-m", "testbed")
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def run(
    *arguments: str, given: str | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (*TESTBED, *arguments),
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


@pytest.fixture
def pair(root: None, run_dir: Path, testbed_name: str) -> Iterator[str]:
    """A pair that is up, by name."""
    done = run("up", "pair", "-n", testbed_name)
    try:
        assert done.returncode == 0, done.stderr
        yield testbed_name
    finally:
        run("down", "--all")


def namespaces(name: str) -> list[str]:
    folder = Path("/run/netns")
    return [one for one in os.listdir(folder) if f".{name}." in one] if folder.is_dir() else []


def test_up_says_how_long_each_phase_took(root: None, run_dir: Path, testbed_name: str) -> None:
    try:
        done = run("up", "pair", "-n", testbed_name, "--format", "json")
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["name"] == testbed_name
        assert {"namespaces", "joining"} <= {phase["name"] for phase in report["phases"]}
        assert report["not_ready"] == []
        assert f"{testbed_name} is up" in done.stderr
    finally:
        run("down", "--all")
    assert namespaces(testbed_name) == []


def test_up_again_changes_nothing_and_another_file_only_the_difference(pair: str) -> None:
    again = json.loads(run("up", "pair", "-n", pair, "--format", "json").stdout)
    assert again["reconciled"]
    assert again["made"] == again["removed"] == 0
    plan = run("up", "pair", "-n", pair, "--dry-run")
    assert (plan.returncode, plan.stdout) == (0, "")
    assert plan.stderr == f"nothing to do: {pair} is up as the file has it\n"
    planned = json.loads(run("up", "line", "-n", pair, "--dry-run", "--format", "json").stdout)
    assert "netns/obu1" not in {step["key"] for step in planned}
    assert {"netns/obu2", "netns/obu3"} <= {s["key"] for s in planned if s["do"] == "make"}
    assert run("up", "line", "-n", pair).returncode == 0
    nodes = json.loads(run("inspect", "--format", "json").stdout)["nodes"]
    assert [node["state"] for node in nodes] == ["ready"] * 4


def test_a_dry_run_makes_nothing(root: None, run_dir: Path, testbed_name: str) -> None:
    done = run("up", "cell", "-n", testbed_name, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert f"tb.{testbed_name}.obu6" in done.stdout
    assert namespaces(testbed_name) == []
    assert list(run_dir.iterdir()) == []


def test_inspect_shows_every_node_and_its_upstream(pair: str) -> None:
    shown = run("inspect").stdout
    assert "ready" in shown
    view = json.loads(run("inspect", "-n", pair, "--format", "json").stdout)
    (obu,) = (node for node in view["nodes"] if node["name"] == "obu1")
    assert obu["upstream"] == {"node": "rsu1", "rsu": "rsu1", "hops": 1}
    one = json.loads(run("inspect", "obu1", "--format", "json").stdout)
    assert one["pid"] == obu["pid"]
    shown = run("inspect", "obu1").stdout
    assert f"tb.{pair}.obu1" in shown
    assert "system call" not in shown
    shown = run("inspect", "obu1", "--stats").stdout
    assert {"system call", "batches", "wake-ups", "heartbeat"} <= set(
        shown.replace("  ", "\n").split("\n")
    )
    assert run("inspect", "--stats").returncode == 2
    (summary,) = json.loads(run("inspect", "--all", "--format", "json").stdout)
    assert (summary["name"], summary["ready"], summary["joined"]) == (pair, 2, 1)


def obu1_once(wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What `inspect` says of obu1, as soon as it is what is wanted."""
    deadline = time.monotonic() + 10
    while True:
        node: dict[str, Any] = json.loads(run("inspect", "obu1", "--format", "json").stdout)
        if wanted(node):
            return node
        assert time.monotonic() < deadline, node


def test_an_agent_that_dies_is_started_again_and_that_is_seen(pair: str) -> None:
    before = obu1_once(lambda node: node["state"] == "ready")
    os.kill(before["pid"], signal.SIGKILL)
    after = obu1_once(lambda node: bool(node["restarts"]) and node["upstream"] is not None)
    assert (after["state"], after["why"], after["restarts"]) == ("ready", None, 1)
    assert after["pid"] != before["pid"]
    assert "restarts" in run("inspect").stdout
    assert "restarts" in run("inspect", "obu1").stdout
    assert "launcher: obu1 was killed by SIGKILL; started again in" in run("logs", "obu1").stdout


def test_an_agent_that_is_not_to_be_started_again_is_seen_dead(pair: str) -> None:
    run("down", pair)
    assert run("up", "pair", "-n", pair, "--no-restart").returncode == 0
    os.kill(obu1_once(lambda node: True)["pid"], signal.SIGKILL)
    node = obu1_once(lambda node: bool(node["state"] != "ready"))
    assert (node["state"], node["why"]) == ("exited", "killed by SIGKILL")
    for shown in (run("inspect"), run("inspect", "obu1"), run("inspect", "--format", "json")):
        assert shown.returncode == 3
        assert "killed by SIGKILL" in shown.stdout
        assert shown.stderr == f"error: {pair} is up, but not all of it: obu1: killed by SIGKILL\n"
    assert run("inspect", "rsu1").returncode == 0


def test_a_testbed_whose_launcher_is_gone_is_not_as_it_should_be(pair: str) -> None:
    os.kill(json.loads(run("inspect", "--format", "json").stdout)["launcher_pid"], signal.SIGKILL)
    shown = run("inspect")
    assert shown.returncode == 3
    assert shown.stdout.count("its launcher is gone") == 2


@pytest.mark.parametrize("status", [0, 1, 7, 130, 255])
def test_exec_ends_with_the_exit_code_of_its_command(pair: str, status: int) -> None:
    assert run("exec", "obu1", "--", "sh", "-c", f"exit {status}").returncode == status


def test_exec_runs_in_the_node_with_its_own_streams(pair: str) -> None:
    shown = run("exec", "obu1", "--", "ls", "/sys/class/net")
    assert shown.stdout.split() == ["lo", "radio0", "tap0"]
    assert run("exec", "obu1", "cat", given="through").stdout == "through"
    # Options behind NODE are the command's, dashes or not.
    assert run("exec", "-n", pair, "obu1", "echo", "-n", "--", "-f").stdout == "-- -f"


def test_exec_reaches_the_rsu_with_the_users_own_ping(pair: str) -> None:
    for address in ("10.77.0.1", "fd77:7465:7374::1"):
        done = run("exec", "obu1", "--", "ping", "-c", "2", "-i", "0.2", "-W", "2", address)
        assert done.returncode == 0, done.stdout + done.stderr


def test_exec_of_no_such_command_or_node(pair: str) -> None:
    missing = run("exec", "obu1", "--", "no-such-command")
    assert missing.returncode == 127
    assert missing.stderr == "error: no-such-command: no such command\n"
    assert run("exec", "obu9", "--", "true").returncode == 2
    assert run("exec", "obu1").returncode == 2
    assert run("exec", "obu1", "--").returncode == 2


def test_what_exec_leaves_running_ends_with_the_testbed(pair: str) -> None:
    left = run("exec", "obu1", "--", "sh", "-c", "sleep 300 >/dev/null 2>&1 & echo $!")
    process = Path("/proc") / left.stdout.strip()
    assert process.exists()
    assert run("down").returncode == 0
    assert not process.exists() or "zombie" in (process / "status").read_text()


def test_ping_shows_a_matrix_and_ends_with_3_where_one_is_missing(pair: str) -> None:
    done = run("ping")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("from \\ to") == 2
    found = json.loads(run("ping", "-4", "--rounds", "1", "--format", "json").stdout)
    assert found["complete"]
    assert (found["families"], found["in_flight"]) == ([4], 1)
    down = ("exec", "obu1", "--", "ip", "link", "set", "tap0", "down")
    assert run(*down).returncode == 0
    missing = run("ping", "-4", "--rounds", "1", "--timeout", "200ms")
    assert missing.returncode == 3
    assert "rsu1 → obu1 (IPv4" in missing.stderr
    assert " no" in missing.stdout


def test_logs_prints_follows_and_ends_with_the_testbed(pair: str) -> None:
    whole = run("logs", "obu1").stdout
    assert "upstream rsu1, 1 hop to RSU rsu1\n" in whole
    assert run("logs", "obu1", "--tail", "1").stdout == whole.splitlines(keepends=True)[-1]
    with subprocess.Popen(
        (*TESTBED, "logs", "obu1", "-f"), stdout=subprocess.PIPE, text=True
    ) as following:
        assert following.stdout is not None
        assert following.stdout.readline() == whole.splitlines(keepends=True)[0]
        assert run("down").returncode == 0
        following.stdout.read()
        assert following.wait(10) == 0


def test_of_a_program_that_counts_nothing_it_is_said_and_its_log_is_as_it_is(
    root: None, run_dir: Path, testbed_name: str
) -> None:
    file = f"""\
name: {testbed_name}
topology:
  nodes:
    rsu1: {{kind: rsu}}
    obu1: {{kind: obu, ready: started, command: [sh, -c, 'echo "$0"; sleep 60', "{{mac}}"]}}
  links: [[rsu1, obu1]]
"""
    try:
        assert run("up", "-", given=file).returncode == 0
        shown = run("inspect", "obu1", "--stats")
        assert shown.returncode == 0, shown.stderr
        assert "of obu1 no counts are shown: it is a program" in shown.stderr
        mac = json.loads(run("inspect", "obu1", "--format", "json").stdout)["mac"]
        assert run("logs", "obu1").stdout == f"{mac}\n"
        assert run("inspect", "rsu1", "--stats").stderr == ""
    finally:
        run("down", "--all")


def test_several_testbeds_want_a_name(pair: str, testbed_name: str) -> None:
    second = f"{pair}b"
    assert run("up", "pair", "-n", second).returncode == 0
    for command in (["inspect"], ["ping"], ["logs", "obu1"], ["exec", "obu1", "true"], ["down"]):
        done = run(*command)
        assert done.returncode == 2
        assert pair in done.stderr
        assert second in done.stderr
        assert "Say it with -n" in done.stderr
        # Where the error says to say it, it is heard.
        if command != ["down"]:
            assert run(*command[:1], "-n", second, *command[1:]).returncode == 0
    for behind in (["-n", second, "--"], [f"--name={second}", "--"], ["-n", second]):
        assert run("exec", "obu1", *behind, "sh", "-c", "exit 7").returncode == 7
    assert run("exec", "obu1", "-n").returncode == 2
    assert run("inspect", "-n", second).returncode == 0
    for twice in (["down", second, "-n", pair], ["down", "--all", "-n", pair]):
        assert run(*twice).returncode == 2
    mistyped = run("down", second + "x")
    assert mistyped.returncode == 0
    assert mistyped.stderr == f"no testbed {second}x is up (up: {pair}, {second})\n"
    assert run("down", "-n", second).returncode == 0
    assert namespaces(second) == []
    assert len(namespaces(pair)) == 2
    assert run("inspect").returncode == 0


def test_the_name_can_come_from_the_environment(pair: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESTBED_NAME", "tbtnone")
    assert run("inspect").returncode != 0
    assert "no testbed tbtnone is up" in run("down").stderr
    monkeypatch.setenv("TESTBED_NAME", pair)
    assert run("inspect").returncode == 0
    # What is said goes before what is usual.
    assert "no testbed tbtnone is up" in run("down", "tbtnone").stderr
    assert run("down", "--all").returncode == 0


def test_down_is_done_once_and_said_twice(pair: str) -> None:
    first = json.loads(run("down", "--format", "json").stdout)
    assert first["testbeds"] == [pair]
    assert len(first["namespaces"]) == 2
    for again in (["down"], ["down", pair], ["down", "--all"]):
        done = run(*again)
        assert done.returncode == 0, done.stderr
        assert "nothing was up" in done.stderr


def test_without_a_testbed_commands_say_so(root: None, run_dir: Path) -> None:
    for command in (["inspect"], ["ping"], ["logs", "obu1"], ["exec", "obu1", "true"]):
        done = run(*command)
        assert done.returncode == 2
        assert "no testbed is up" in done.stderr


def test_a_testbed_that_is_not_up_ends_every_command_alike(root: None, run_dir: Path) -> None:
    (run_dir / "tbtleft").mkdir()
    for command in (["inspect"], ["ping"], ["logs", "obu1"], ["exec", "obu1", "true"]):
        done = run(command[0], "-n", "tbtnone", *command[1:])
        assert done.returncode == 2
        assert (
            "no testbed of that name is up (got 'tbtnone'; expected one of tbtleft)" in done.stderr
        )
        left = run(command[0], "-n", "tbtleft", *command[1:])
        assert left.returncode == 2
        assert "`testbed down tbtleft`" in left.stderr
    (run_dir / "tbtleft").rmdir()


def test_ctrl_c_while_it_comes_up_undoes_everything(
    root: None, run_dir: Path, testbed_name: str
) -> None:
    """At several moments, since any may be the one."""
    for delay_s in (0.25, 0.35, 0.45, 0.6):
        with subprocess.Popen(
            (*TESTBED, "up", "cell", "-n", testbed_name),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                process.wait(delay_s)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)
        # Before Python has begun to run what is ours, the signal itself ends it.
        assert process.returncode in (0, 130, -signal.SIGINT)
        if process.returncode == 0:  # it was quicker
            assert run("down", testbed_name).returncode == 0
        assert namespaces(testbed_name) == []
        assert list(run_dir.iterdir()) == []
