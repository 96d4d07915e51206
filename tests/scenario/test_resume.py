"""A run that was killed goes on: nothing is lost, nothing is made twice, nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_scenario_files import load

from testbed.errors import InputError
from testbed.experiment import course, identity, runner
from testbed.experiment.progress import Step
from testbed.experiment.runjournal import FILE_NAME, RunJournal, past_of
from testbed.experiment.runner import run_scenario
from testbed.experiment.trialplan import PlannedTrial, plan_trials
from testbed.kernel import processes
from testbed.report.markdown import render_markdown
from testbed.results import Traffic, Trial
from testbed.results.store import load_result
from testbed.scenario.loader import load_scenario
from testbed.scenario.model import Scenario

SCENARIO = """\
name: NAME
topology: pair
checks: {which: []}
measure:
  relay: {node: obu1, path: relay}
  other: {node: obu1, path: wire-to-tap}
traffic:
  loads: {medium: 2kpps}
variants:
  single: {baseline: true, engine: per-packet, handler: per-packet, batch: 1}
  batched: {engine: {wire: mmsg, tap: per-packet}, handler: batched, batch: 32}
repeats: 1
trial: 200ms
warm_up: 50ms
counting: {trial: 100ms, repeats: 1, measure: [relay]}
"""

WaitUntil = Callable[..., None]

pytestmark = pytest.mark.usefixtures("root", "run_dir")


@pytest.fixture
def small(tmp_path: Path, testbed_name: str) -> Scenario:
    return load(SCENARIO.replace("NAME", testbed_name), tmp_path)


def begin(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        (sys.executable, "-m", "testbed", "run", *arguments),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def lines(folder: Path) -> list[str]:
    """The whole lines of its journal."""
    path = folder / FILE_NAME
    return path.read_text().split("\n")[:-1] if path.exists() else []


def trials(folder: Path) -> list[str]:
    return [line for line in lines(folder) if '"trial":' in line]


def of_this_scenario(name: str) -> list[str]:
    """Namespaces and marked processes of the scenario's testbeds."""
    namespaces = Path("/run/netns")
    found = [one.name for one in namespaces.glob(f"*{name}*")] if namespaces.is_dir() else []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            marks = [v for v in environment.split(b"\0") if v.startswith(mark_prefix())]
            found += [f"{entry.name} {mark!r}" for mark in marks if name.encode() in mark]
    return found


def mark_prefix() -> bytes:
    return f"{processes.MARK_VARIABLE}=".encode()


def test_a_run_that_is_killed_again_and_again_comes_to_its_end(
    small: Scenario, tmp_path: Path, run_dir: Path, wait_until: WaitUntil
) -> None:
    folder = tmp_path / "out"
    plan = plan_trials(small, quick=False)
    # In the middle of bringing the topology up; of the second trial; of the counting pass; of the
    # second topology.
    points = (
        lambda: any('"testbed":' in line for line in lines(folder)),
        lambda: len(trials(folder)) >= 1,
        lambda: len(trials(folder)) >= 3,
        lambda: len(trials(folder)) >= 5,
    )
    begun = begin(str(tmp_path / "scenario.yaml"), "--output", str(folder))
    kept: list[str] = []
    for reached in points:
        wait_until(reached, timeout=40)
        os.kill(begun.pid, signal.SIGKILL)
        begun.communicate()
        assert begun.returncode == -signal.SIGKILL
        assert not (folder / "result.json").exists()
        kept = lines(folder)
        # As if the next line had been cut short.
        with (folder / FILE_NAME).open("a") as journal:
            journal.write('{"elapsed_s":1.0,"trial":{"id":')
        begun = begin("--resume", str(folder))
    _, said = begun.communicate(timeout=60)
    assert begun.returncode == 0, said

    made = load_result(folder)
    extra = {trial.id for trial in made.trials if trial.id >= len(plan)}
    assert [t.id for t in made.trials if t.id not in extra] == [planned.id for planned in plan]
    assert len({trial.id for trial in made.trials}) == len(made.trials)
    stored = {trial.id: trial for trial in made.trials}
    before = [json.loads(line)["trial"] for line in kept if '"trial":' in line]
    assert len(before) >= 5
    for values in before:
        assert stored[values["id"]].model_dump(mode="json", by_alias=True) == values
    assert all(trial.traffic is not None for trial in made.trials)
    started = [trial.started_s for trial in made.trials]
    assert started == sorted(started)
    assert made.elapsed_s > started[-1]
    assert sum("taken up again" in note for note in made.notes) == len(points)
    assert "taken up again" in render_markdown(made)
    assert {(device.node, device.name) for device in made.environment.devices} >= {
        ("obu1", "radio0"),
        ("obu1", "tap0"),
    }
    assert not (folder / FILE_NAME).exists()
    wait_until(lambda: of_this_scenario(small.name) == [])
    assert list(run_dir.iterdir()) == []


class FakeBench:
    """Makes trials without a kernel: what is tried here is only which trials are made."""

    def __init__(self, *unused: object, **named: object) -> None:
        self.notes: dict[str, None] = {}
        self.running = SimpleNamespace(topology=SimpleNamespace(nodes=()))

    def __enter__(self) -> FakeBench:
        return self

    def __exit__(self, *unused: object) -> None:
        pass

    def run(self, planned: PlannedTrial, *, warm_up_s: float, started_s: float) -> Trial:
        traffic = Traffic(
            intended_pps=2000, frame_bytes=256, duration_ns=10**9, offered=9, delivered=9, lost=0,
            duplicated=0, reordered=0, corrupted=0,
        )  # fmt: skip
        return Trial(
            id=planned.id, phase=planned.pass_, point=planned.point, load=planned.load,
            frame_bytes=planned.frame_bytes, variant=planned.variant, pair=planned.pair,
            started_s=started_s, traffic=traffic,
        )  # fmt: skip


@pytest.fixture
def no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course, "Bench", FakeBench)
    monkeypatch.setattr(runner, "require_feasible", lambda *unused, **named: None)


def stop_after(done: int) -> Callable[[Step], None]:
    def progress(step: Step) -> None:
        if step.done == done:
            raise KeyboardInterrupt

    return progress


def interrupted(scenario: Scenario, folder: Path, *, after: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_scenario(scenario, quick=False, output_dir=folder, progress=stop_after(after))


@pytest.mark.usefixtures("no_kernel")
def test_what_ctrl_c_ended_is_read_and_can_go_on(small: Scenario, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    interrupted(small, folder, after=1)
    first = load_result(folder)
    assert first.interrupted
    assert len(first.trials) == 1

    # A new run would take its place.
    with pytest.raises(InputError, match="has not come to its end"):
        run_scenario(small, quick=False, output_dir=folder)
    made = run_scenario(small, quick=False, output_dir=folder, resume=True)
    assert not made.interrupted
    assert made.trials[0] == first.trials[0]
    assert made.started == first.started
    assert any("1 pair has trials before and after" in note for note in made.notes)
    assert not (folder / FILE_NAME).exists()
    with pytest.raises(InputError, match="no run to go on with"):
        run_scenario(small, quick=False, output_dir=folder, resume=True)


@pytest.mark.usefixtures("no_kernel")
def test_only_the_same_run_goes_on(
    small: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    interrupted(small, folder, after=1)
    before = lines(folder)

    def refused(scenario: Scenario, *, seed: int | None = None, quick: bool = False) -> str:
        with pytest.raises(InputError) as error:
            run_scenario(scenario, quick=quick, output_dir=folder, resume=True, seed=seed)
        assert error.value.exit_code == 2
        assert lines(folder) == before
        return str(error.value)

    text = SCENARIO.replace("NAME", small.name)
    changed = load(text.replace("2kpps", "3kpps"), tmp_path)
    assert "the scenario has changed since the run began, at " in refused(changed)
    longer = load(text.replace("repeats: 1, measure", "repeats: 2, measure"), tmp_path)
    assert "the scenario has changed since the run began, at text" in refused(longer)
    (first, *others) = small.topology.nodes
    moved = replace(
        small,
        topology=replace(small.topology, nodes=(replace(first, mac="02:00:00:00:00:99"), *others)),
    )
    assert "the topology has changed" in refused(moved)
    assert "the seed has changed" in refused(small, seed=99)
    assert "the scenario has changed since the run began, at form" in refused(small, quick=True)
    with monkeypatch.context() as patch:
        patch.setattr(runner, "code_digest", lambda: "9.9.9-another")
        assert "the program has changed" in refused(small)
    with monkeypatch.context() as patch:
        patch.setattr(runner, "machine_id", lambda: "another")
        assert "the machine has changed since the run began, at machine_id" in refused(small)


@pytest.mark.usefixtures("no_kernel")
def test_by_which_way_its_files_are_found_does_not_matter(
    small: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "near.yaml").write_text(
        "name: near\n"
        "topology:\n"
        "  nodes: {rsu1: {kind: rsu}, obu1: {kind: obu}}\n"
        "  links: [[rsu1, obu1]]\n"
    )
    text = SCENARIO.replace("NAME", small.name).replace("topology: pair", "topology: near.yaml")
    absolute = load(text, tmp_path)
    monkeypatch.chdir(tmp_path)
    relative = load_scenario("scenario.yaml")
    assert relative.topology.source != absolute.topology.source
    interrupted(relative, tmp_path / "out", after=1)
    # As `run --resume` does, which finds the file by its whole path, from wherever it is called.
    made = run_scenario(absolute, quick=False, output_dir=tmp_path / "out", resume=True)
    assert not made.interrupted


def test_two_runs_do_not_share_a_directory(tmp_path: Path) -> None:
    journal = RunJournal(tmp_path)
    with pytest.raises(InputError, match="a run is at work in this directory"):
        RunJournal(tmp_path)
    journal.close()


@pytest.mark.usefixtures("no_kernel")
def test_a_damaged_journal_is_refused_by_line(small: Scenario, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    interrupted(small, folder, after=2)
    path = folder / FILE_NAME
    whole = path.read_text()
    header, *rest = whole.splitlines()
    trial = next(number for number, line in enumerate(rest) if '"trial":' in line)
    for wrong, why in (
        ([*rest[:trial], rest[trial][:-9], *rest[trial + 1 :]], "damaged"),
        ([*rest, rest[trial]], "is there twice"),
        ([*rest, '{"what": 1}'], "no line of a run"),
    ):
        path.write_text("\n".join([header, *wrong]) + "\n")
        with pytest.raises(InputError, match=why) as error:
            past_of(folder)
        assert error.value.line == (trial + 2 if why == "damaged" else len(wrong) + 1)
    path.write_text(header.replace('"version":1', '"version":99') + "\n")
    with pytest.raises(InputError, match="another version"):
        past_of(folder)


def test_the_program_is_known_by_all_of_its_source() -> None:
    assert identity.code_digest() == identity.code_digest()
    version, _, digest = identity.code_digest().rpartition("-")
    assert version
    assert len(digest) == 16


def test_the_command_says_what_cannot_be_resumed(tmp_path: Path) -> None:
    for arguments in (("--resume", str(tmp_path)), ("--resume", str(tmp_path), "--output", "x")):
        refused = begin(*arguments)
        _, said = refused.communicate(timeout=60)
        assert refused.returncode == 2
        assert ("no run to go on with" in said) == (len(arguments) == 2)
    assert list(tmp_path.iterdir()) == []
