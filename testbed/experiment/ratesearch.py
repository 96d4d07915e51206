"""Searches the rate up to which nothing is lost (NDR), or next to nothing (PDR).

RFC 2544, section 26.1, as FD.io does it: `MLRsearch` decides which load is tried next, for how
long, and when a load is a bound. The only module that imports it. Must not know how a trial is
made, nor what a search is compared with.

A load that the tester could not offer, or whose frames it could not count, is tried again, unless
the node lost too much even of what was offered. If it cannot be offered at all it counts as lost,
so that the search goes on below; but a bound that comes of that is the tester's and not the node's:
it is left out, and what was found is "at least".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from MLRsearch import (
    AbstractMeasurer,
    Config,
    GoalResult,
    MeasurementResult,
    MultipleLossRatioSearch,
    SearchGoal,
)

from testbed.results import Bound, SearchTrial
from testbed.scenario.model import GoalName, Searching

_AGAIN: Final = 2
"""How often a load is tried again that the tester has spoiled."""
_PRECEDING: Final = 2
"""Coarser targets before the final one; they save trials far away from the rate."""

Measure = Callable[[float, float], SearchTrial]
"""Makes a trial at a rate in packets per second, over a time in seconds."""


class SearchBroken(Exception):
    """The search cannot go on: what it measures has failed. `str()` says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a search came to. `why` says why it did not converge, in words."""

    bounds: tuple[Bound, ...]
    trials: tuple[SearchTrial, ...]
    ended: Literal["converged", "time", "failed"]
    why: str | None


def search(
    wanted: Searching, measure: Measure, *, clock: Callable[[], float] = time.monotonic
) -> Found:
    """Search for every goal at once; each trial counts for all of them.

    `measure` may raise SearchBroken. What was found until a search was broken, or took too long,
    is in what returns.
    """
    goals = {name: _goal(wanted, loss_ratio) for name, loss_ratio in wanted.goals.items()}
    controller = MultipleLossRatioSearch(
        config=Config(
            goals=tuple(goals.values()),
            min_load=wanted.lowest_pps,
            max_load=wanted.highest_pps,
            search_duration_max=wanted.longest_s,
            warmup_duration=None,
        )
    )
    measurer = _Measurer(measure, max(wanted.goals.values()))
    ended: Literal["converged", "time", "failed"] = "converged"
    why: str | None = None
    deadline = clock() + wanted.longest_s
    try:
        controller.search(measurer, debug=_nothing)
    except SearchBroken as error:
        ended, why = "failed", str(error)
    except RuntimeError as error:
        # MLRsearch has no error of its own for either.
        ended = "time" if clock() >= deadline else "failed"
        why = (
            f"it took longer than {wanted.longest_s:g} s"
            if ended == "time"
            else f"the search came to no end: {error}"
        )
    found = _bounds_of(controller, goals)
    return Found(
        bounds=tuple(
            _bound(name, goal.loss_ratio, found[name], measurer.trials)
            for name, goal in goals.items()
        ),
        trials=tuple(measurer.trials),
        ended=ended,
        why=why,
    )


class _Measurer(AbstractMeasurer):  # type: ignore[misc, unused-ignore]
    """The one method through which MLRsearch sees a node, and every trial that was made."""

    def __init__(self, make: Measure, loss_ratio: float) -> None:
        """`loss_ratio` is the largest that any goal allows."""
        self._make = make
        self._loss_ratio = loss_ratio
        self.trials: list[SearchTrial] = []

    def measure(self, intended_duration: float, intended_load: float) -> MeasurementResult:
        for _ in range(1 + _AGAIN):
            trial = self._make(intended_load, intended_duration)
            self.trials.append(trial)
            if not spoiled(trial, self._loss_ratio):
                break
        # What was never offered counts as lost only where too little was: pacing may be a packet
        # off.
        short = any(marked.mark == "generator-limited" for marked in trial.marks)
        intended = round(intended_load * intended_duration) if short else trial.offered
        return MeasurementResult(
            intended_duration=intended_duration,
            intended_load=intended_load,
            intended_count=max(intended, trial.offered),
            offered_count=trial.offered,
            forwarding_count=trial.delivered,
        )


def spoiled(trial: SearchTrial, loss_ratio: float) -> bool:
    """Whether the tester was the limit, so that the trial does not tell what the node loses.

    A node that lost more than `loss_ratio` of fewer packets than intended would have lost more of
    all of them.
    """
    marks = {marked.mark for marked in trial.marks}
    return "sink-limited" in marks or (
        "generator-limited" in marks and trial.lost <= loss_ratio * trial.offered
    )


def _goal(wanted: Searching, loss_ratio: float) -> SearchGoal:
    return SearchGoal(
        loss_ratio=loss_ratio,
        exceed_ratio=wanted.exceed_ratio,
        relative_width=wanted.width,
        initial_trial_duration=wanted.first_trial_s,
        final_trial_duration=wanted.trial_s,
        duration_sum=max(wanted.bound_s, wanted.trial_s),
        preceding_targets=_PRECEDING,
        # Losing at the lowest load is a result, not an error.
        fail_fast=False,
    )


def _bounds_of(
    controller: MultipleLossRatioSearch, goals: dict[GoalName, SearchGoal]
) -> dict[GoalName, GoalResult]:
    """The bounds as they are now, whether the search came to its end or not."""
    database = controller.database
    return {
        name: GoalResult.from_bounds(
            database.get_relevant_bounds(controller.scaling.goal_to_final_target[goal])
        )
        for name, goal in goals.items()
    }


def _bound(
    name: GoalName, loss_ratio: float, found: GoalResult, trials: Sequence[SearchTrial]
) -> Bound:
    lower, upper = _rate(found.relevant_lower_bound), _rate(found.relevant_upper_bound)
    at_upper = _at(trials, upper)
    told = [trial for trial in at_upper if not spoiled(trial, loss_ratio)]
    bad = sum(trial.lost > loss_ratio * trial.offered for trial in told)
    by_tester = len(at_upper) - len(told) > bad
    return Bound(
        goal=name,
        loss_ratio=loss_ratio,
        lower_pps=lower,
        upper_pps=None if by_tester else upper,
        throughput_pps=_rate(found.conditional_throughput),
        lower_trials=sum(not spoiled(trial, loss_ratio) for trial in _at(trials, lower)),
        upper_trials=0 if by_tester else len(told),
        tester_limited=by_tester,
    )


def _rate(bound: Any) -> float | None:
    """A load of MLRsearch in packets per second."""
    return None if bound is None else float(bound)


def _at(trials: Sequence[SearchTrial], rate_pps: float | None) -> list[SearchTrial]:
    return [trial for trial in trials if trial.intended_pps == rate_pps]


def _nothing(_: str) -> None:
    """MLRsearch tells of every step; the trials are kept anyway."""
