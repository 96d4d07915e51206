"""Two runs side by side, as sections: what got worse, what got better, and what cannot be told.

Must not know how it will look.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from testbed.measure.statistics import QUANTITIES, Change, Compared, Comparison, Outcome
from testbed.report.blocks import (
    Block,
    Bullets,
    Cell,
    Line,
    Rows,
    Section,
    Table,
    Tone,
    line,
    tally,
)
from testbed.report.wording import NOTHING, percent, ratio_text
from testbed.results import Result
from testbed.targets import Form

_TONES = {
    Outcome.WORSE: Tone.BAD,
    Outcome.BETTER: Tone.GOOD,
    Outcome.SAME: Tone.PLAIN,
    Outcome.UNDECIDED: Tone.FAINT,
}
_ABOUT = (
    "Change: the ratio new / old of the geometric means with its 95 % interval. Worse and better: "
    "Welch's test against the threshold stays below 5 % after Holm's adjustment for all of these "
    "comparisons, and the whole interval lies beyond it. Same: the whole interval lies within it. "
    "All else is undecided."
)
_SLOWER = math.log(1.1)


def comparison(old: Result, new: Result, found: Comparison) -> tuple[Section, ...]:
    """The whole comparison, the answer first."""
    blocks: list[Block] = [_about(old, new, found), _headline(found)]
    if found.broken:
        items = tuple(f"Broken: {said}." for said in found.broken)
        blocks.append(Bullets(items=items))
    if found.mended:
        items = tuple(f"Mended: {said}." for said in found.mended)
        blocks.append(Bullets(items=items))
    changed = [one for one in found.compared if one.outcome in (Outcome.WORSE, Outcome.BETTER)]
    if changed:
        changed.sort(key=lambda one: (one.outcome is Outcome.BETTER, -abs(one.change.shift)))
        blocks.append(_table(changed, title="What has changed", note=_ABOUT))
    sections = [Section(title=f"{new.scenario.name}: old and new", blocks=tuple(blocks))]
    notes = tuple(_notes(found))
    if notes:
        sections.append(
            Section(title="What to read this with", blocks=(Bullets(items=notes),), key="notes")
        )
    rest = [one for one in found.compared if one not in changed]
    if rest:
        note = None if changed else _ABOUT
        sections.append(
            Section(title="Everything else", blocks=(_table(rest, note=note),), key="rest")
        )
    return tuple(sections)


def _about(old: Result, new: Result, found: Comparison) -> Line:
    what = "the ratios to the baseline, pair by pair" if found.relative else "figures"
    return line(
        f"{new.started[:16].replace('T', ' ')} against {old.started[:16].replace('T', ' ')}",
        f", {what} of {new.environment.cpus} × {new.environment.cpu_model}.",
    )


def _headline(found: Comparison) -> Line:
    counted = Counter(one.outcome for one in found.compared)
    pieces = [f"Of {counted.total()} comparisons: ", *tally(counted, _TONES)]
    if not counted:
        pieces = ["No figures to compare"]
    if found.broken:
        pieces += ["; ", Cell(f"{len(found.broken)} broken", Tone.BAD)]
    if found.mended:
        pieces += ["; ", Cell(f"{len(found.mended)} mended", Tone.GOOD)]
    return line(*pieces, ".")


def _table(compared: list[Compared], *, title: str | None = None, note: str | None = None) -> Table:
    rows = Rows()
    before: object = None
    points = len({one.cell.point for one in compared}) > 1
    sizes = len({one.cell.frame_bytes for one in compared}) > 1
    for one in compared:
        group = (one.cell, one.variant)
        if title is None and group != before:
            rows.group()
        before = group
        limit = NOTHING if one.threshold is None else percent(one.threshold - 1, 0)
        rows.add(
            *((one.cell.point,) if points else ()),
            *((str(one.cell.frame_bytes),) if sizes else ()),
            one.cell.load,
            one.variant,
            QUANTITIES[one.quantity].label,
            _text(one.change),
            limit,
            Cell(one.outcome, _TONES[one.outcome]),
            Cell(one.reason, Tone.FAINT),
        )
    return rows.table(
        (*(("<point",) if points else ()), *(("bytes",) if sizes else ()), "<load", "<variant",
         "<<quantity", "change", "threshold", "<outcome", "<<why"),
        title=title,
        note=note,
    )  # fmt: skip


def _text(made: Change) -> str:
    return ratio_text(made, Form.GAIN)


def _notes(found: Comparison) -> Iterator[str]:
    if found.relative:
        yield (
            f"The machine is another one ({'; '.join(found.machine)}): figures of different "
            "machines are never compared, so the ratios to the baseline are. A change that costs "
            "the baseline as much as the candidate cannot be seen so."
        )
    elif found.yardstick.ratio is not None:
        slower = abs(found.yardstick.shift) > _SLOWER
        yield (
            f"The tester's own work cost {_text(found.yardstick)} in the new run. No change of a "
            "node touches that: "
            + (
                "the machine itself was not the same, and what is CPU time moves with it."
                if slower
                else "the machine ran about as fast."
            )
        )
    if any(one.threshold is None for one in found.compared):
        yield (
            "Disturbed: the node waited that share of the time for its CPU, so there was other "
            "work on the machine. There only a factor of two counts, and only of what such work "
            "moves little."
        )
    yield from found.cautions
    for said in found.left_out:
        yield f"Not compared: {said}."


def comparison_json(old: Result, new: Result, found: Comparison) -> dict[str, Any]:
    """The same as plain values."""
    return {
        "format": "testbed-comparison",
        "old": old.started,
        "new": new.started,
        "relative": found.relative,
        "machine": list(found.machine),
        "regressions": len(found.regressions) + len(found.broken),
        "broken": list(found.broken),
        "mended": list(found.mended),
        "cautions": list(found.cautions),
        "left_out": list(found.left_out),
        "tester": _values(found.yardstick),
        "compared": [
            {
                "point": one.cell.point,
                "load": one.cell.load,
                "frame_bytes": one.cell.frame_bytes,
                "variant": one.variant,
                "quantity": one.quantity,
                **_values(one.change),
                "threshold": one.threshold,
                "probability": one.probability,
                "outcome": str(one.outcome),
                "why": one.reason or None,
            }
            for one in found.compared
        ],
    }


def _values(made: Change) -> dict[str, Any]:
    return {
        "ratio": made.ratio,
        "low": made.low,
        "high": made.high,
        "trials": list(made.values),
    }
