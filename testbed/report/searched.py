"""The lossless and the partial-drop rate (NDR, PDR), as searched.

Must not know how it will look.
"""

from __future__ import annotations

from collections.abc import Iterator

from testbed.measure.statistics import (
    GOALS,
    compare_searches,
    searched_places,
    searches_of,
    typical_bound,
)
from testbed.report.blocks import Block, Bullets, Cell, Rows, Section, Tone
from testbed.report.summary import point_text
from testbed.report.wording import CHANGE, NOTHING, count, percent, ratio_text
from testbed.results import Result, in_words
from testbed.targets import Form


def searches(result: Result) -> Section:
    """For each searched place a table: bounds, the ratio, and how many trials stand behind them."""
    blocks: list[Block] = []
    several = len({one.frame_bytes for one in result.searches}) > 1
    for place in searched_places(result):
        rows = Rows()
        for goal in GOALS:
            rows.group()
            for variant in result.scenario.variants:
                made = searches_of(result, place, variant.name)
                bounds = [b for one in made for b in one.bounds if b.goal == goal]
                if not bounds:
                    continue
                lower, upper, limited = typical_bound(result, place, variant.name, goal)
                ratio = Cell("")
                if not variant.baseline:
                    estimate, at_least = compare_searches(result, place, goal, variant.name)
                    text = ratio_text(estimate, Form.GAIN, at_least=at_least)
                    ratio = Cell(text, Tone.PLAIN if estimate.differs else Tone.FAINT)
                rows.add(
                    f"{goal.upper()}, {percent(bounds[0].loss_ratio)} lost",
                    variant.name,
                    ("≥" if limited and lower is not None else "") + count(lower),
                    count(upper) if upper is not None else NOTHING,
                    ratio,
                    count(len(made)),
                    count(sum(b.lower_trials + b.upper_trials for b in bounds)),
                )
        if len(rows):
            blocks.append(
                rows.table(
                    ("<goal", "<variant", "reached\npps", "not reached\npps", "change",
                     "searches", "trials behind\nthe bounds"),
                    title=point_text(result.point(place.point))
                    + (f", {in_words(place.frame_bytes)}" if several else ""),
                    note="Medians over the searches: the highest load at which the goal was "
                    "reached, and the lowest at which it was not (RFC 2544, section 26.1, searched "
                    "with MLRsearch). Where the tester was the limit the rate is a lower bound. "
                    + CHANGE,
                )
            )  # fmt: skip
    failures = tuple(_unfinished(result))
    if failures:
        blocks.append(Bullets(items=failures))
    return Section(title="Lossless and partial-drop rate", blocks=tuple(blocks))


def _unfinished(result: Result) -> Iterator[str]:
    for one in result.searches:
        if one.ended != "converged":
            how = "took too long" if one.ended == "time" else "failed"
            yield f"The search of {one.variant} at {one.point} {how}: {one.why or 'no reason'}."
