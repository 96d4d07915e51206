"""Which trials and searches a scenario makes, in which order. Pure: the same each time.

Must not know how one is made. The order is the point of it: within every cell the variants
alternate A B B A …, the trials of a pair follow each other at once, and the pairs of a cell are
spread over the whole run, so that a bad stretch of a shared machine costs every cell a pair rather
than one cell all of its pairs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from testbed.scenario.model import Extent, FrameSize, PassName, Scenario, TrialPass, Variant


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedTrial:
    """One trial to come. `fresh` asks for a newly started node, and a warm-up, before it."""

    id: int
    pass_: TrialPass
    point: str
    load: str
    frame_bytes: FrameSize
    variant: str
    pair: int
    duration_s: float
    fresh: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedSearch:
    """One search for lossless rates to come, with a newly started node."""

    id: int
    point: str
    frame_bytes: FrameSize
    variant: str
    pair: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """All trials and searches of a run, each in order."""

    trials: tuple[PlannedTrial, ...]
    searches: tuple[PlannedSearch, ...]

    @property
    def digest(self) -> str:
        """A text that is different where the plan is."""
        return hashlib.sha256(repr((self.trials, self.searches)).encode()).hexdigest()[:16]

    def torn(self, made: Collection[int]) -> int:
        """How many pairs have trials among those `made`, by their number, and others.

        Of a pair, trials should follow each other at once: an interruption between them is time
        in which the machine may have drifted.
        """
        pairs: dict[tuple[str, str, FrameSize, int], set[bool]] = {}
        for trial in self.trials:
            if trial.pass_ == "timing":
                key = (trial.point, trial.load, trial.frame_bytes, trial.pair)
                pairs.setdefault(key, set()).add(trial.id in made)
        return sum(len(states) == 2 for states in pairs.values())


def plan_run(scenario: Scenario, *, quick: bool) -> Plan:
    """The plan of a whole run."""
    return Plan(
        trials=plan_trials(scenario, quick=quick), searches=plan_searches(scenario, quick=quick)
    )


def plan_searches(scenario: Scenario, *, quick: bool) -> tuple[PlannedSearch, ...]:
    """Every search of the run, in order; variants alternate as they do in trials."""
    extent = scenario.extent(quick=quick)
    searching = extent.searching
    if searching is None:
        return ()
    found = []
    for point in (name for name in extent.points if name in searching.points):
        for pair in range(searching.pairs):
            turn = pair
            for size in extent.frame_bytes:
                variants = _taking_part(scenario, "search", None)
                found += [
                    (point, size, variant.name, pair)
                    for variant in (variants if turn % 2 == 0 else reversed(variants))
                ]
                turn += 1
    return tuple(
        PlannedSearch(id=number, point=point, frame_bytes=size, variant=variant, pair=pair)
        for number, (point, size, variant, pair) in enumerate(found)
    )


def plan_trials(scenario: Scenario, *, quick: bool) -> tuple[PlannedTrial, ...]:
    """Every trial of the run, in order: for each point the timing pass, then the counting pass."""
    extent = scenario.extent(quick=quick)
    steps = [
        step
        for point in extent.points
        for step in (*_timing(scenario, extent, point), *_counting(scenario, extent, point))
    ]
    return tuple(
        PlannedTrial(
            id=number,
            pass_=pass_,
            point=point,
            load=load,
            frame_bytes=size,
            variant=variant,
            pair=pair,
            duration_s=duration_s,
            fresh=fresh,
        )
        for number, (pass_, point, load, size, variant, pair, duration_s, fresh) in enumerate(steps)
    )


def replacements(
    scenario: Scenario, made: Sequence[PlannedTrial], spoiled: Collection[int], *, pairs: int
) -> tuple[PlannedTrial, ...]:
    """One more pair for each cell of which the tester has spoiled some and too few are left.

    `made` are all timing trials of a point until now, `spoiled` the numbers of those that were
    spoiled. The new ones have no number yet: they come after everything else that is planned.
    """
    cells: dict[tuple[str, FrameSize], list[PlannedTrial]] = {}
    for trial in made:
        cells.setdefault((trial.load, trial.frame_bytes), []).append(trial)
    more: list[PlannedTrial] = []
    for there in cells.values():
        numbers = {trial.pair for trial in there}
        lost = {trial.pair for trial in there if trial.id in spoiled}
        if not lost or len(numbers - lost) >= pairs:
            continue
        pair = max(numbers) + 1
        variants = _taking_part(scenario, "timing", there[0].load)
        more += [
            replace(there[0], id=-1, variant=variant.name, pair=pair, fresh=True)
            for variant in (variants if pair % 2 == 0 else reversed(variants))
        ]
    return tuple(more)


_Step = tuple[TrialPass, str, str, FrameSize, str, int, float, bool]


def _timing(scenario: Scenario, extent: Extent, point: str) -> Iterator[_Step]:
    for pair in range(extent.pairs):
        turn = pair
        for size in extent.frame_bytes:
            for load in _loads(scenario, extent.loads, point):
                variants = _taking_part(scenario, "timing", load)
                # The order flips from pair to pair, and from load to load within a pair.
                for variant in variants if turn % 2 == 0 else reversed(variants):
                    yield (
                        "timing", point, load, size, variant.name, pair, extent.trial_s[load], True
                    )  # fmt: skip
                turn += 1


def _counting(scenario: Scenario, extent: Extent, point: str) -> Iterator[_Step]:
    """Counts hardly drift, so a variant keeps one life of the node for all its stretches."""
    counting = extent.counting
    if counting is None or point not in counting.points:
        return
    for size in extent.frame_bytes[:1]:
        for load in _loads(scenario, counting.loads, point):
            for variant in _taking_part(scenario, "counting", load):
                for pair in range(counting.repeats):
                    yield (
                        "counting", point, load, size, variant.name, pair, counting.trial_s,
                        pair == 0,
                    )  # fmt: skip


def _loads(scenario: Scenario, among: Sequence[str], point: str) -> list[str]:
    wanted = scenario.point(point).loads
    return [load for load in among if load in wanted]


def _taking_part(scenario: Scenario, pass_: PassName, load: str | None) -> list[Variant]:
    """The variants of a pass at a load, if it has loads; the baseline first."""
    there = [
        variant
        for variant in scenario.variants
        if pass_ in variant.passes
        and (load is None or variant.loads is None or load in variant.loads)
    ]
    return sorted(there, key=lambda variant: not variant.baseline)


def estimated_s(plan: tuple[PlannedTrial, ...], *, warm_up_s: float, restart_s: float) -> float:
    """How long the plan will take, in seconds, if a restart costs `restart_s`."""
    return sum(step.duration_s + (warm_up_s + restart_s if step.fresh else 0) for step in plan)
