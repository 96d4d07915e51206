"""Text of unknown origin, made safe to be shown on a terminal.

A node's log or a result file may hold escape sequences, which a terminal would obey. Must not know
where a text comes from, nor where it goes.
"""

from __future__ import annotations

from typing import Final

_KEPT: Final = frozenset("\t\n")
_CONTROLS: Final = {
    code: "\N{REPLACEMENT CHARACTER}"
    for code in (*range(0x20), *range(0x7F, 0xA0))
    if chr(code) not in _KEPT
}


def printable(text: str) -> str:
    """The text with � for every control character but tabulator and newline."""
    return text.translate(_CONTROLS)
