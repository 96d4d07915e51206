"""The report as Markdown (pipe tables as GitHub reads them), readable as plain text too.

Must not know what the report says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from testbed.report.blocks import Block, Bullets, Cell, Line, Section, Table, Tone
from testbed.report.contents import contents
from testbed.results import Result

# Square brackets mean nothing in Markdown unless a link follows, and figures are full of them.
_ESCAPED = str.maketrans({"|": "\\|", "*": "\\*", "`": "\\`", "\\": "\\\\"})
_TAG = re.compile(r"<(?=[A-Za-z/!?])")


def render_markdown(result: Result) -> str:
    """The whole report; ends with a newline. The same result gives the same text."""
    return render_sections(contents(result))


def render_sections(sections: Sequence[Section]) -> str:
    """Sections as a document, the first one's title as its own."""
    parts = []
    for index, section in enumerate(sections):
        parts.append(("# " if index == 0 else "## ") + _plain(section.title))
        parts.extend(text for block in section.blocks for text in _block(block))
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Line):
        yield "".join(_cell(piece) for piece in block.pieces)
    elif isinstance(block, Bullets):
        yield "\n".join(f"- {_plain(item)}" for item in block.items)
    else:
        if block.title:
            yield f"**{_plain(block.title)}**"
        yield _table(block)
        if block.note:
            yield f"*{_plain(block.note)}*"


def _table(table: Table) -> str:
    titles = [_title(column.title) for column in table.columns]
    rows = [[_cell(cell) for cell in row] for row in table.rows]
    widths = [max(3, *(len(row[index]) for row in (titles, *rows))) for index in range(len(titles))]
    right = [column.align == "right" for column in table.columns]
    rule = [
        "-" * (width - 1) + ":" if is_right else "-" * width
        for width, is_right in zip(widths, right, strict=True)
    ]
    return "\n".join(_row(row, widths, right) for row in (titles, rule, *rows))


def _row(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = (
        text.rjust(width) if is_right else text.ljust(width)
        for text, width, is_right in zip(cells, widths, right, strict=True)
    )
    return "| " + " | ".join(padded) + " |"


def _cell(cell: Cell) -> str:
    if cell.tone is Tone.CODE:
        return f"`{cell.text}`"
    text = _plain(cell.text)
    if cell.tone in (Tone.GOOD, Tone.BAD, Tone.DOUBT, Tone.STRONG) and text.strip():
        return f"**{text}**"
    return text


def _title(text: str) -> str:
    return _plain(text.replace("-\n", "").replace("\n/", "/").replace("\n", " "))


def _plain(text: str) -> str:
    return _TAG.sub("&lt;", text.translate(_ESCAPED))
