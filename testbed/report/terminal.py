"""The report for a terminal, through rich; and a picture of it as SVG.

The only module of the report that knows rich. Must not know what the report says.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final

from rich.box import Box
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from testbed.printable import printable
from testbed.report.blocks import Block, Bullets, Cell, Line, Section, Table, Tone
from testbed.report.contents import contents
from testbed.results import Result

_STYLES: Final = {
    Tone.PLAIN: "",
    Tone.STRONG: "bold",
    Tone.FAINT: "bright_black",
    Tone.GOOD: "bold green",
    Tone.BAD: "bold red",
    Tone.DOUBT: "bold yellow",
    Tone.CODE: "",
}
# A rule under the head and between groups, nothing else: figures are what should be seen.
_BOX: Final = Box("    \n    \n ── \n    \n    \n    \n    \n    \n")
_FIRST_SECTIONS: Final = 2
_GAP: Final = 2
# Whoever opens the picture needs no network: it names fonts and fetches none.
_SVG: Final = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" class="rich-terminal">
<style>
.{unique_id}-matrix {{
  font-family: "DejaVu Sans Mono", Menlo, Consolas, "Liberation Mono", monospace;
  font-size: {char_height}px;
  line-height: {line_height}px;
  font-variant-east-asian: full-width;
}}
.{unique_id}-title {{
  font: bold 18px sans-serif;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
_PROSE: Final = 24


def render_terminal(result: Result, console: Console, *, brief: bool = False) -> None:
    """Prints the report; `brief` prints the first screen alone: verdicts and what limits them."""
    sections = contents(result)
    print_sections(sections[:_FIRST_SECTIONS] if brief else sections, console)


def print_sections(sections: Sequence[Section], console: Console) -> None:
    """Prints these sections, one after the other."""
    for section in sections:
        _print_section(console, section)


def render_text(result: Result, *, width: int = 110) -> str:
    """The whole report as plain text, `width` characters wide."""
    console = Console(
        file=io.StringIO(), width=width, force_terminal=False, color_system=None, markup=False,
        emoji=False, highlight=False,
    )  # fmt: skip
    render_terminal(result, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def render_svg(result: Result, *, width: int = 108, brief: bool = True) -> str:
    """A picture of the terminal report, `width` characters wide."""
    console = Console(
        file=io.StringIO(), record=True, width=width, force_terminal=True, color_system="truecolor",
        markup=False, emoji=False, highlight=False, legacy_windows=False,
    )  # fmt: skip
    render_terminal(result, console, brief=brief)
    return console.export_svg(
        title=f"testbed run {result.scenario.name}", code_format=_SVG, unique_id="report"
    )


def _print_section(console: Console, section: Section) -> None:
    console.print()
    console.print(Text(printable(section.title), style="bold underline"))
    for block in section.blocks:
        console.print()
        _print_block(console, block)


def _print_block(console: Console, block: Block) -> None:
    if isinstance(block, Line):
        console.print(_text(block.pieces), soft_wrap=False)
    elif isinstance(block, Bullets):
        for item in block.items:
            grid = RichTable.grid(padding=(0, 1, 0, 0))
            grid.add_row(Text("•", style="bright_black"), Text(printable(item)))
            console.print(grid)
    else:
        if block.title:
            console.print(Text(printable(block.title), style="bold"))
        console.print(_table(block, console))
        if block.note:
            console.print(Padding(Text(printable(block.note), style="bright_black"), (0, 1)))


def _text(pieces: tuple[Cell, ...]) -> Text:
    return Text.assemble(*((piece.text, _STYLES[piece.tone]) for piece in pieces))


def _table(table: Table, console: Console) -> RichTable:
    made = RichTable(
        box=_BOX,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
        show_edge=False,
        show_header=any(column.title for column in table.columns),
    )
    # Figures stay on one line as long as the terminal is wide enough for them.
    fits = _natural_width(table) <= console.width
    for column in table.columns:
        made.add_column(
            column.title,
            justify=column.align,
            overflow="fold",
            no_wrap=fits and not column.prose,
        )
    for index, row in enumerate(table.rows):
        made.add_row(
            *(Text(printable(cell.text), style=_STYLES[cell.tone]) for cell in row),
            end_section=index + 1 in table.groups,
        )
    return made


def _natural_width(table: Table) -> int:
    """How wide the table is with every figure on one line."""
    width = 0
    for index, column in enumerate(table.columns):
        lines = column.title.split("\n") + [row[index].text for row in table.rows]
        widest = max(map(cell_len, lines))
        width += _GAP + (min(widest, _PROSE) if column.prose else widest)
    return width - _GAP
