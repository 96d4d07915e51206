"""Nothing that a node or a file says moves the cursor, or does worse."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed import console
from testbed.printable import printable
from testbed.rundir import last_line

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\x00 name\r"


def controls(text: str) -> set[str]:
    return {one for one in text if not one.isprintable() and one not in "\n\t"}


def test_controls_are_shown_as_replaced() -> None:
    assert controls(printable(HOSTILE)) == set()
    assert printable("a\tb\nc – ü") == "a\tb\nc – ü"


def test_the_last_line_of_a_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(f"before\n{HOSTILE}")
    line = last_line(tmp_path / "log")
    assert line is not None
    assert "name" in line
    assert controls(line) == set()


def test_tables_notes_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_table(("what",), [(HOSTILE,)])
    console.note(HOSTILE)
    console.error(HOSTILE)
    shown = capsys.readouterr()
    assert "name" in shown.out
    assert "name" in shown.err
    assert controls(shown.out + shown.err) == set()
