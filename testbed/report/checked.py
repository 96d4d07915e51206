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
_APART = ""
"""Of two nodes that the protocol does not join."""
_NAMES = {"ipv4": "v4", "ipv6": "v6", "group": "group"}


def checks(result: Result) -> Section:
    """Outcome by variant and kind, the matrices, and what is wrong with those that failed."""
    if not result.checks:
        return Section(title="Correct before fast")
    blocks: list[Block] = [_outcome(result.checks)]
    troubles = tuple(_troubles(result.checks))
    if troubles:
        blocks.append(Bullets(items=troubles))
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


def _troubles(made: Sequence[Check]) -> Iterator[str]:
    for check in made:
        if not check.passed:
            why = check.why or "no reason given"
            yield f"{check.variant}, {check.kind} in {check.topology}: {why}."
            for seen in check.seen:
                yield f"{check.variant}, {check.kind}, seen on the wire: {seen}."


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
            "every kind arrived, else how many of how many.",
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
        return Cell(_APART, Tone.FAINT)
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
    rows = Rows()
    for check in made:
        if not check.sizes:
            continue
        rows.group()
        # Sizes of which nothing was harmed need no row each.
        for sizes in _runs(check):
            low, high = sizes[0].frame_bytes, sizes[-1].frame_bytes
            text = count(low) if low == high else f"{count(low)}…{count(high)}"
            whole = all(s.delivered == s.sent and not _harm(s) for s in sizes)
            rows.add(
                check.variant,
                text,
                count(sum(s.sent for s in sizes)),
                Cell(count(sum(s.delivered for s in sizes)), Tone.GOOD if whole else Tone.BAD),
                *(
                    Cell(count(n), Tone.BAD if n else Tone.PLAIN)
                    for n in (
                        sum(s.damaged for s in sizes),
                        sum(s.truncated for s in sizes),
                        sum(s.tailed for s in sizes),
                    )
                ),
            )
    if len(rows):
        yield rows.table(
            ("<variant", "frame bytes", "sent", "whole", "damaged", "cut", "with a tail"),
            title="Payload integrity",
        )


def _runs(check: Check) -> Iterator[list[CheckSize]]:
    """Neighbouring sizes that are all whole stand together, others each by itself."""
    run: list[CheckSize] = []
    for size in sorted(check.sizes, key=lambda one: one.frame_bytes):
        if size.delivered == size.sent and not _harm(size):
            run.append(size)
            continue
        if run:
            yield run
            run = []
        yield [size]
    if run:
        yield run


def _harm(size: CheckSize) -> int:
    return size.damaged + size.truncated + size.tailed


def _failovers(made: Sequence[Check]) -> Iterator[Table]:
    rows = Rows()
    for check in made:
        for one in check.failovers:
            outage = None if one.outage_ns is None else one.outage_ns / 1e6
            rows.add(
                check.variant,
                one.node,
                one.silenced,
                Cell(one.resumed_by or "never", Tone.PLAIN if one.resumed_by else Tone.BAD),
                number(outage),
                count(one.lost),
            )
    if len(rows):
        yield rows.table(
            ("<variant", "<node", "<fell silent", "<resumed by", "outage, ms", "lost"),
            title="Failover",
        )
