"""From what a scenario file says of the search for lossless rates to all that it needs.

Must not know the rest of the scenario: it gets what is usual, and where to put problems.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from testbed.files.document import Place
from testbed.files.problems import Problems
from testbed.scenario.model import GOALS, Searching
from testbed.scenario.search_file import Search

DEFAULTS: Final = Searching(
    goals=GOALS,
    trial_s=1.0,
    first_trial_s=1.0,
    bound_s=5.0,
    exceed_ratio=0.5,
    width=0.05,
    lowest_pps=500.0,
    highest_pps=500_000.0,
    longest_s=600.0,
    pairs=10,
    points=(),
)
"""As FD.io does it, with less time behind a bound (there 21 s) and wider bounds (there 0.5 %)."""

_KEYS: Final = {
    "goals": "goals",
    "trial": "trial_s",
    "bound": "bound_s",
    "exceed": "exceed_ratio",
    "width": "width",
    "lowest": "lowest_pps",
    "highest": "highest_pps",
    "longest": "longest_s",
    "repeats": "pairs",
}


def resolve_search(
    said: Search, usual: Searching, *, points: tuple[str, ...], problems: Problems, place: Place
) -> Searching:
    """What is said over what is usual; problems go to `problems`."""
    given = {
        name: value for key, name in _KEYS.items() if (value := getattr(said, key)) is not None
    }
    found = replace(usual, points=points, **given)
    first_s = said.first_trial or (found.trial_s if said.trial else found.first_trial_s)
    if first_s > found.trial_s:
        problems.add(
            (*place, "first_trial"),
            "longer than the trials that decide",
            value=f"{first_s:g}s",
            expected=f"at most {found.trial_s:g}s",
        )
        first_s = found.trial_s
    if said.goals == {}:
        problems.add((*place, "goals"), "is empty", expected="ndr, pdr or both")
    if found.lowest_pps >= found.highest_pps:
        problems.add(
            (*place, "lowest"),
            "is not below highest",
            value=f"{found.lowest_pps:g}pps",
            expected=f"less than {found.highest_pps:g}pps",
        )
    return replace(found, first_trial_s=first_s, bound_s=max(found.bound_s, found.trial_s))
