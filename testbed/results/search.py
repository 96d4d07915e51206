"""One search for the rate up to which a node loses nothing, or nearly nothing (NDR, PDR).

RFC 2544, section 26.1, as done by FD.io's MLRsearch. Must not know how rates are
chosen. A bound that was not found is null.
"""

from __future__ import annotations

from typing import Literal

from testbed.results.base import Count, FrameSize, Model
from testbed.results.trial import Marked


class SearchTrial(Model):
    """One trial of a search: counts over its time, the warm-up left out."""

    intended_pps: float
    duration_ns: Count
    offered: Count
    delivered: Count
    lost: int
    marks: list[Marked] = []


class Bound(Model):
    """What a search found for one goal: the rate lies between `lower_pps` and `upper_pps`.

    `lower_pps` is the highest load that reached the goal, `upper_pps` the lowest that did not; null
    where none did or all did. Where the tester was the limit, `upper_pps` is null and `lower_pps` a
    lower bound. `lower_trials` and `upper_trials` say how many trials stand behind each.
    """

    goal: Literal["ndr", "pdr"]
    loss_ratio: float
    lower_pps: float | None
    upper_pps: float | None
    throughput_pps: float | None = None
    """Conditional throughput: what was forwarded at the lower bound, at the goal's loss."""
    lower_trials: Count = 0
    upper_trials: Count = 0
    tester_limited: bool = False


class Search(Model):
    """One search of one variant; searches of one pair are compared."""

    id: Count
    point: str
    frame_bytes: FrameSize
    variant: str
    pair: Count | None
    started_s: float
    elapsed_s: float
    bounds: list[Bound] = []
    trials: list[SearchTrial] = []
    ended: Literal["converged", "time", "failed"]
    why: str | None = None
