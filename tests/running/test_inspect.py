"""What runs is shown as what it is, also when something is wrong with it."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from running_helpers import make_topology

from testbed.running import journal, lifecycle
from testbed.running.inspect import NodeView, inspect, summaries
from testbed.running.lifecycle import NotRunning, Running
from testbed.topology.model import Topology

WaitUntil = Callable[..., None]

pytestmark = pytest.mark.usefixtures("root")


@pytest.fixture
def up(run_dir: Path) -> Iterator[Callable[[Topology], Running]]:
    with ExitStack() as stack:
        yield lambda topology: stack.enter_context(lifecycle.up(topology))
        lifecycle.down_all()
        assert list(run_dir.iterdir()) == []


def line(name: str) -> Topology:
    links = [("rsu", "a"), ("a", "b")]
    return make_topology(name, ["rsu", "a", "b"], links=links, command=None)


def by_name(name: str, **more: bool) -> dict[str, NodeView]:
    return {node.name: node for node in inspect(name, **more).nodes}


def test_a_healthy_testbed(up: Callable[[Topology], Running], testbed_name: str) -> None:
    running = up(line(testbed_name))
    view = inspect(testbed_name)
    assert (view.name, view.complete) == (testbed_name, True)
    assert view.launcher_pid == running.launcher.snapshot().pid
    nodes = {node.name: node for node in view.nodes}
    assert [(n.state, n.why, n.ok) for n in nodes.values()] == [("ready", None, True)] * 3
    b = nodes["b"]
    assert b.upstream is not None
    assert (b.upstream.node, b.upstream.rsu, b.upstream.hops) == ("a", "rsu", 2)
    assert b.hears == ("a",)
    assert b.medium == "p2"
    assert b.netns == f"tb.{testbed_name}.b"
    assert b.pid == running.status()["b"].pid
    assert b.uptime_s is not None
    assert 0 < b.uptime_s < 60
    assert b.stats is not None
    assert b.stats["name"] == "b"
    assert b.engines is not None
    assert b.engines == b.stats["engines"]
    assert json.loads(json.dumps(view.to_json()))["nodes"][2]["upstream"]["node"] == "a"
    assert all(node.stats is None for node in by_name(testbed_name, stats=False).values())


def test_who_died_who_was_stopped_and_who_never_ran(
    up: Callable[[Topology], Running], testbed_name: str, wait_until: WaitUntil
) -> None:
    running = up(line(testbed_name))
    os.kill(running.status()["a"].pid, signal.SIGKILL)
    running.launcher.wait(lambda nodes: not nodes["a"].alive, 5)
    running.stop("rsu")
    nodes = by_name(testbed_name)
    assert (nodes["a"].state, nodes["a"].why) == ("exited", "killed by SIGKILL")
    assert nodes["a"].exit_status == -signal.SIGKILL
    assert nodes["a"].pid is nodes["a"].stats is nodes["a"].uptime_s is None
    assert (nodes["rsu"].state, nodes["rsu"].why) == ("stopped", None)
    # Without an RSU and a relay there is nothing that b could have joined.
    assert [node.ok for node in nodes.values()] == [False, False, True]


def test_a_program_in_place_of_an_agent(
    up: Callable[[Topology], Running], testbed_name: str
) -> None:
    topology = make_topology(testbed_name, ["rsu", "a"], links=[("rsu", "a")])
    up(topology)
    nodes = by_name(testbed_name)
    assert [(n.state, n.why, n.medium, n.stats) for n in nodes.values()] == [
        ("ready", None, "cable", None)
    ] * 2


def test_without_a_launcher_the_nodes_are_lost(
    up: Callable[[Topology], Running], testbed_name: str
) -> None:
    running = up(line(testbed_name))
    os.kill(running.launcher.snapshot().pid, signal.SIGKILL)
    view = inspect(testbed_name)
    assert view.launcher_pid is None
    assert {(node.state, node.why) for node in view.nodes} == {("lost", "its launcher is gone")}
    assert not any(node.ok for node in view.nodes)


def test_summaries_tell_of_all_and_of_the_remains(
    up: Callable[[Topology], Running], testbed_name: str, run_dir: Path
) -> None:
    one = up(line(testbed_name + "a"))
    two = up(replace(line(testbed_name + "b")))
    two.stop("b")
    (run_dir / f"{testbed_name}c").mkdir()
    shown = {summary.name: summary for summary in summaries()}
    a, b, c = (shown[testbed_name + letter] for letter in "abc")
    assert (a.complete, a.launcher_alive) == (True, True)
    assert (a.nodes, a.ready, a.obus, a.joined) == (3, 3, 2, 2)
    assert (b.ready, b.joined) == (2, 1)
    assert (c.complete, c.launcher_alive, c.nodes) == (False, False, None)
    log = journal.Journal(one.run.journal)
    state = journal.read(one.run.journal)
    assert state is not None
    log.begin(state.operations["node/a"])
    log.close()
    assert not inspect(one.name).complete
    assert json.dumps([summary.to_json() for summary in summaries()])


def test_nothing_to_show(run_dir: Path, testbed_name: str) -> None:
    assert summaries() == ()
    with pytest.raises(NotRunning, match=f"no testbed {testbed_name} is up$"):
        inspect(testbed_name)
    (run_dir / testbed_name).mkdir()
    with pytest.raises(NotRunning, match="what a crash left of it"):
        inspect(testbed_name)
    shutil.rmtree(run_dir / testbed_name)
