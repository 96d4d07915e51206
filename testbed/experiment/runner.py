"""Runs a scenario: brings up what it needs, makes its trials in order, and always takes it down.

The result is in memory trial by trial and on disk in one piece; what was measured until a Ctrl-C is
kept. Must not know how a trial is made, nor what the figures come to.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from testbed import results
from testbed.experiment.rigs import Pins
from testbed.experiment.trial import Bench
from testbed.experiment.trialplan import PlannedTrial, estimated_s, plan_trials, replacements
from testbed.measure import environment
from testbed.measure.cpu import allowed_cpus
from testbed.results import Result
from testbed.results.store import save_result, write_atomically
from testbed.scenario.model import Point, Scenario, Variant, shortfalls
from testbed.traffic.legs import TesterCpus

DEFAULT_SEED: Final = 1
REPORT_NAME: Final = "report.md"
_LONGEST_NAME: Final = 32
_FIRST_GUESS_S: Final = 0.6
"""What a trial costs beyond its traffic, until that has been measured."""
_REPLACEMENT_ROUNDS: Final = 3
"""How many pairs a load may get anew where the tester spoiled some."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """How far a run is: `done` of `total` trials, what is at work, seconds gone and to go."""

    done: int
    total: int
    title: str
    elapsed_s: float
    remaining_s: float


Progress = Callable[[Step], object]


def choose_pins(cpus: Sequence[int]) -> tuple[Pins, str | None]:
    """Pins for these CPUs, and what is wrong with them.

    Nodes are alone on theirs; generator and sink have one each where there are three.
    """
    if not cpus:
        raise ValueError("there is no CPU to run on")
    first, *others = cpus
    if not others:
        note = "only one CPU: the tester and what is under test share it"
        return Pins(tester=TesterCpus.one(first), node=(first,)), note
    if len(others) == 1:
        return Pins(tester=TesterCpus.one(first), node=(others[0],)), None
    tester = TesterCpus(generator=(first,), sink=(others[0],))
    return Pins(tester=tester, node=(others[1],)), None


def run_scenario(
    scenario: Scenario,
    *,
    quick: bool,
    output_dir: str | Path,
    progress: Progress = lambda _: None,
    seed: int | None = None,
) -> Result:
    """Make all trials of the scenario and write `result.json` into `output_dir`.

    The topology comes up under a name of its own and is gone when this returns or raises. Whatever
    ends it early, Ctrl-C (KeyboardInterrupt) or an error: what was measured so far is written, and
    the exception goes on. A node that dies, and a trial that the tester spoiled, are in the
    result, not raised.

    :raises Lacking: the kernel or the rights do not suffice.
    :raises TestbedError: the testbed could not be made.
    """
    run = _Run(scenario, quick=quick, progress=progress, seed=seed)
    try:
        run.go()
    except BaseException as error:
        if run.trials:
            save_result(run.result(ended_by=error), output_dir)
        raise
    result = run.result()
    save_result(result, output_dir)
    return result


def write_reports(result: Result, directory: str | Path) -> tuple[Path, ...]:
    """Writes every report that is a file, from the result alone; the paths of what was written."""
    from testbed.report.markdown import render_markdown

    where = Path(directory)
    where.mkdir(parents=True, exist_ok=True)
    return (write_atomically(where / REPORT_NAME, render_markdown(result)),)


class _Run:
    """The state of one run. Its trials are only ever added to, by their number in the plan."""

    def __init__(
        self, scenario: Scenario, *, quick: bool, progress: Progress, seed: int | None
    ) -> None:
        self._scenario = scenario
        self._extent = scenario.extent(quick=quick)
        self._quick = quick
        self._progress = progress
        self._seed = DEFAULT_SEED if seed is None else seed
        self._plan = plan_trials(scenario, quick=quick)
        self._pins, note = choose_pins(allowed_cpus())
        self._tester_cpus = tuple(
            sorted({*(self._pins.tester.generator or ()), *(self._pins.tester.sink or ())})
        )
        self._machine = environment.machine()
        self._devices: dict[tuple[str, str], results.Device] = {}
        self._notes: dict[str, None] = {} if note is None else {note: None}
        self._began = time.monotonic()
        self._started = _now()
        self._overhead_s = _FIRST_GUESS_S
        self._left = {trial.id: trial for trial in self._plan}
        self._next_id = len(self._plan)
        self._seen: set[str] = set()
        self.trials: list[results.Trial] = []

    def go(self) -> None:
        """Every trial of the plan, point by point."""
        with _pinned(self._tester_cpus):
            for name in self._extent.points:
                planned = [trial for trial in self._plan if trial.point == name]
                if planned:
                    self._measure(self._scenario.point(name), planned)
            self._tell("done")

    def result(self, *, ended_by: BaseException | None = None) -> Result:
        """What there is so far; `ended_by` is what ended the run before its time."""
        if isinstance(ended_by, Exception):
            self._notes[f"the run ended early: {' '.join(str(ended_by).split()[:40])}"] = None
        return Result(
            started=self._started,
            finished=None if ended_by else _now(),
            elapsed_s=round(self._elapsed(), 3),
            interrupted=ended_by is not None,
            seed=self._seed,
            scenario=_described(self._scenario, quick=self._quick),
            topology=self._scenario.topology.to_json(),
            environment=self._environment(),
            trials=list(self.trials),
            notes=list(self._notes),
        )

    def _measure(self, point: Point, planned: Sequence[PlannedTrial]) -> None:
        self._tell(f"{point.name}: bringing the topology up")
        with Bench(
            self._scenario,
            point,
            testbed=_testbed_name(self._scenario.name),
            pins=self._pins,
        ) as bench:
            timing = [trial for trial in planned if trial.pass_ == "timing"]
            counting = [trial for trial in planned if trial.pass_ == "counting"]
            for trial in timing:
                self._make(bench, trial)
            for _ in range(_REPLACEMENT_ROUNDS):
                more = self._replacements(timing)
                timing += more
                for trial in more:
                    self._make(bench, trial)
            for trial in counting:
                self._make(bench, trial)
            self._notes.update(bench.notes)

    def _make(self, bench: Bench, trial: PlannedTrial) -> None:
        self._tell(f"{trial.point}, {trial.load} load, {trial.variant} ({trial.pass_})")
        begun = time.monotonic()
        made = bench.run(
            trial, warm_up_s=self._extent.warm_up_s, started_s=round(self._elapsed(), 3)
        )
        self.trials.append(made)
        self._left.pop(trial.id, None)
        if trial.fresh:
            cost = time.monotonic() - begun - trial.duration_s
            self._overhead_s += 0.2 * (cost - self._overhead_s)
        if trial.point not in self._seen:
            self._seen.add(trial.point)
            self._see_devices(bench)

    def _replacements(self, timing: Sequence[PlannedTrial]) -> list[PlannedTrial]:
        """What a node did wrong stands: only what the tester spoiled is made again."""
        spoiled = {trial.id for trial in self.trials if trial.spoiled_by_tester}
        more = [
            replace(trial, id=number)
            for number, trial in enumerate(
                replacements(self._scenario, timing, spoiled, pairs=self._extent.pairs),
                start=self._next_id,
            )
        ]
        self._next_id += len(more)
        self._left.update((trial.id, trial) for trial in more)
        return more

    def _see_devices(self, bench: Bench) -> None:
        """With the node running, so that its TAP is there."""
        running = bench.running
        names = [node.name for node in running.topology.nodes]
        for found in environment.devices((name, running.netns(name)) for name in names):
            self._devices.setdefault((found.node, found.name), results.Device(**asdict(found)))

    def _environment(self) -> results.Environment:
        about = asdict(self._machine)
        about["machine"] = about.pop("architecture")
        about["load_average"] = list(self._machine.load_average)
        return results.Environment(
            **about,
            devices=list(self._devices.values()),
            tester_cpus=list(self._tester_cpus),
            node_cpus=list(self._pins.node),
        )

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _tell(self, title: str) -> None:
        left = tuple(self._left.values())
        self._progress(
            Step(
                done=len(self.trials),
                total=len(self.trials) + len(left),
                title=title,
                elapsed_s=self._elapsed(),
                remaining_s=estimated_s(left, warm_up_s=0.0, restart_s=self._overhead_s),
            )
        )


def _described(scenario: Scenario, *, quick: bool) -> results.Scenario:
    """The scenario as it is run."""
    extent = scenario.extent(quick=quick)
    points = [scenario.point(name) for name in extent.points]
    return results.Scenario(
        name=scenario.name,
        description=scenario.description,
        kind=scenario.kind,
        form=extent.form,
        pairs=extent.pairs,
        warm_up_s=extent.warm_up_s,
        loads=[
            results.Load(
                name=load.name, rate_pps=load.rate_pps, duration_s=extent.trial_s[load.name]
            )
            for load in scenario.loads
        ],
        points=[
            results.Point(
                name=point.name,
                nodes=list(point.nodes),
                node_kind=(
                    scenario.topology.node(point.nodes[0]).kind if point.ends is None else "path"
                ),
                path=point.path,
                ends=None if point.ends is None else list(point.ends),
                tester_at=point.tester_at,
            )
            for point in points
        ],
        frame_bytes=list(extent.frame_bytes),
        flows=scenario.flows,
        variants=[_variant(scenario, variant, points[0]) for variant in scenario.variants],
        counting_s=None if extent.counting is None else extent.counting.trial_s,
        targets=list(scenario.targets),
        shortfalls=list(shortfalls(scenario, quick=quick)),
        source=scenario.source,
        text=scenario.text,
    )


def _variant(scenario: Scenario, variant: Variant, point: Point) -> results.Variant:
    settings = variant.settings(scenario.topology.node(point.nodes[0]))
    return results.Variant(
        name=variant.name,
        baseline=variant.baseline,
        settings=asdict(settings),
        passes=list(variant.passes),
    )


def _testbed_name(scenario: str) -> str:
    """A testbed name that no other run has, and that says where it comes from."""
    ending = f"-{os.getpid()}"
    kept = re.sub(r"[^a-zA-Z0-9_-]", "-", scenario)
    return f"run-{kept}"[: _LONGEST_NAME - len(ending)] + ending


@contextmanager
def _pinned(cpus: Sequence[int]) -> Iterator[None]:
    """This thread on the tester's CPUs, so that it never runs on the node's."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
