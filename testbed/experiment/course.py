"""The course of a run: its checks, then its trials and searches, point by point and in order.

What the record has already is not made again. Must not know how a check, a trial or a search is
made, nor what becomes of the record.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from typing import Final

from testbed.checks.suite import rounds, run_checks
from testbed.experiment.pinning import Pins, pinned
from testbed.experiment.progress import Pace, Progress, Step
from testbed.experiment.record import Record
from testbed.experiment.surroundings import devices
from testbed.experiment.trial import Bench
from testbed.experiment.trialplan import Plan, PlannedSearch, PlannedTrial, replacements
from testbed.results import CheckKind
from testbed.running import lifecycle
from testbed.scenario.model import Point, Scenario, Variant

_LONGEST_NAME: Final = 32
_REPLACEMENT_ROUNDS: Final = {"full": 2, "quick": 1}
"""How many pairs a load may get anew where the tester spoiled some; a quick run has to be quick."""


class Course:
    """Makes the parts of a plan that the record lacks, each in the record once it has ended."""

    def __init__(
        self,
        scenario: Scenario,
        plan: Plan,
        record: Record,
        *,
        quick: bool,
        pins: Pins,
        progress: Progress,
    ) -> None:
        """Nothing is made yet."""
        self._scenario = scenario
        self._extent = scenario.extent(quick=quick)
        self._plan = plan
        self._record = record
        self._pins = pins
        self._progress = progress
        self._pace = Pace(self._extent)
        self._left = {trial.id: trial for trial in plan.trials if trial.id not in record.trials}
        self._next_id = len(plan.trials)
        self._seen: set[str] = set()
        self._rounds = self._rounds_left = rounds(len(self._unchecked()))

    def run(self) -> None:
        """To the end of the plan. What a run before has left up is taken down first."""
        for name in self._record.stale:
            lifecycle.down(name)
        self._check()
        with pinned(self._pins.tester_cpus):
            for name in self._extent.points:
                planned = [trial for trial in self._plan.trials if trial.point == name]
                searches = [search for search in self._plan.searches if search.point == name]
                self._measure(self._scenario.point(name), planned, searches)
            self._replace()
            self._tell("done")

    def _check(self) -> None:
        """What every variant has to go through first. On all CPUs: nothing is timed here."""
        made = self._made_checks()
        variants = self._unchecked()
        if not variants:
            return
        begun: float | None = None

        def tell(title: str | None) -> None:
            """A round begins, or (None) all have ended."""
            nonlocal begun
            now = time.monotonic()
            if begun is not None:
                self._rounds_left -= 1
                self._pace.checks_took(now - begun)
            begun = now
            if title is not None:
                self._tell(title)

        found = run_checks(
            variants,
            self._scenario.checks,
            testbed=self._new_testbed(),
            quick=self._extent.form == "quick",
            progress=tell,
        )
        tell(None)
        for check in found:
            if (check.variant, check.kind) not in made:
                self._record.add(check)

    def _made_checks(self) -> set[tuple[str, CheckKind]]:
        return {(check.variant, check.kind) for check in self._record.checks}

    def _unchecked(self) -> list[Variant]:
        made = self._made_checks()
        return [
            variant
            for variant in self._scenario.variants
            if any((variant.name, kind) not in made for kind in self._scenario.checks.which)
        ]

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
            for search in searches:
                self._search(bench, search)
            for trial in counting:
                self._make(bench, trial)

    def _replace(self) -> None:
        """Pairs that the tester spoiled are made again, all else having been measured.

        What spoils them is most often somebody else on the host, for minutes: so not at once.
        """
        timing = {
            name: [t for t in self._plan.trials if (t.point, t.pass_) == (name, "timing")]
            for name in self._extent.points
        }
        for _ in range(_REPLACEMENT_ROUNDS[self._extent.form]):
            for name, made in timing.items():
                more = self._replacements(made)
                made += more
                self._measure(self._scenario.point(name), more, ())

    def _bench(self, point: Point) -> Bench:
        self._tell(f"{point.name}: bringing the topology up")
        return Bench(self._scenario, point, testbed=self._new_testbed(), pins=self._pins)

    def _make(self, bench: Callable[[], Bench], planned: PlannedTrial) -> None:
        if planned.id in self._record.trials:
            return
        there = bench()
        self._tell(f"{planned.point}, {planned.load} load, {planned.variant} ({planned.pass_})")
        begun = time.monotonic()
        made = there.run(
            planned,
            warm_up_s=self._extent.warm_up_s,
            started_s=round(self._record.elapsed_s, 3),
        )
        self._see_devices(there, planned.point)
        for note in there.notes:
            self._record.note(note)
        self._record.add(made)
        self._left.pop(planned.id, None)
        self._pace.trial_took(planned, time.monotonic() - begun)

    def _search(self, bench: Callable[[], Bench], planned: PlannedSearch) -> None:
        if planned.id in self._record.searches:
            return
        there = bench()
        searching = self._extent.searching
        assert searching is not None
        self._tell(f"{planned.point}, {planned.variant} (search {planned.pair + 1})")
        made = there.search(
            planned,
            searching,
            warm_up_s=self._extent.warm_up_s,
            started_s=round(self._record.elapsed_s, 3),
        )
        self._see_devices(there, planned.point)
        for note in there.notes:
            self._record.note(note)
        self._record.add(made)
        self._pace.search_took(made.elapsed_s, nth=len(self._record.searches))

    def _replacements(self, timing: Sequence[PlannedTrial]) -> list[PlannedTrial]:
        """What a node did wrong stands: only what the tester spoiled is made again.

        They come of the trials before them alone, so a run that is taken up finds the same ones,
        with the same numbers.
        """
        made = self._record.trials
        spoiled = {trial.id for trial in made.values() if trial.spoiled_by_tester}
        more = [
            replace(trial, id=number)
            for number, trial in enumerate(
                replacements(self._scenario, timing, spoiled, pairs=self._extent.pairs),
                start=self._next_id,
            )
        ]
        self._next_id += len(more)
        self._left.update((trial.id, trial) for trial in more if trial.id not in made)
        return more

    def _see_devices(self, bench: Bench, point: str) -> None:
        """After the first part of a point, with the node running, so that its TAP is there.

        Before that part is in the record, so that a run that is killed in between looks again.
        """
        if point not in self._seen:
            self._seen.add(point)
            self._record.devices(devices(bench.running))

    def _new_testbed(self) -> str:
        """The name of a testbed that is about to be made, in the record before it is."""
        name = testbed_name_of(self._scenario.name)
        self._record.testbed(name)
        return name

    def _tell(self, title: str) -> None:
        searches = len(self._plan.searches) - len(self._record.searches)
        checked = self._rounds - self._rounds_left
        done = len(self._record.trials) + len(self._record.searches) + checked
        self._progress(
            Step(
                done=done,
                total=done + len(self._left) + searches + self._rounds_left,
                title=title,
                elapsed_s=self._record.elapsed_s,
                remaining_s=self._pace.remaining_s(
                    self._left.values(), searches=searches, checks=self._rounds_left
                ),
            )
        )


def testbed_name_of(scenario: str) -> str:
    """A testbed name that no other run has, and that says where it comes from."""
    ending = f"-{os.getpid()}"
    kept = re.sub(r"[^a-zA-Z0-9_-]", "-", scenario)
    return f"run-{kept}"[: _LONGEST_NAME - len(ending)] + ending
