"""How far a run is, and how long the rest of it takes, from what its parts have cost so far.

Pure. Must not know how parts are made, nor who shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from testbed.experiment.trialplan import PlannedTrial, estimated_s
from testbed.scenario.model import Extent

_FIRST_GUESS_S: Final = 0.6
"""What a trial costs beyond its traffic, until that has been measured."""
_CHECKS_S: Final = 12.0
"""What the checks of some variants at once take, until that has been measured."""
_TRIALS_OF_A_SEARCH: Final = 16
"""What a search takes, until that has been measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """How far a run is: `done` of `total` trials, searches and rounds of checks, and seconds to go.

    `title` is what is at work.
    """

    done: int
    total: int
    title: str
    elapsed_s: float
    remaining_s: float


Progress = Callable[[Step], object]


class Pace:
    """What a trial costs beyond its traffic, and a search or a round of checks in all.

    Guessed first, then learned.
    """

    def __init__(self, extent: Extent) -> None:
        """Nothing has been measured yet."""
        self._overhead_s = _FIRST_GUESS_S
        self._search_s = _guess_search_s(extent)
        self._checks_s = _CHECKS_S

    def trial_took(self, planned: PlannedTrial, elapsed_s: float) -> None:
        """That trial took so long in all."""
        if planned.fresh:
            cost = elapsed_s - planned.duration_s
            self._overhead_s += 0.2 * (cost - self._overhead_s)

    def checks_took(self, elapsed_s: float) -> None:
        """A round of checks took so long."""
        self._checks_s = elapsed_s

    def search_took(self, elapsed_s: float, *, nth: int) -> None:
        """The search that was the `nth` of the run, from 1, took so long."""
        self._search_s += (elapsed_s - self._search_s) / min(4, nth)

    def remaining_s(
        self, trials: Iterable[PlannedTrial], *, searches: int, checks: int = 0
    ) -> float:
        """How long these trials and so many searches and rounds of checks will take."""
        trials_s = estimated_s(tuple(trials), warm_up_s=0.0, restart_s=self._overhead_s)
        return trials_s + searches * self._search_s + checks * self._checks_s


def _guess_search_s(extent: Extent) -> float:
    searching = extent.searching
    if searching is None:
        return 0.0
    trial_s = searching.trial_s + extent.warm_up_s + _FIRST_GUESS_S / 2
    return min(searching.longest_s, _TRIALS_OF_A_SEARCH * trial_s)
