"""What a person sees: tables and data on stdout, progress and errors on stderr.

The only place, beside the terminal report, that knows rich. Must not know what is shown. Colours
follow the terminal, NO_COLOR and FORCE_COLOR; without a terminal there are none, lines are as long
as they need to be, and progress is one line for each step.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from testbed.columns import Column, fit
from testbed.printable import printable

_UNBOUNDED = 100_000
_PAGE = 110
_GAP = 2
"""Blanks between two columns of a table."""
_GOOD_WORDS = {"yes": "green", "no": "red"}

Cell = str | int | float | bool | None


def console(stream: TextIO) -> Console:
    """A console for the stream; no markup, no emoji, no highlighting of what users have named."""
    return Console(
        file=stream,
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=not stream.isatty(),
        width=None if stream.isatty() else _UNBOUNDED,
    )


def page() -> Console:
    """A console on stdout for a report of tables and prose, as wide as the terminal or a page."""
    wide = sys.stdout.isatty()
    return Console(
        file=sys.stdout, markup=False, emoji=False, highlight=False, width=None if wide else _PAGE
    )


def print_json(value: Any) -> None:
    """One JSON document on stdout; a terminal or not makes no difference."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def print_text(text: str) -> None:
    """Text on stdout as it is, ended by one newline."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, spare: Sequence[str] = ()
) -> None:
    """A plain table on stdout: numbers to the right, no data as “–”.

    No word is broken: where the terminal is too narrow, columns named in `spare` are left out, the
    first first, and where even that does not do, each row becomes a block of lines.
    """
    filled = [list(row) for row in rows]
    cells = [[_cell(value) for value in row] for row in filled]
    out = console(sys.stdout)
    measured = [
        _measured(title, [row[index] for row in cells]) for index, title in enumerate(columns)
    ]
    widths = fit(measured, out.width, gap=_GAP, spare=spare)
    if widths is None:
        _print_blocks(out, columns, cells)
        return
    table = Table(box=None, padding=(0, _GAP, 0, 0), header_style="bold", pad_edge=False)
    for index, width in widths.items():
        numbers = [row[index] for row in filled if row[index] is not None]
        right = bool(numbers) and all(
            isinstance(value, int | float) and not isinstance(value, bool) for value in numbers
        )
        table.add_column(columns[index], justify="right" if right else "left", width=width)
    for texts in cells:
        table.add_row(*(texts[index] for index in widths))
    out.print(table)
    if len(widths) < len(columns):
        gone = [title for index, title in enumerate(columns) if index not in widths]
        note(f"no room here for: {', '.join(gone)}")


def _measured(title: str, cells: Sequence[Text]) -> Column:
    texts = [title, *(cell.plain for cell in cells)]
    return Column(
        title=title,
        natural=max(cell_len(line) for text in texts for line in text.splitlines() or [""]),
        least=max(cell_len(word) for text in texts for word in text.split() or [""]),
    )


def _print_blocks(out: Console, columns: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
    for number, row in enumerate(rows):
        if number:
            out.print()
        block = Table.grid(padding=(0, _GAP, 0, 0), pad_edge=False)
        block.add_column(style="bold", no_wrap=True)
        block.add_column(overflow="fold")
        for title, text in zip(columns, row, strict=True):
            block.add_row(title, text)
        out.print(block)


def _cell(value: Cell) -> Text:
    if value is None:
        return Text("–")
    text = ("yes" if value else "no") if isinstance(value, bool) else str(value)
    return Text(printable(text), style=_GOOD_WORDS.get(text, ""))


def note(message: str) -> None:
    """A line on stderr for whoever watches."""
    console(sys.stderr).print(Text(printable(message)), soft_wrap=True)


def error(message: str) -> None:
    """The one line on stderr that says why a command failed."""
    line = Text("error: ", style="bold red")
    line.append(printable(" ".join(message.split())), style="not bold default")
    console(sys.stderr).print(line, soft_wrap=True)


class Gauge:
    """How far one long piece of work is, on stderr, with the time that it still takes.

    On a terminal there is a bar; elsewhere a line now and then. It is drawn when it is told, not by
    a clock of its own, which would take time from whatever is measured meanwhile.
    """

    _LINE_EVERY_S = 10.0

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._line_due = 0.0
        self._progress = Progress(
            BarColumn(bar_width=24),
            TextColumn("{task.fields[told]}", markup=False),
            TextColumn("{task.description}", markup=False),
            console=console(sys.stderr),
            transient=True,
            auto_refresh=False,
            disable=not self._live,
        )
        self._task = self._progress.add_task("", total=None, told="")

    def __enter__(self) -> Gauge:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def show(self, title: str, *, done: int, total: int, remaining_s: float) -> None:
        """`title` is at work, `done` of `total` things are done."""
        minutes, seconds = divmod(round(remaining_s), 60)
        told = f"{done}/{total}, {minutes}:{seconds:02} left"
        self._progress.update(self._task, description=title, completed=done, total=total, told=told)
        if not self._live and time.monotonic() >= self._line_due:
            self._line_due = time.monotonic() + self._LINE_EVERY_S
            note(f"{told}: {title}")


class Steps:
    """Steps of a longer piece of work, one after the other, on stderr.

    On a terminal a bar moves; elsewhere each step is a line when it is done. What a step is called
    and how much it has to do is the caller's; the last one named is the one at work.
    """

    def __init__(self, *, remaining: bool = False) -> None:
        self._live = sys.stderr.isatty()
        self._title: str | None = None
        self._task: TaskID | None = None
        self._since = 0.0
        time_column = TimeRemainingColumn() if remaining else TimeElapsedColumn()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[told]}", markup=False),
            time_column,
            console=console(sys.stderr),
            transient=True,
            disable=not self._live,
        )

    def __enter__(self) -> Steps:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._finish()
        self._progress.stop()

    def step(
        self, title: str, *, done: float = 0, total: float | None = None, told: str = ""
    ) -> None:
        """`title` is at work, `done` of `total` (None: unknown); another title ends the last."""
        if title != self._title:
            self._finish()
            self._title = title
            self._since = time.monotonic()
            self._task = self._progress.add_task(title, total=total, told=told)
        if self._task is not None:
            self._progress.update(self._task, completed=done, total=total, told=told)

    def _finish(self) -> None:
        if self._title is None:
            return
        if self._task is not None:
            self._progress.remove_task(self._task)
        if not self._live:
            note(f"{self._title}: {time.monotonic() - self._since:.2f} s")
        self._title = self._task = None
