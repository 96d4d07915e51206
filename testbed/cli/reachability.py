"""The answer of `testbed ping` as a table and as a sentence.

Must not know how it was found out.
"""

from __future__ import annotations

from typing import Literal

from testbed.reach.reach import PairResult, Reachability

_SHOWN = 5
_SELF = "·"
_NOT_REACHED = "no"


def table(found: Reachability, family: Literal[4, 6]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the matrix: from the left to the top."""
    matrix = found.matrix(family)
    rows = [
        [source, *(_cell(matrix.get((source, target))) for target in found.nodes)]
        for source in found.nodes
    ]
    return ["from \\ to", *found.nodes], rows


def caption(found: Reachability, family: Literal[4, 6]) -> str:
    """What the figures of the matrix are."""
    many = f" with {found.in_flight} requests at once, which wait for each other"
    return (
        f"IPv{family}, mean round trip in ms{many if found.in_flight > 1 else ''} "
        f"(answers of {found.rounds} if fewer)"
    )


def _cell(pair: PairResult | None) -> str:
    if pair is None:
        return _SELF
    if not pair.reached or pair.rtt_mean_us is None:
        return _NOT_REACHED
    text = f"{pair.rtt_mean_us / 1000:.2f}"
    return text if pair.received == pair.sent else f"{text} ({pair.received})"


def missing(found: Reachability) -> str:
    """Who does not reach whom, in one line."""
    unreached = found.unreached
    told = [
        f"{pair.source} → {pair.target} (IPv{pair.family}{f', {pair.error}' if pair.error else ''})"
        for pair in unreached[:_SHOWN]
    ]
    if len(unreached) > _SHOWN:
        told.append(f"and {len(unreached) - _SHOWN} more")
    return f"{len(unreached)} of {len(found.pairs)} not reached: {', '.join(told)}"
