"""The search for lossless rates, of nodes whose capacity is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import MLRsearch.multiple_loss_ratio_search as library
import pytest

from testbed.experiment.ratesearch import Found, SearchBroken, search
from testbed.results import Bound, Marked, SearchTrial
from testbed.scenario.model import Searching
from testbed.scenario.searches import DEFAULTS

WANTED = replace(DEFAULTS, lowest_pps=100, highest_pps=400_000, bound_s=3, points=("p",))


class Node:
    """Passes up to `pps` on; the tester offers up to `tester_pps`."""

    def __init__(self, pps: float, *, tester_pps: float = 1e9, always: float = 0.0) -> None:
        self.pps, self.tester_pps, self.always = pps, tester_pps, always
        self.asked: list[float] = []
        self.hiccups: set[int] = set()

    def measure(self, rate_pps: float, duration_s: float) -> SearchTrial:
        self.asked.append(rate_pps)
        hiccup = len(self.asked) in self.hiccups
        offered_pps = rate_pps / 2 if hiccup else min(rate_pps, self.tester_pps)
        delivered_pps = min(offered_pps, self.pps) * (1 - self.always)
        offered, delivered = round(offered_pps * duration_s), round(delivered_pps * duration_s)
        marks = []
        if offered_pps < 0.99 * rate_pps:
            marks.append(Marked(mark="generator-limited", why="it could not"))
        return SearchTrial(
            intended_pps=rate_pps,
            duration_ns=round(duration_s * 1e9),
            offered=offered,
            delivered=min(offered, delivered),
            lost=max(0, offered - delivered),
            marks=marks,
        )


def of(found: Found, goal: str) -> Bound:
    return next(bound for bound in found.bounds if bound.goal == goal)


@pytest.mark.parametrize("capacity", [700, 9_000, 80_000, 333_333])
def test_a_rate_is_found_wherever_it_is(capacity: int) -> None:
    found = search(WANTED, Node(capacity).measure)
    assert (found.ended, found.why) == ("converged", None)
    ndr, pdr = of(found, "ndr"), of(found, "pdr")
    assert (ndr.loss_ratio, pdr.loss_ratio) == (0, 0.005)
    for bound, true in ((ndr, capacity), (pdr, capacity / 0.995)):
        assert bound.lower_pps is not None
        assert bound.upper_pps is not None
        # Of a rate so low, the loss of one packet in a trial is a share of its own.
        assert bound.lower_pps <= true * (1 + 1 / capacity)
        assert bound.upper_pps >= true * (1 - 1 / capacity)
        assert bound.upper_pps - bound.lower_pps <= WANTED.width * bound.upper_pps
        assert not bound.tester_limited
        # Three trials of a second, or as many as already settle it.
        assert bound.lower_trials >= 2
        assert bound.upper_trials >= 2
        at_lower = [t for t in found.trials if t.intended_pps == bound.lower_pps]
        assert len(at_lower) == bound.lower_trials


def test_a_node_faster_than_the_tester_has_a_rate_of_at_least_that() -> None:
    found = search(WANTED, Node(1e9, tester_pps=150_000).measure)
    for bound in found.bounds:
        assert bound.tester_limited
        assert bound.upper_pps is None
        assert bound.upper_trials == 0
        assert bound.lower_pps is not None
        assert 135_000 < bound.lower_pps <= 152_000
    marked = [t for t in found.trials if t.marks]
    assert marked
    # Each such load was tried again before it was given up.
    assert len(marked) % 3 == 0


def test_a_node_slower_than_the_tester_is_not_the_tester_s_fault() -> None:
    """The tester cannot offer the highest load, but the node loses of what it can."""
    node = Node(100_000, tester_pps=150_000)
    found = search(WANTED, node.measure)
    ndr = of(found, "ndr")
    assert ndr.upper_pps is not None
    assert ndr.lower_pps is not None
    assert ndr.lower_pps <= 100_000 <= ndr.upper_pps
    assert node.asked.count(WANTED.highest_pps) == 1


def test_a_tester_that_stumbles_once_changes_nothing() -> None:
    steady, stumbling = Node(80_000), Node(80_000)
    stumbling.hiccups = {5}
    plain, troubled = search(WANTED, steady.measure), search(WANTED, stumbling.measure)
    assert troubled.bounds == plain.bounds
    assert len(troubled.trials) == len(plain.trials) + 1


def test_a_node_that_always_loses_has_no_rate_and_one_that_never_does_no_upper_bound() -> None:
    lossy = replace(WANTED, lowest_pps=500)
    found = search(lossy, Node(1e9, always=0.004).measure)
    assert found.ended == "converged"
    assert of(found, "ndr").lower_pps is None
    assert of(found, "ndr").upper_pps == lossy.lowest_pps
    assert of(found, "pdr").lower_pps == WANTED.highest_pps
    assert of(found, "pdr").upper_pps is None
    assert not of(found, "pdr").tester_limited


def test_all_that_was_allowed_to_exceed_is_asked_of_rfc_2544() -> None:
    strict = replace(WANTED, exceed_ratio=0.0, goals={"ndr": 0.0})
    node = Node(80_000)
    found = search(strict, node.measure)
    assert [bound.goal for bound in found.bounds] == ["ndr"]
    bad = [t for t in found.trials if t.lost]
    assert all(t.intended_pps > 80_000 for t in bad)
    assert of(found, "ndr").lower_trials >= strict.bound_s / strict.trial_s


def test_a_search_that_takes_too_long_keeps_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(library, "time", SimpleNamespace(monotonic=lambda: now[0]))
    node = Node(80_000)

    def slow(rate_pps: float, duration_s: float) -> SearchTrial:
        now[0] += duration_s
        return node.measure(rate_pps, duration_s)

    found = search(replace(WANTED, longest_s=4), slow, clock=lambda: now[0])
    assert (found.ended, found.why) == ("time", "it took longer than 4 s")
    assert 4 <= len(found.trials) <= 5
    assert [bound.goal for bound in found.bounds] == ["ndr", "pdr"]


def test_a_node_that_dies_ends_its_search_and_no_other() -> None:
    node = Node(80_000)
    found = search(WANTED, dying(node.measure, after=4))
    assert (found.ended, found.why) == ("failed", "obu1 was killed by signal 9")
    assert len(found.trials) == 4


def dying(
    measure: Callable[[float, float], SearchTrial], *, after: int
) -> Callable[[float, float], SearchTrial]:
    left = [after]

    def until(rate_pps: float, duration_s: float) -> SearchTrial:
        if not left[0]:
            raise SearchBroken("obu1 was killed by signal 9")
        left[0] -= 1
        return measure(rate_pps, duration_s)

    return until


def test_as_many_trials_as_a_quick_search_can_pay_for() -> None:
    quick: Searching = replace(WANTED, trial_s=0.5, first_trial_s=0.5, bound_s=0.5, width=0.1)
    for capacity in (5_000, 50_000, 200_000):
        assert len(search(quick, Node(capacity).measure).trials) <= 16
