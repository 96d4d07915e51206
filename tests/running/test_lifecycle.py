"""Testbeds come up, change and go, on the real kernel with real agents or stand-ins."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from running_helpers import Radio, as_program, leftovers, make_topology

from testbed import rundir
from testbed.errors import InputError, Lacking, TestbedError
from testbed.kernel import limits, netns, processes
from testbed.kernel import netlink as kernel
from testbed.kernel.operations import Hear, MakePort
from testbed.rundir import BASE_VARIABLE, RunDir
from testbed.running import journal, lifecycle
from testbed.running.lifecycle import Busy, NotRunning, Running
from testbed.topology.loader import load_topology
from testbed.topology.model import Topology

WaitUntil = Callable[..., None]

pytestmark = pytest.mark.usefixtures("root")

HERE = Path(__file__).parent


@pytest.fixture
def ups(run_dir: Path) -> Iterator[Callable[..., Running]]:
    """`lifecycle.up`, with everything taken down and looked after in the end."""
    with ExitStack() as stack:
        names = set()

        def bring(topology: Topology, **more: object) -> Running:
            names.add(topology.name)
            return stack.enter_context(lifecycle.up(topology, **more))  # type: ignore[arg-type]

        yield bring
        for name in names:
            lifecycle.down(name)
        for name in names:
            assert leftovers(name, run_dir) == []


def triangle(name: str, **more: object) -> Topology:
    return make_topology(name, ["rsu", "a", "b"], segments=[["rsu", "a", "b"]], **more)  # type: ignore[arg-type]


def pids(running: Running) -> dict[str, int]:
    return {name: node.pid for name, node in running.status().items() if node.alive}


# -- up and down


def test_every_shipped_topology_leaves_everything_as_before(testbed_name: str) -> None:
    shipped = sorted(path.stem for path in (HERE.parents[1] / "topologies").glob("*.yaml"))
    assert {"pair", "line", "cell", "highway"} <= set(shipped)
    unshare = shutil.which("unshare")
    assert unshare is not None
    done = subprocess.run(
        [
            *(unshare, "--mount", "--net", "--propagation", "private"),
            *(sys.executable, str(HERE / "as_before.py"), testbed_name, *shipped),
        ],
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert (done.stdout, done.returncode) == ("", 0), done.stderr


def test_it_is_up_when_up_returns(ups: Callable[..., Running]) -> None:
    topology = replace(load_topology("line"), name=f"{os.getpid()}line")
    running = ups(topology)
    assert running.report is not None
    assert running.report.not_ready == ()
    assert all(node.state == "ready" for node in running.status().values())
    assert all(running.status()[obu.name].upstream for obu in topology.obus)
    for node in topology.nodes:
        shown = subprocess.check_output(
            ["ip", "netns", "exec", running.netns(node.name), "ip", "-o", "addr"], text=True
        )
        assert str(node.ipv4) in shown
        assert str(node.ipv6) in shown


def test_down_twice_is_fine(ups: Callable[..., Running], testbed_name: str) -> None:
    ups(triangle(testbed_name))
    first = lifecycle.down(testbed_name)
    assert first.testbeds == (testbed_name,)
    assert len(first.namespaces) == 4
    assert first.processes == 4
    assert lifecycle.down(testbed_name) == lifecycle.Removed()
    assert lifecycle.down_all() == lifecycle.Removed()


def test_two_testbeds_side_by_side_with_the_same_nodes(
    ups: Callable[..., Running], testbed_name: str, wait_until: WaitUntil
) -> None:
    one = ups(triangle(testbed_name + "x"))
    two = ups(triangle(testbed_name + "y"))
    with ExitStack() as stack:
        radios = {}
        for running in (one, two):
            for node in running.topology.nodes:
                radio = Radio(running.name, node)
                stack.callback(radio.close)
                radios[running.name, node.name] = radio
        radios[one.name, "rsu"].send(1)
        wait_until(lambda: radios[one.name, "a"].heard())
        wait_until(lambda: radios[one.name, "b"].heard())
        assert all(radios[two.name, name].heard() == [] for name in ("rsu", "a", "b"))
    before = pids(two)
    lifecycle.down(one.name)
    assert pids(two) == before
    assert all(Path(f"/proc/{pid}").exists() for pid in before.values())


def test_nodes_can_be_left_without_a_process(
    ups: Callable[..., Running], testbed_name: str
) -> None:
    running = ups(triangle(testbed_name), agents={"a"})
    assert set(running.status()) == {"a"}
    assert netns.inode_of(running.netns("b"))
    assert running.report is not None
    assert running.report.not_ready == ()


def test_attach_finds_it_again(ups: Callable[..., Running], testbed_name: str) -> None:
    running = ups(triangle(testbed_name))
    with lifecycle.attach(testbed_name) as again:
        assert pids(again) == pids(running)
        assert again.topology == running.topology
    lifecycle.down(testbed_name)
    with pytest.raises(NotRunning):
        lifecycle.attach(testbed_name)


def test_phases_are_told_and_timed(ups: Callable[..., Running], testbed_name: str) -> None:
    told: list[tuple[str, int, int]] = []
    running = ups(triangle(testbed_name), progress=lambda *step: told.append(step))
    assert running.report is not None
    names = [phase.name for phase in running.report.phases]
    assert names == [
        *("checks", "namespaces", "radios", "hearing", "launcher", "obus", "rsus", "joining")
    ]
    assert ("namespaces", 4, 4) in told
    assert ("obus", 2, 2) in told
    assert sum(phase.seconds for phase in running.report.phases) <= running.report.seconds


# -- what is not ready


def test_who_is_not_ready_is_named_with_the_reason(
    ups: Callable[..., Running], testbed_name: str
) -> None:
    topology = make_topology(
        testbed_name, ["rsu", "a", "b", "c"], segments=[["rsu", "a", "b"], ["c"]], command=None
    )
    broken = as_program(topology.node("b"), "sh", "-c", "echo no luck; exit 7")
    deaf = as_program(topology.node("rsu"), "sleep", "60")
    topology = replace(
        topology,
        nodes=tuple({"b": broken, "rsu": deaf}.get(node.name, node) for node in topology.nodes),
    )
    begun = time.monotonic()
    report = ups(topology, wait_s=1.5).report
    assert time.monotonic() - begun < 10
    assert report is not None
    why = {node.node: node.why for node in report.not_ready}
    assert set(why) == {"a", "b"}
    assert why["b"] == "exited with status 7; its log ends with: no luck"
    assert why["a"] == "no upstream: no heartbeat came (it hears b, rsu)"
    assert report.warnings == ("c has no path to any RSU",)


def test_nobody_waits_for_the_dead(ups: Callable[..., Running], testbed_name: str) -> None:
    begun = time.monotonic()
    report = ups(triangle(testbed_name, command=("/no/such/program",)), wait_s=60).report
    assert time.monotonic() - begun < 20
    assert report is not None
    assert {node.node for node in report.not_ready} == {"rsu", "a", "b"}


# -- failure


def test_what_fails_half_way_is_undone(run_dir: Path, testbed_name: str) -> None:
    with netns.directory():
        foreign = netns.create(
            netns.namespace_name(testbed_name, "b"), prepare=lambda: None, record=lambda inode: None
        )
    try:
        told = "did not make it; if it is left of an earlier one, `testbed down --all` removes it"
        with pytest.raises(netns.ForeignNamespace, match=told):
            lifecycle.up(triangle(testbed_name))
        assert netns.inode_of(netns.namespace_name(testbed_name, "b")) == foreign
        assert leftovers(testbed_name, run_dir) == [
            f"namespace tb.{testbed_name}.b",
            *(line for line in leftovers(testbed_name, run_dir) if line.startswith("mount")),
        ]
    finally:
        netns.remove(netns.namespace_name(testbed_name, "b"), foreign)
        netns.tidy_directory()


@pytest.mark.parametrize("phase", ["namespaces", "radios", "hearing", "obus", "rsus", "joining"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_undoes_everything(
    run_dir: Path, testbed_name: str, phase: str, number: signal.Signals
) -> None:
    sent = False

    def interrupt(name: str, done: int, total: int) -> None:
        nonlocal sent
        if name == phase and done >= min(1, total) and not sent:
            sent = True
            os.kill(os.getpid(), number)

    wanted = KeyboardInterrupt if number == signal.SIGINT else lifecycle.Terminated
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with pytest.raises(wanted) as raised:
            lifecycle.up(triangle(testbed_name), progress=interrupt)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert raised.type is wanted
    assert leftovers(testbed_name, run_dir) == []


def test_only_one_at_a_time_works_on_a_testbed(
    ups: Callable[..., Running], testbed_name: str
) -> None:
    topology = triangle(testbed_name)
    met: list[BaseException] = []
    told = rf"another command .* \(process {os.getpid()}\)"

    def meanwhile(name: str, done: int, total: int) -> None:
        if name == "radios" and done == 1:
            for attempt in (lambda: lifecycle.up(topology), lambda: lifecycle.down(topology.name)):
                with pytest.raises(Busy, match=told) as got:
                    attempt()
                met.append(got.value)

    ups(topology, progress=meanwhile)
    assert len(met) == 2


def test_of_two_racing_for_a_name_one_wins_and_one_is_told(
    run_dir: Path, testbed_name: str
) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from running_helpers import make_topology\n"
        "from testbed.running import lifecycle\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "try:\n"
        "    lifecycle.up(make_topology(sys.argv[2], ['rsu', 'a'], links=[('rsu', 'a')])).close()\n"
        "    print('up', flush=True)\n"
        "except lifecycle.Busy as error:\n"
        "    print('busy', flush=True)\n"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(HERE), testbed_name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        ends = sorted(racer.communicate(timeout=60)[0] for racer in racers)
        # The second may come when the first is done, and finds nothing left to do.
        assert ends in (["busy\n", "up\n"], ["up\n", "up\n"])
        with lifecycle.attach(testbed_name) as running:
            assert set(pids(running)) == {"rsu", "a"}
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()
        lifecycle.down(testbed_name)
    assert leftovers(testbed_name, run_dir) == []


def test_while_down_is_at_work_nothing_else_is_and_afterwards_all_is_as_new(
    ups: Callable[..., Running], run_dir: Path, testbed_name: str, wait_until: WaitUntil
) -> None:
    stubborn = ("sh", "-c", "trap '' TERM; echo here; while :; do sleep 1; done")
    topology = make_topology(testbed_name, ["rsu", "a"], links=[("rsu", "a")], command=stubborn)
    running = ups(topology)
    logs = [running.run.node_log(name) for name in ("rsu", "a")]
    wait_until(lambda: all("here" in log.read_text() for log in logs))
    leaving = threading.Thread(target=lifecycle.down, args=(testbed_name,))
    leaving.start()
    running.launcher.wait(lambda nodes: all(node.asked for node in nodes.values()), 10)
    for command in (lambda: lifecycle.up(topology), lambda: lifecycle.down(testbed_name)):
        with pytest.raises(Busy, match="another command"):
            command()
    leaving.join()
    assert leftovers(testbed_name, run_dir) == []
    assert set(pids(ups(topology))) == {"rsu", "a"}


def test_limits_are_told_before_anything_is_made(
    run_dir: Path, testbed_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = make_topology(testbed_name, [f"n{number}" for number in range(hard // 3)])
    with pytest.raises(Lacking, match=r"open files \(RLIMIT_NOFILE\): \d+ descriptors needed"):
        lifecycle.up(many)
    assert soft
    assert leftovers(testbed_name, run_dir) == []
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Lacking, match="not root"):
        limits.require_rights()


@pytest.mark.parametrize("name", ["", ".", "a.b", "-a", "a" * 33, "a/b"])
def test_names_that_no_testbed_can_have(run_dir: Path, name: str) -> None:
    with pytest.raises(InputError, match="testbed name"):
        lifecycle.up(triangle(name))
    with pytest.raises(InputError, match="testbed name"):
        lifecycle.down(name)


def test_a_base_must_be_usable(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BASE_VARIABLE, "relative")
    with pytest.raises(InputError, match="absolute path"):
        lifecycle.down_all()
    monkeypatch.setenv(BASE_VARIABLE, "/tmp/" + "x" * 100)
    with pytest.raises(InputError, match="too long"):
        lifecycle.up(triangle("a"))
    monkeypatch.setenv(BASE_VARIABLE, "/no/such/base")
    with pytest.raises(InputError, match="a directory"):
        lifecycle.up(triangle("a"))


def test_a_base_that_we_made_goes_and_another_stays(
    run_dir: Path, testbed_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lifecycle.up(triangle(testbed_name)).close()
    lifecycle.down(testbed_name)
    assert run_dir.is_dir()
    monkeypatch.setenv(BASE_VARIABLE, str(run_dir / "base"))
    lifecycle.up(triangle(testbed_name)).close()
    lifecycle.down(testbed_name)
    assert list(run_dir.iterdir()) == []


# -- changing what runs


def test_up_again_changes_nothing(ups: Callable[..., Running], testbed_name: str) -> None:
    before = pids(ups(triangle(testbed_name)))
    again = ups(triangle(testbed_name))
    assert again.report is not None
    assert (again.report.reconciled, again.report.made, again.report.removed) == (True, 0, 0)
    assert pids(again) == before


def test_nodes_come_and_go_and_the_others_run_on(
    ups: Callable[..., Running], testbed_name: str, wait_until: WaitUntil
) -> None:
    before = pids(ups(triangle(testbed_name)))
    after = make_topology(
        testbed_name, ["rsu", "a", "b", "c"], segments=[["rsu", "a"]], links=[("c", "a")]
    )
    after = replace(after, nodes=tuple(node for node in after.nodes if node.name != "b"))
    running = ups(after)
    now = pids(running)
    assert set(now) == {"rsu", "a", "c"}
    assert (now["rsu"], now["a"]) == (before["rsu"], before["a"])
    assert netns.inode_of(netns.namespace_name(testbed_name, "b")) is None
    with ExitStack() as stack:
        radios = {node.name: Radio(testbed_name, node) for node in after.nodes}
        for radio in radios.values():
            stack.callback(radio.close)
        radios["a"].send(1)
        for name in ("rsu", "c"):
            wait_until(lambda name=name: radios[name].heard())
        radios["c"].send(2)
        wait_until(lambda: radios["a"].heard())
        assert radios["rsu"].heard() == []


def test_the_dead_and_the_changed_start_again(
    ups: Callable[..., Running], testbed_name: str
) -> None:
    running = ups(triangle(testbed_name))
    before = pids(running)
    os.kill(before["a"], signal.SIGKILL)
    running.launcher.wait(lambda nodes: nodes["a"].state == "exited", 5)
    changed = triangle(testbed_name)
    changed = replace(
        changed,
        nodes=tuple(
            as_program(node, "sleep", "600") if node.name == "b" else node for node in changed.nodes
        ),
    )
    now = pids(ups(changed))
    assert now["rsu"] == before["rsu"]
    assert now["a"] != before["a"]
    assert now["b"] != before["b"]
    assert Path(f"/proc/{now['b']}/comm").read_text() == "sleep\n"


def test_what_somebody_removed_by_hand_is_made_again(
    ups: Callable[..., Running], testbed_name: str, wait_until: WaitUntil
) -> None:
    running = ups(triangle(testbed_name))
    before = pids(running)
    subprocess.check_call(["ip", "netns", "del", running.netns("a")])
    subprocess.check_call(["ip", "-n", running.netns("b"), "link", "del", "radio0"])
    again = ups(triangle(testbed_name))
    now = pids(again)
    assert now["rsu"] == before["rsu"]
    assert now["a"] != before["a"]
    assert now["b"] != before["b"]
    with ExitStack() as stack:
        radios = {node.name: Radio(testbed_name, node) for node in again.topology.nodes}
        for radio in radios.values():
            stack.callback(radio.close)
        radios["rsu"].send(1)
        for name in ("a", "b"):
            wait_until(lambda name=name: radios[name].heard())


def test_a_dead_launcher_is_replaced(
    ups: Callable[..., Running], testbed_name: str, wait_until: WaitUntil
) -> None:
    running = ups(triangle(testbed_name))
    os.kill(running.launcher.snapshot().pid, signal.SIGKILL)
    again = ups(triangle(testbed_name))
    assert set(pids(again)) == {"rsu", "a", "b"}


def test_a_dead_launcher_does_not_keep_down_from_its_work(run_dir: Path, testbed_name: str) -> None:
    with lifecycle.up(triangle(testbed_name)) as running:
        os.kill(running.launcher.snapshot().pid, signal.SIGKILL)
    lifecycle.down(testbed_name)
    assert leftovers(testbed_name, run_dir) == []


def test_a_launcher_that_hangs_does_not_keep_down_from_its_work(
    run_dir: Path, testbed_name: str
) -> None:
    with lifecycle.up(triangle(testbed_name)) as running:
        os.kill(running.launcher.snapshot().pid, signal.SIGSTOP)
    begun = time.monotonic()
    lifecycle.down(testbed_name)
    assert time.monotonic() - begun < 15
    assert leftovers(testbed_name, run_dir) == []


def test_a_change_that_fails_goes_back_to_what_was(
    ups: Callable[..., Running], testbed_name: str, run_dir: Path
) -> None:
    running = ups(triangle(testbed_name))
    before = pids(running)
    state = journal.read(running.run.journal)
    with netns.directory():
        foreign = netns.create(
            netns.namespace_name(testbed_name, "d"), prepare=lambda: None, record=lambda inode: None
        )
    try:
        bigger = make_topology(
            testbed_name, ["rsu", "a", "c", "d"], segments=[["rsu", "a", "c", "d"]]
        )
        with pytest.raises(netns.ForeignNamespace):
            lifecycle.up(bigger)
    finally:
        netns.remove(netns.namespace_name(testbed_name, "d"), foreign)
    with lifecycle.attach(testbed_name) as again:
        assert again.topology == running.topology
        assert set(pids(again)) == {"rsu", "a", "b"}
        assert pids(again)["rsu"] == before["rsu"]
    now = journal.read(running.run.journal)
    assert state is not None
    assert now is not None
    assert {key: op for key, op in now.operations.items() if not isinstance(op, Hear)} == {
        key: op for key, op in state.operations.items() if not isinstance(op, Hear)
    }
    assert not now.unfinished


def test_an_interrupted_change_goes_back_as_well(
    ups: Callable[..., Running], testbed_name: str
) -> None:
    before = pids(ups(triangle(testbed_name)))
    bigger = make_topology(testbed_name, ["rsu", "a", "b", "c"], segments=[["rsu", "a", "b", "c"]])

    def interrupt(name: str, done: int, total: int) -> None:
        if name == "radios" and done == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        lifecycle.up(bigger, progress=interrupt)
    with lifecycle.attach(testbed_name) as again:
        assert pids(again) == before
        assert netns.inode_of(netns.namespace_name(testbed_name, "c")) is None


# -- one node


def test_an_agent_restarts_in_no_time_with_other_settings(
    ups: Callable[..., Running], testbed_name: str
) -> None:
    topology = make_topology(testbed_name, ["rsu", "a"], links=[("rsu", "a")], command=None)
    running = ups(topology)
    settings = replace(topology.node("a").settings, handler="per-packet", engine_wire="per-packet")
    before = pids(running)
    node = running.restart("a", settings)
    assert node.state == "ready"
    assert node.pid != before["a"]
    assert node.engines is not None
    assert node.engines["wire"]["used"] == "per-packet"
    assert running.wait_joined() == ()
    assert running.status()["a"].upstream is not None
    # The file's own settings count again with the next up.
    again = ups(topology)
    engines = again.status()["a"].engines
    assert engines is not None
    assert engines["wire"]["requested"] == "auto"
    assert again.status()["rsu"].pid == before["rsu"]


def test_a_stopped_node_stays_stopped_until_it_is_wanted(
    ups: Callable[..., Running], testbed_name: str
) -> None:
    running = ups(triangle(testbed_name))
    stopped = running.stop("a")
    assert stopped is not None
    assert not stopped.alive
    assert set(pids(running)) == {"rsu", "b"}
    assert running.restart("a").state == "ready"
    with pytest.raises(KeyError):
        running.stop("nobody")


def test_an_agent_leaves_its_counters_and_its_rights(
    ups: Callable[..., Running], testbed_name: str
) -> None:
    topology = make_topology(testbed_name, ["rsu", "a"], links=[("rsu", "a")], command=None)
    running = ups(topology)
    for pid in pids(running).values():
        status = Path(f"/proc/{pid}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert fields["Uid"].split() == ["65534"] * 4
        assert fields["Gid"].split() == ["65534"] * 4
        assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 0
    stopped = running.stop("a")
    assert stopped is not None
    assert stopped.exit_status == 0
    assert running.run.stats("a").exists()


def test_agents_do_not_outlive_their_launcher(
    ups: Callable[..., Running], testbed_name: str, wait_until: WaitUntil
) -> None:
    """An agent has changed its user, and with that lost the parent-death signal of the kernel."""
    topology = make_topology(testbed_name, ["rsu", "a"], links=[("rsu", "a")], command=None)
    running = ups(topology)
    os.kill(running.launcher.snapshot().pid, signal.SIGKILL)
    wait_until(lambda: not processes.find_marked(running.run.path))


# -- what belongs to whom


def test_down_touches_nothing_that_is_not_ours(run_dir: Path, testbed_name: str) -> None:
    """A namespace of our pattern, one made under a name of ours, and a process in ours."""
    with lifecycle.up(triangle(testbed_name)) as running:
        a = running.netns("a")
        subprocess.check_call(["ip", "netns", "del", a])
        subprocess.check_call(["ip", "netns", "add", a])
        other = netns.namespace_name(testbed_name, "other")
        subprocess.check_call(["ip", "netns", "add", other])
        bystander = subprocess.Popen(["ip", "netns", "exec", running.netns("b"), "sleep", "600"])
    try:
        removed = lifecycle.down(testbed_name)
        assert sorted(set(netns.names()) & {a, other}) == sorted([a, other])
        assert bystander.poll() is None
        assert any(a in left for left in removed.left)
        assert any(f"process {bystander.pid} (sleep)" in one for one in removed.remaining)
        assert lifecycle.down_all() == lifecycle.Removed()
    finally:
        bystander.kill()
        bystander.wait()
        subprocess.check_call(["ip", "netns", "del", a])
        subprocess.check_call(["ip", "netns", "del", other])
    assert leftovers(testbed_name, run_dir) == []


def test_what_others_put_into_the_run_directory_stays(run_dir: Path, testbed_name: str) -> None:
    lifecycle.up(triangle(testbed_name)).close()
    keepsake = run_dir / testbed_name / "capture.pcap"
    keepsake.write_text("mine")
    removed = lifecycle.down(testbed_name)
    assert removed.left == (f"{keepsake} is none of ours",)
    assert keepsake.read_text() == "mine"


@pytest.mark.parametrize("how", [lifecycle.down, lambda name: lifecycle.down_all()])
def test_a_lost_run_directory_is_no_loss(
    run_dir: Path, testbed_name: str, how: Callable[[str], lifecycle.Removed]
) -> None:
    with lifecycle.up(triangle(testbed_name)):
        shutil.rmtree(run_dir / testbed_name)
    removed = how(testbed_name)
    assert len(removed.namespaces) == 4
    assert removed.processes == 4
    assert leftovers(testbed_name, run_dir) == []


def test_a_testbed_that_lost_its_directory_gives_way_to_a_new_one(
    run_dir: Path, testbed_name: str
) -> None:
    with lifecycle.up(triangle(testbed_name)):
        shutil.rmtree(run_dir / testbed_name)
    with pytest.raises(netns.ForeignNamespace):
        lifecycle.up(triangle(testbed_name))
    lifecycle.down(testbed_name)
    lifecycle.up(triangle(testbed_name)).close()
    lifecycle.down(testbed_name)
    assert leftovers(testbed_name, run_dir) == []


def test_an_empty_run_directory_is_what_a_crash_left(run_dir: Path, testbed_name: str) -> None:
    (run_dir / testbed_name).mkdir()
    assert lifecycle.down_all().testbeds == (testbed_name,)
    assert list(run_dir.iterdir()) == []
    (run_dir / testbed_name).mkdir()
    lifecycle.up(triangle(testbed_name)).close()
    lifecycle.down(testbed_name)
    assert leftovers(testbed_name, run_dir) == []


def test_after_a_reboot_only_files_are_left(run_dir: Path, testbed_name: str) -> None:
    """The journal of another boot names nothing that is there, even where the names are."""
    run = RunDir(run_dir / testbed_name)
    lifecycle.up(triangle(testbed_name)).close()
    copy = run.journal.read_text()
    lifecycle.down(testbed_name)
    run.path.mkdir()
    run.journal.write_text(copy.replace(journal.boot_id(), "of-another-boot"))
    with rundir.locked(run), netns.directory():
        foreign = netns.create(
            netns.namespace_name(testbed_name, "a"), prepare=lambda: None, record=lambda inode: None
        )
    try:
        removed = lifecycle.down(testbed_name)
        assert removed.namespaces == ()
        assert netns.inode_of(netns.namespace_name(testbed_name, "a")) == foreign
    finally:
        netns.remove(netns.namespace_name(testbed_name, "a"), foreign)
        netns.tidy_directory()
    assert leftovers(testbed_name, run_dir) == []


def test_a_journal_of_another_version_is_left_alone(run_dir: Path, testbed_name: str) -> None:
    run = RunDir(run_dir / testbed_name)
    run.path.mkdir()
    run.journal.write_text('{"format":99}\n')
    with pytest.raises(TestbedError, match="format 99"):
        lifecycle.down(testbed_name)
    assert any("format 99" in left for left in lifecycle.down_all().left)
    assert run.journal.exists()
    shutil.rmtree(run.path)


def test_hearing_that_was_changed_is_set_back_by_up(
    ups: Callable[..., Running], testbed_name: str
) -> None:
    running = ups(triangle(testbed_name))
    running.rewire({"rsu": ["a"]})
    again = ups(triangle(testbed_name))
    assert again.report is not None
    assert (again.report.made, again.report.removed) == (1, 0)


def test_a_cut_change_of_hearing_is_finished_by_up(
    ups: Callable[..., Running], testbed_name: str
) -> None:
    """Chains that a crash left between making and using them do not get in the way."""
    names = [f"n{number}" for number in range(40)]
    topology = make_topology(testbed_name, ["rsu", *names], segments=[["rsu", *names]])
    running = ups(topology, agents=False)
    state = journal.read(running.run.journal)
    assert state is not None
    hearing = state.operations["hearing/rsu"]
    port = state.operations["radio/rsu"]
    assert isinstance(hearing, Hear)
    assert isinstance(port, MakePort)
    log = journal.Journal(running.run.journal)
    log.begin(hearing)
    log.close()
    again = ups(topology, agents=False)
    assert again.report is not None
    assert again.report.made == 1
    with kernel.Kernel() as hands:
        for _ in range(3):
            hands.hear(hearing)


def test_it_works_from_a_thread(ups: Callable[..., Running], testbed_name: str) -> None:
    failures: list[BaseException] = []

    def bring() -> None:
        try:
            ups(triangle(testbed_name))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=bring)
    thread.start()
    thread.join()
    assert failures == []
