"""What a report is made of before it has a form: headings, lines, tables of plain cells.

One tree of these is rendered for the terminal, for Markdown, and whatever comes. Must not know what
a cell means, nor how any of the forms looks.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

_Name = TypeVar("_Name", bound=str)


class Tone(enum.StrEnum):
    """What a piece of text is to the reader; each form has its own way to show it."""

    PLAIN = "plain"
    STRONG = "strong"
    FAINT = "faint"
    GOOD = "good"
    BAD = "bad"
    DOUBT = "doubt"
    CODE = "code"


@dataclass(frozen=True, slots=True)
class Cell:
    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A title may hold a line break where a narrow column is wanted; `prose` cells may wrap."""

    title: str
    align: Literal["left", "right"] = "right"
    prose: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Rows of as many cells as there are columns; a new group of rows begins at each of `groups`.

    `note` stands below, in small print. `claims` is the table of the verdicts, which a form may
    show in a way of its own.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    groups: frozenset[int] = frozenset()
    title: str | None = None
    note: str | None = None
    claims: bool = False

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{len(row)} cells for {len(self.columns)} columns: {row}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A paragraph, made of pieces. `tally` counts the verdicts, as `claims` does for tables."""

    pieces: tuple[Cell, ...]
    tally: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Bullets:
    items: tuple[str, ...]


Block = Table | Line | Bullets


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """`key` is what the section is called where a link leads to it."""

    title: str
    blocks: tuple[Block, ...] = field(default=())
    key: str = ""


def columns(*titles: str) -> tuple[Column, ...]:
    """Columns of these titles; `<` in front puts a column to the left, `<<` makes it prose."""
    return tuple(
        Column(
            title=title.lstrip("<"),
            align="left" if title.startswith("<") else "right",
            prose=title.startswith("<<"),
        )
        for title in titles
    )


def line(*pieces: str | Cell) -> Line:
    """A paragraph of plain text and cells."""
    return Line(pieces=tuple(piece if isinstance(piece, Cell) else Cell(piece) for piece in pieces))


def tally(counts: Mapping[_Name, int], tones: Mapping[_Name, Tone]) -> list[str | Cell]:
    """How many there are of each, those of which there are none left out: `3 met, 1 missed`."""
    pieces: list[str | Cell] = []
    for name, tone in tones.items():
        if counts[name]:
            pieces += [", "] if pieces else []
            pieces.append(Cell(f"{counts[name]} {name}", tone))
    return pieces


def row(*cells: str | Cell) -> tuple[Cell, ...]:
    """A row of plain text and cells."""
    return tuple(cell if isinstance(cell, Cell) else Cell(cell) for cell in cells)


class Rows:
    """Gathers the rows of a table and where its groups begin."""

    def __init__(self) -> None:
        self._rows: list[tuple[Cell, ...]] = []
        self._groups: set[int] = set()

    def __len__(self) -> int:
        return len(self._rows)

    def group(self) -> None:
        """A new group begins with the next row."""
        if self._rows:
            self._groups.add(len(self._rows))

    def add(self, *cells: str | Cell) -> None:
        self._rows.append(row(*cells))

    def table(
        self, titles: Sequence[str], *, title: str | None = None, note: str | None = None
    ) -> Table:
        return Table(
            columns=columns(*titles),
            rows=tuple(self._rows),
            groups=frozenset(self._groups),
            title=title,
            note=note,
        )
