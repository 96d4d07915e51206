"""What each variant was checked for before it was measured: who reaches whom, and what arrives.

Variants of which the same is to be said share a table. Must not know how it will look.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from testbed.report.blocks import Block, Bullets, Cell, Rows, Section, Table, Tone
from testbed.report.wording import NOTHING, count, number
from testbed.results import Check, CheckPair, CheckSize, Result

_ALL = "all"
_SELF = "·"
_APART, _SOME = "(–)", "(some)"
"""Of two nodes that the protocol does not join: nothing came, or something all the same."""
_NAMES = {"ipv4": "v4", "ipv6": "v6", "group": "group"}


def checks(result: Result) -> Section:
    """Outcome by variant and kind, the matrices, and what is wrong with those that failed."""
    if not result.checks:
        return Section(title="Correct before fast")
    blocks: list[Block] = [_outcome(result.checks)]
    found = tuple(troubles(result.checks, seen=True))
    if found:
        blocks.append(Bullets(items=found))
    blocks += _matrices([check for check in result.checks if check.kind == "reachability"])
    blocks += _matrices([check for check in result.checks if check.kind == "group"])
    blocks += _sizes(result.checks)
    blocks += _failovers(result.checks)
    return Section(title="Correct before fast: what was checked first", blocks=tuple(blocks))


def _outcome(made: Sequence[Check]) -> Table:
    kinds = list(dict.fromkeys(check.kind for check in made))
    rows = Rows()
    for variant in dict.fromkeys(check.variant for check in made):
        rows.add(
            variant, *(_passed([c for c in made if (c.variant, c.kind) == (variant, kind)])
                       for kind in kinds)
        )  # fmt: skip
    return rows.table(
        ("<variant", *(f"<{kind}" for kind in kinds)),
        note="A variant that failed any of these gets no verdict of success.",
    )


def _passed(made: Sequence[Check]) -> Cell:
    if not made:
        return Cell(NOTHING, Tone.FAINT)
    failed = sum(not check.passed for check in made)
    if not failed:
        return Cell("passed", Tone.GOOD)
    of = f" {failed} of {len(made)}" if len(made) > 1 else ""
    return Cell(f"failed{of}", Tone.BAD)


def troubles(made: Sequence[Check], *, seen: bool) -> Iterator[str]:
    """What is wrong with each check that failed, and what was `seen` of it in a capture."""
    for check in made:
        if not check.passed:
            why = check.why or "no reason given"
            shown = f" Seen: {'; '.join(check.seen)}." if seen and check.seen else ""
            yield f"{check.variant}, {check.kind} in {check.topology}: {why.rstrip('.')}.{shown}"


def _matrices(made: Sequence[Check]) -> Iterator[Table]:
    """From whom (rows) to whom (columns); variants with the same matrix share one."""
    alike: dict[tuple[str, Table], list[str]] = {}
    for check in made:
        if check.pairs:
            alike.setdefault((check.topology, _matrix(check)), []).append(check.variant)
    for (topology, matrix), variants in alike.items():
        kind = made[0].kind
        what = "Who reaches whom" if kind == "reachability" else "Who gets group traffic"
        yield Table(
            columns=matrix.columns,
            rows=matrix.rows,
            title=f"{what} in {topology}: {', '.join(dict.fromkeys(variants))}",
            note="From the node of the row to that of the column: “all” is that every packet of "
            "every kind arrived, else how many of how many; in brackets, a pair that the protocol "
            "does not join.",
        )


def _matrix(check: Check) -> Table:
    sources = list(dict.fromkeys(pair.source for pair in check.pairs))
    targets = list(dict.fromkeys(pair.destination for pair in check.pairs))
    targets.sort(key=lambda name: sources.index(name) if name in sources else len(sources))
    rows = Rows()
    for source in sources:
        rows.add(
            source,
            *(
                _pair(
                    source == target,
                    [p for p in check.pairs if (p.source, p.destination) == (source, target)],
                )
                for target in targets
            ),
        )
    return rows.table(("<from \\ to", *(f"<{target}" for target in targets)))


def _pair(same: bool, pairs: Sequence[CheckPair]) -> Cell:
    if same and not pairs:
        return Cell(_SELF, Tone.FAINT)
    expected = [pair for pair in pairs if pair.expected]
    if not expected:
        # Asked all the same, and no failure if nothing came.
        return Cell(_SOME if any(pair.received for pair in pairs) else _APART, Tone.FAINT)
    if all(pair.received >= pair.sent > 0 for pair in expected):
        return Cell(_ALL, Tone.GOOD)
    one_family = len({pair.family for pair in expected}) == 1
    text = ", ".join(
        ("" if one_family else f"{_NAMES[pair.family]} ") + f"{pair.received}/{pair.sent}"
        for pair in expected
    )
    none = not any(pair.received for pair in expected)
    return Cell(text, Tone.BAD if none else Tone.DOUBT)


def _sizes(made: Sequence[Check]) -> Iterator[Table]:
    """Sizes by variant and way; variants of which all is the same share rows."""
    alike: dict[tuple[CheckSize, ...], list[str]] = {}
    for check in made:
        if check.sizes:
            alike.setdefault(tuple(check.sizes), []).append(check.variant)
    rows = Rows()
    for sizes, variants in alike.items():
        rows.group()
        name = ", ".join(variants)
        for way in dict.fromkeys(size.way for size in sizes):
            there = sorted((s for s in sizes if s.way == way), key=lambda size: size.frame_bytes)
            for run in _runs(there):
                rows.add(name, way, *_size(run))
                name = ""
                way = ""
    if len(rows):
        yield rows.table(
            ("<variant", "<way", "frame bytes", "sent", "whole", "damaged", "cut", "with a tail"),
            title="Payload integrity",
        )


def _size(run: Sequence[CheckSize]) -> Iterator[str | Cell]:
    low, high = run[0].frame_bytes, run[-1].last_bytes
    whole = all(map(_whole, run))
    yield count(low) if low == high else f"{count(low)}…{count(high)}"
    yield count(sum(one.sent for one in run))
    yield Cell(count(sum(one.delivered for one in run)), Tone.GOOD if whole else Tone.BAD)
    for harm in ("damaged", "truncated", "tailed"):
        total = sum(int(getattr(one, harm)) for one in run)
        yield Cell(count(total), Tone.BAD if total else Tone.PLAIN)


def _runs(sizes: Sequence[CheckSize]) -> Iterator[list[CheckSize]]:
    """Neighbouring sizes that are all whole stand together, and those that are not do."""
    run: list[CheckSize] = []
    for size in sizes:
        if run and _whole(size) is not _whole(run[-1]):
            yield run
            run = []
        run.append(size)
    if run:
        yield run


def _whole(size: CheckSize) -> bool:
    return size.delivered == size.sent and not _harm(size)


def _harm(size: CheckSize) -> int:
    return size.damaged + size.truncated + size.tailed


def _failovers(made: Sequence[Check]) -> Iterator[Table]:
    rows = Rows()
    for check in made:
        rows.group()
        for one in check.failovers:
            outage = None if one.outage_ns is None else one.outage_ns / 1e6
            rows.add(
                check.variant,
                f"{one.node} {'→' if one.direction == 'up' else '←'} RSU",
                one.silenced,
                Cell(one.resumed_by or "never", Tone.PLAIN if one.resumed_by else Tone.BAD),
                number(outage),
                count(one.lost),
            )
    if len(rows):
        yield rows.table(
            ("<variant", "<traffic", "<fell silent", "<resumed by", "outage, ms", "lost"),
            title="Failover",
            note="Heartbeats came every 100 ms, and a neighbour that is silent for 5 of them has "
            "gone. A few ms mean that this traffic did not go by the one that fell silent.",
        )
