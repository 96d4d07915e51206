"""A scenario really run: every packet accounted for, calls counted twice, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from test_scenario_files import load

from testbed.experiment.pinning import choose_pins
from testbed.experiment.progress import Step
from testbed.experiment.runner import run_scenario
from testbed.measure.statistics import Verdict, assess, handled, own_count_deviation
from testbed.report.files import write_reports
from testbed.report.markdown import render_markdown
from testbed.results import Result
from testbed.results.store import load_result
from testbed.running import lifecycle
from testbed.scenario.model import Scenario

TINY = """\
name: tiny
topology: pair
checks: {which: []}
measure:
  relay: {node: obu1, path: relay}
traffic:
  loads: {medium: 2kpps}
variants:
  single: {baseline: true, engine: per-packet, handler: per-packet, batch: 1}
  batched: {engine: {wire: mmsg, tap: per-packet}, handler: batched, batch: 32}
repeats: 1
trial: 300ms
warm_up: 100ms
counting: {trial: 200ms, repeats: 2}
"""

pytestmark = pytest.mark.usefixtures("root", "run_dir")


@pytest.fixture
def tiny(tmp_path: Path) -> Scenario:
    return load(TINY, tmp_path)


def left_up() -> list[str]:
    """The namespaces of testbeds that this process has brought up for a scenario."""
    listed = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    ours = f"-{os.getpid()}."
    return [line for line in listed.splitlines() if line.startswith("tb.run-") and ours in line]


def run(scenario: Scenario, folder: Path, **more: object) -> Result:
    return run_scenario(scenario, quick=False, output_dir=folder / "out", **more)  # type: ignore[arg-type]


def test_a_run_from_the_file_to_the_report(tiny: Scenario, tmp_path: Path, run_dir: Path) -> None:
    steps: list[Step] = []
    made = run(tiny, tmp_path, progress=steps.append, seed=7)

    # Pairs that a busy machine spoiled are made again, behind the others.
    extra = sum(t.phase == "timing" and t.pair > 0 for t in made.trials)
    planned = [t for t in made.trials if t.phase == "counting" or t.pair == 0]
    assert [(t.phase, t.variant, t.pair) for t in planned] == [
        ("timing", "single", 0),
        ("timing", "batched", 0),
        ("counting", "single", 0),
        ("counting", "single", 1),
        ("counting", "batched", 0),
        ("counting", "batched", 1),
    ]
    assert made.seed == 7
    assert not made.interrupted
    for trial in made.trials:
        assert trial.traffic is not None
        assert trial.ledger is not None
        assert trial.node is not None
        assert trial.traffic.delivered == trial.traffic.offered > 0
        assert trial.traffic.corrupted == trial.traffic.duplicated == 0
        assert trial.ledger.unexplained == 0
        assert trial.ledger.node_told
        assert trial.node.cpu is not None
        assert trial.node.cpu.task_clock_ns
        assert trial.node.memory is not None
        assert trial.node.memory.pss_end_bytes
        assert trial.traffic.latency is not None
        assert 0 < trial.traffic.latency.p50_ns <= trial.traffic.latency.max_ns
        assert trial.node.engines["wire"].used == (
            "per-packet" if trial.variant == "single" else "mmsg"
        )
        assert sum(use.busy_ns for use in trial.machine) > 0

    for trial in made.trials:
        if trial.phase == "counting":
            deviation = own_count_deviation(trial)
            assert deviation is not None
            # So short a trial makes few calls: one or two at its ends are more than one per cent.
            assert trial.node is not None
            assert trial.node.syscalls is not None
            assert trial.node.syscalls.kernel is not None
            assert deviation <= 0.01 or deviation * sum(trial.node.syscalls.kernel.values()) <= 3
            # The node sends nothing of its own while it is counted, but for a heartbeat now and
            # then: what it passed on is what arrived.
            passed = handled(trial)
            assert passed is not None
            assert trial.traffic is not None
            assert 0 <= passed - trial.traffic.delivered <= 20

    devices = {(device.node, device.name): device for device in made.environment.devices}
    assert {("obu1", "radio0"), ("obu1", "tap0"), ("rsu1", "radio0")} <= set(devices)
    assert devices["obu1", "radio0"].kind == "veth"
    assert devices["obu1", "tap0"].kind == "tun"

    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert steps[-1].done == steps[-1].total == 6 + extra
    assert steps[-1].remaining_s == 0

    again = load_result(tmp_path / "out")
    assert again == made
    (report,) = write_reports(again, tmp_path / "out", ["markdown"])
    assert report.read_text(encoding="utf-8") == render_markdown(made)
    assert all(
        finding.verdict in (Verdict.INCONCLUSIVE, Verdict.NOT_MEASURED) for finding in assess(made)
    )
    assert left_up() == []
    assert list(run_dir.iterdir()) == []


def test_ctrl_c_leaves_nothing_but_what_was_measured(
    tiny: Scenario, tmp_path: Path, run_dir: Path
) -> None:
    def interrupt(step: Step) -> None:
        if step.done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tiny, tmp_path, progress=interrupt)
    kept = load_result(tmp_path / "out")
    assert kept.interrupted
    assert kept.finished is None
    assert len(kept.trials) == 1
    assert "stopped before its end" in render_markdown(kept)
    assert left_up() == []
    assert list(run_dir.iterdir()) == []


def test_ctrl_c_before_the_first_trial_writes_nothing(tiny: Scenario, tmp_path: Path) -> None:
    def interrupt(step: Step) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tiny, tmp_path, progress=interrupt)
    assert not (tmp_path / "out").exists()


def test_a_node_that_dies_is_in_the_result_and_the_run_goes_on(
    tiny: Scenario, tmp_path: Path, run_dir: Path
) -> None:
    killed = threading.Event()

    def kill_the_first() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for place in run_dir.glob("run-tiny-*"):
                try:
                    with lifecycle.attach(place.name) as running:
                        node = running.status().get("obu1")
                except Exception:
                    continue
                if node is not None and node.alive and node.upstream is not None:
                    os.kill(node.pid, signal.SIGKILL)
                    killed.set()
                    return
            time.sleep(0.005)

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    try:
        made = run(tiny, tmp_path)
    finally:
        killer.join()
    assert killed.is_set()
    first, *others = made.trials
    assert [marked.mark for marked in first.marks][:1] == ["node-died"]
    assert "obu1: killed by SIGKILL" in first.marks[0].why
    assert not first.counts
    assert all(trial.traffic is not None for trial in others)
    assert left_up() == []


@pytest.mark.parametrize(
    ("cpus", "generator", "sink", "node"),
    [
        ((0,), (0,), (0,), (0,)),
        ((0, 1), (0,), (0,), (1,)),
        ((2, 5, 7), (2,), (5,), (7,)),
        (tuple(range(8)), (0,), (1,), (2,)),
    ],
)
def test_nodes_never_share_a_cpu_with_the_tester_if_there_are_two(
    cpus: tuple[int, ...],
    generator: tuple[int, ...],
    sink: tuple[int, ...],
    node: tuple[int, ...],
) -> None:
    pins, note = choose_pins(cpus)
    assert (pins.tester.generator, pins.tester.sink, pins.node) == (generator, sink, node)
    assert (note is not None) == (len(cpus) == 1)


def test_rounds_of_checks_are_parts_of_a_run_and_take_their_time(tmp_path: Path) -> None:
    """Nine variants are checked in two rounds."""
    variants = ", ".join(f"v{number}: {{batch: {number}}}" for number in range(2, 10))
    scenario = load(
        "name: checked\nkind: checks\ntopology: pair\nchecks: {which: [reachability]}\n"
        f"variants: {{one: {{baseline: true}}, {variants}}}\n",
        tmp_path,
    )
    steps: list[Step] = []
    made = run(scenario, tmp_path, progress=steps.append)
    assert len(made.checks) == 9
    assert [(step.done, step.total) for step in steps] == [(0, 2), (1, 2), (2, 2)]
    assert steps[0].remaining_s > steps[1].remaining_s > steps[2].remaining_s == 0
    assert left_up() == []
