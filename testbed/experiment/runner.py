"""Runs a scenario: brings up what it needs, makes its trials in order, and always takes it down.

Each trial is in the journal as soon as it has ended, so that a run that was interrupted, or killed,
goes on where it was; the result is written in one piece. Must not know how a trial is made, nor
what the figures come to.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Final

from agent.config import SLOW_VARIABLE
from testbed import results
from testbed.checks.suite import run_checks
from testbed.container import inside
from testbed.experiment.described import described
from testbed.experiment.feasible import require_feasible
from testbed.experiment.rigs import Pins
from testbed.experiment.runjournal import (
    Header,
    RunJournal,
    code_digest,
    machine_id,
    require_same,
)
from testbed.experiment.trial import Bench
from testbed.experiment.trialplan import (
    PlannedSearch,
    PlannedTrial,
    estimated_s,
    plan_searches,
    plan_trials,
    replacements,
)
from testbed.files import yamlfile
from testbed.measure import environment
from testbed.measure.cpu import allowed_cpus
from testbed.results import Result
from testbed.results.store import save_result
from testbed.running import lifecycle
from testbed.scenario.model import FrameSize, Point, Scenario
from testbed.traffic.legs import TesterCpus

DEFAULT_SEED: Final = 1
_LONGEST_NAME: Final = 32
_FIRST_GUESS_S: Final = 0.6
"""What a trial costs beyond its traffic, until that has been measured."""
_TRIALS_OF_A_SEARCH: Final = 16
"""What a search takes, until that has been measured."""
_REPLACEMENT_ROUNDS: Final = 3
"""How many pairs a load may get anew where the tester spoiled some."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """How far a run is: `done` of `total` trials and searches, what is at work, seconds to go."""

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
    resume: bool = False,
) -> Result:
    """Make all trials of the scenario and write `result.json` into `output_dir`.

    The topology comes up under a name of its own and is gone when this returns or raises. Whatever
    ends it early, Ctrl-C (KeyboardInterrupt) or an error: what was measured so far is written, and
    the exception goes on. A node that dies, and a trial that the tester spoiled, are in the
    result, not raised. With `resume` it goes on with the run whose journal is in `output_dir`:
    takes down what that has left, and makes the trials that it has not.

    :raises InputError: there is a run in `output_dir` already, or, to resume, none or another one.
    :raises Lacking: the kernel or the rights do not suffice; nothing was made.
    :raises TestbedError: the testbed could not be made.
    """
    run = _Run(scenario, quick=quick, progress=progress, seed=seed)
    journal = RunJournal(output_dir)
    try:
        if resume:
            run.take_up(journal)
        else:
            run.begin(journal)
        try:
            require_feasible(scenario, quick=quick)
            run.go()
        except BaseException as error:
            if run.measured or run.checks:
                save_result(run.result(ended_by=error), output_dir)
            elif not resume:
                journal.discard()
            raise
        result = run.result()
        save_result(result, output_dir)
        journal.discard()
    finally:
        journal.close()
    return result


class _Run:
    """The state of one run. Its trials are only ever added to, by their number in the plan."""

    def __init__(
        self, scenario: Scenario, *, quick: bool, progress: Progress, seed: int | None
    ) -> None:
        self._scenario = scenario
        self._extent = scenario.extent(quick=quick)
        self._progress = progress
        self._seed = DEFAULT_SEED if seed is None else seed
        self._plan = plan_trials(scenario, quick=quick)
        self._search_plan = plan_searches(scenario, quick=quick)
        self._pins, note = choose_pins(allowed_cpus())
        self._tester_cpus = tuple(
            sorted({*(self._pins.tester.generator or ()), *(self._pins.tester.sink or ())})
        )
        self._described = described(scenario, quick=quick)
        self._environment = self._look_around()
        self._devices: dict[tuple[str, str], results.Device] = {}
        self._notes = dict.fromkeys([*inside.notes(), *([] if note is None else [note])])
        if os.environ.get(SLOW_VARIABLE, "0") != "0":
            slow = f"nodes were slowed down on purpose: {SLOW_VARIABLE}={os.environ[SLOW_VARIABLE]}"
            self._notes[slow] = None
        self._began = time.monotonic()
        self._started = _now()
        self._overhead_s = _FIRST_GUESS_S
        self._left = {trial.id: trial for trial in self._plan}
        self._next_id = len(self._plan)
        self._seen: set[str] = set()
        self.checks: list[results.Check] = []
        self._journal: RunJournal | None = None
        self._made: dict[int, results.Trial] = {}
        self._searches: dict[int, results.Search] = {}
        self._search_s = self._guess_search_s()
        self._stale: list[str] = []

    @property
    def trials(self) -> list[results.Trial]:
        """What was measured until now, in the order in which it was."""
        return list(self._made.values())

    @property
    def measured(self) -> bool:
        """Whether there is anything to keep."""
        return bool(self._made or self._searches)

    def begin(self, journal: RunJournal) -> None:
        """This is a new run, with that journal."""
        journal.begin(self._header())
        self._journal = journal

    def take_up(self, journal: RunJournal) -> None:
        """This is the run of that journal.

        :raises InputError: it is not, or there is none.
        """
        past = journal.resume()
        require_same(self._header(), past.header, file=str(journal.path))
        self._journal = journal
        self._stale = past.testbeds
        self._started = past.header.started
        self._described = past.header.scenario
        self._environment = past.header.environment
        self._began -= past.elapsed_s
        self.checks = list(past.checks)
        self._made = dict(past.trials)
        self._searches = dict(past.searches)
        self._notes.update(dict.fromkeys(past.notes))
        for device in past.devices:
            self._devices[device.node, device.name] = device
        for number in self._made:
            self._left.pop(number, None)
        self._note(
            f"interrupted after {self._so_far()} and taken up again at {_now()}, " + self._torn()
        )

    def go(self) -> None:
        """The checks, and every trial of the plan, that are not made yet; those point by point."""
        for name in self._stale:
            lifecycle.down(name)
        self._check()
        with _pinned(self._tester_cpus):
            for name in self._extent.points:
                planned = [trial for trial in self._plan if trial.point == name]
                searches = [search for search in self._search_plan if search.point == name]
                if planned or searches:
                    self._measure(self._scenario.point(name), planned, searches)
            self._tell("done")

    def result(self, *, ended_by: BaseException | None = None) -> Result:
        """What there is so far; `ended_by` is what ended the run before its time."""
        if isinstance(ended_by, Exception):
            self._notes[f"the run ended early: {' '.join(str(ended_by).split()[:40])}"] = None
        environment = self._environment.model_copy(update={"devices": list(self._devices.values())})
        return Result(
            started=self._started,
            finished=None if ended_by else _now(),
            elapsed_s=round(self._elapsed(), 3),
            interrupted=ended_by is not None,
            seed=self._seed,
            scenario=self._described,
            topology=self._scenario.topology.to_json(),
            environment=environment,
            checks=self.checks,
            trials=self.trials,
            searches=list(self._searches.values()),
            notes=list(self._notes),
        )

    def _check(self) -> None:
        """What every variant has to go through first. On all CPUs: nothing is timed here."""
        wanted = self._scenario.checks
        made = {(check.variant, check.kind) for check in self.checks}
        variants = [
            variant
            for variant in self._scenario.variants
            if any((variant.name, kind) not in made for kind in wanted.which)
        ]
        if not variants:
            return
        name = testbed_name_of(self._scenario.name)
        self._journaled.testbed(name)
        found = run_checks(
            variants,
            wanted,
            testbed=name,
            quick=self._extent.form == "quick",
            progress=self._tell,
        )
        for check in found:
            if (check.variant, check.kind) not in made:
                self._journaled.ended(check, elapsed_s=round(self._elapsed(), 3))
                self.checks.append(check)

    def _measure(
        self, point: Point, planned: Sequence[PlannedTrial], searches: Sequence[PlannedSearch]
    ) -> None:
        with ExitStack() as stack:

            @cache
            def bench() -> Bench:
                """The topology comes up when the first trial wants it, if any does."""
                return stack.enter_context(self._bench(point))

            timing = [trial for trial in planned if trial.pass_ == "timing"]
            counting = [trial for trial in planned if trial.pass_ == "counting"]
            for trial in timing:
                self._make(bench, trial)
            for _ in range(_REPLACEMENT_ROUNDS):
                more = self._replacements(timing)
                timing += more
                for trial in more:
                    self._make(bench, trial)
            for search in searches:
                self._search(bench, search)
            for trial in counting:
                self._make(bench, trial)

    def _bench(self, point: Point) -> Bench:
        self._tell(f"{point.name}: bringing the topology up")
        name = testbed_name_of(self._scenario.name)
        self._journaled.testbed(name)
        return Bench(self._scenario, point, testbed=name, pins=self._pins)

    def _make(self, bench: Callable[[], Bench], trial: PlannedTrial) -> None:
        if trial.id in self._made:
            return
        there = bench()
        self._tell(f"{trial.point}, {trial.load} load, {trial.variant} ({trial.pass_})")
        begun = time.monotonic()
        made = there.run(
            trial, warm_up_s=self._extent.warm_up_s, started_s=round(self._elapsed(), 3)
        )
        # Before the trial, so that a run that is killed in between looks again.
        if trial.point not in self._seen:
            self._seen.add(trial.point)
            self._see_devices(there)
        for note in there.notes:
            self._note(note)
        self._journaled.ended(made, elapsed_s=round(self._elapsed(), 3))
        self._made[trial.id] = made
        self._left.pop(trial.id, None)
        if trial.fresh:
            cost = time.monotonic() - begun - trial.duration_s
            self._overhead_s += 0.2 * (cost - self._overhead_s)

    def _search(self, bench: Callable[[], Bench], planned: PlannedSearch) -> None:
        if planned.id in self._searches:
            return
        there = bench()
        searching = self._extent.searching
        assert searching is not None
        self._tell(f"{planned.point}, {planned.variant} (search {planned.pair + 1})")
        made = there.search(
            planned,
            searching,
            warm_up_s=self._extent.warm_up_s,
            started_s=round(self._elapsed(), 3),
        )
        if planned.point not in self._seen:
            self._seen.add(planned.point)
            self._see_devices(there)
        self._journaled.ended(made, elapsed_s=round(self._elapsed(), 3))
        self._searches[planned.id] = made
        self._search_s += (made.elapsed_s - self._search_s) / min(4, len(self._searches))

    def _guess_search_s(self) -> float:
        searching = self._extent.searching
        if searching is None:
            return 0.0
        trial_s = searching.trial_s + self._extent.warm_up_s + _FIRST_GUESS_S / 2
        return min(searching.longest_s, _TRIALS_OF_A_SEARCH * trial_s)

    def _so_far(self) -> str:
        trials = f"{len(self._made)} trials"
        return f"{trials} and {len(self._searches)} searches" if self._searches else trials

    def _replacements(self, timing: Sequence[PlannedTrial]) -> list[PlannedTrial]:
        """What a node did wrong stands: only what the tester spoiled is made again.

        They come of the trials before them alone, so a run that is taken up finds the same ones,
        with the same numbers.
        """
        spoiled = {trial.id for trial in self.trials if trial.spoiled_by_tester}
        more = [
            replace(trial, id=number)
            for number, trial in enumerate(
                replacements(self._scenario, timing, spoiled, pairs=self._extent.pairs),
                start=self._next_id,
            )
        ]
        self._next_id += len(more)
        self._left.update((trial.id, trial) for trial in more if trial.id not in self._made)
        return more

    def _see_devices(self, bench: Bench) -> None:
        """With the node running, so that its TAP is there."""
        running = bench.running
        names = [node.name for node in running.topology.nodes]
        found = [
            results.Device(**asdict(device))
            for device in environment.devices((name, running.netns(name)) for name in names)
        ]
        for device in found:
            self._devices.setdefault((device.node, device.name), device)
        self._journaled.devices(found)

    def _note(self, text: str) -> None:
        if text not in self._notes:
            self._notes[text] = None
            self._journaled.note(text)

    @property
    def _journaled(self) -> RunJournal:
        assert self._journal is not None, "begin or take_up comes first"
        return self._journal

    def _header(self) -> Header:
        return Header(
            started=self._started,
            seed=self._seed,
            file=_absolute(self._scenario.source),
            scenario=self._described,
            topology=self._scenario.topology.to_json(),
            environment=self._environment,
            plan=hashlib.sha256(repr((self._plan, self._search_plan)).encode()).hexdigest()[:16],
            code=code_digest(),
            machine_id=machine_id(),
        )

    def _look_around(self) -> results.Environment:
        machine = environment.machine()
        about = asdict(machine)
        about["machine"] = about.pop("architecture")
        about["load_average"] = list(machine.load_average)
        return results.Environment(
            **about, tester_cpus=list(self._tester_cpus), node_cpus=list(self._pins.node)
        )

    def _torn(self) -> str:
        """How many pairs have trials before and after an interruption, which drift may tell apart.

        Of a pair, trials should follow each other at once.
        """
        pairs: dict[tuple[str, str, FrameSize, int], set[bool]] = {}
        for trial in self._plan:
            if trial.pass_ == "timing":
                key = (trial.point, trial.load, trial.frame_bytes, trial.pair)
                pairs.setdefault(key, set()).add(trial.id in self._made)
        torn = sum(len(states) == 2 for states in pairs.values())
        if not torn:
            return "between two pairs"
        return f"{torn} {'pair has' if torn == 1 else 'pairs have'} trials before and after it"

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _tell(self, title: str) -> None:
        left = tuple(self._left.values())
        searches = len(self._search_plan) - len(self._searches)
        done = len(self._made) + len(self._searches)
        trials_s = estimated_s(left, warm_up_s=0.0, restart_s=self._overhead_s)
        self._progress(
            Step(
                done=done,
                total=done + len(left) + searches,
                title=title,
                elapsed_s=self._elapsed(),
                remaining_s=trials_s + searches * self._search_s,
            )
        )


def _absolute(source: str | None) -> str | None:
    """The scenario's file, wherever the run is taken up; None if it came from standard input."""
    return None if source in (None, yamlfile.STDIN) else os.path.abspath(str(source))


def testbed_name_of(scenario: str) -> str:
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
