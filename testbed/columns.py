"""How wide each column of a table gets where there is not room for all of it.

Must not know what is in the cells nor how they are drawn: only how long they and their words are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_READABLE: Final = 24
"""Text of several words reads well in a column of this width; what may go goes before less."""


@dataclass(frozen=True, slots=True)
class Column:
    """`natural` is the length of its longest cell, `least` of the longest word in any."""

    title: str
    natural: int
    least: int

    @property
    def readable(self) -> int:
        """The least width at which it reads well."""
        return min(self.natural, max(self.least, _READABLE))


def fit(
    columns: Sequence[Column], room: int, *, gap: int, spare: Sequence[str] = ()
) -> Mapping[int, int] | None:
    """The width of each column that is shown, by its index; None where that cannot be.

    No word is broken. Columns named in `spare` go, the first first, before others get so narrow
    that they are hard to read; then lines of several words break, the longest first.
    """
    shown = dict(enumerate(columns))

    def left() -> int:
        return room - gap * (len(shown) - 1)

    for title in spare:
        if sum(column.readable for column in shown.values()) <= left():
            break
        shown = {index: column for index, column in shown.items() if column.title != title}
    if sum(column.least for column in shown.values()) > left():
        return None
    widths = {index: column.natural for index, column in shown.items()}
    for _ in range(sum(widths.values()) - left()):
        widest = max((i for i in shown if widths[i] > shown[i].least), key=lambda i: widths[i])
        widths[widest] -= 1
    return widths
