"""What TAB does in real shells, and what is offered where."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from testbed.cli import cli

TESTBED = (sys.executable, "-m", "testbed")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with some files, and in `bin` the command."""
    program = tmp_path / "bin" / "testbed"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m testbed "$@"\n')
    program.chmod(0o755)
    for name in ("corner.yaml", "pairs of mine.yaml", "scenes/one.yaml", "builds.yaml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def with_command(place: Path) -> dict[str, str]:
    return os.environ | {"PATH": f"{place / 'bin'}:{os.environ['PATH']}"}


class Bash:
    """An interactive bash on a terminal of its own, in which the completion is set up."""

    def __init__(self, place: Path) -> None:
        self._terminal, inside = pty.openpty()
        self._bash = subprocess.Popen(
            ("bash", "--norc", "--noprofile", "-i"),
            cwd=place,
            env=with_command(place) | {"TERM": "dumb"},
            stdin=inside,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
        )
        os.close(inside)
        self._said = ""
        # Ctrl-T prints the line that is being typed, as bash then has it.
        for command in (
            "PS1='> '; stty -echo",
            "bind 'set show-all-if-ambiguous on'; bind 'set bell-style none'",
            "bind 'set page-completions off'",
            """bind -x '"\\C-t": echo "<<$READLINE_LINE>>"'""",
            "source <(testbed completion bash); echo set up: $?",
        ):
            self._type(command + "\n")
        self._until(r"set up: 0")

    def tab(self, typed: str) -> tuple[str, str]:
        """The line after TAB, and all that was shown until then."""
        self._said = ""
        self._type(f"\x15{typed}\t\x14")
        found = self._until(r"<<(.*?)>>")
        return found[1], self._said[: found.start()]

    def _type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def _until(self, pattern: str) -> re.Match[str]:
        deadline = time.monotonic() + 30
        while not (found := re.search(pattern, self._said)):
            ready, _, _ = select.select([self._terminal], [], [], deadline - time.monotonic())
            assert ready, self._said
            self._said += os.read(self._terminal, 4096).decode(errors="replace")
        return found

    def close(self) -> None:
        os.close(self._terminal)  # bash ends when there is no more to read
        self._bash.wait(10)


@pytest.fixture
def bash(place: Path) -> Iterator[Bash]:
    shell = Bash(place)
    yield shell
    shell.close()


def test_tab_in_bash_completes_files_and_shipped_names(bash: Bash) -> None:
    for typed, line in (
        ("testbed up cor", "testbed up corner.yaml "),
        ("testbed up -t cor", "testbed up -t corner.yaml "),
        ("testbed validate sc", "testbed validate scenes/"),
        ("testbed validate scenes/", "testbed validate scenes/one.yaml "),
        ("testbed run bui", "testbed run builds.yaml "),
        ("testbed run thr", "testbed run throughput "),
        ("testbed up lin", "testbed up line "),
        ("testbed graph highw", "testbed graph highway "),
        ("testbed validate throu", "testbed validate throughput "),
        ("testbed report corn", "testbed report corner.yaml "),
        ("testbed exec obu1 -- cat corn", "testbed exec obu1 -- cat corner.yaml "),
        ("testbed run --fail-on missed,inc", "testbed run --fail-on missed,inconclusive "),
        ("testbed run --reports jun", "testbed run --reports junit "),
        ("testbed inspect --form", "testbed inspect --format "),
    ):
        assert bash.tab(typed)[0] == line


def test_tab_in_bash_offers_files_beside_shipped_names(bash: Bash) -> None:
    line, shown = bash.tab("testbed up pair")
    assert line == "testbed up pair"
    assert {"pair", "pairs of mine.yaml"} <= set(re.split(r"\s{2,}|\r\n", shown))
    assert bash.tab("testbed up pairs")[0] == r"testbed up pairs\ of\ mine.yaml "


def test_tab_in_bash_completes_what_runs(
    root: None, run_dir: Path, testbed_name: str, place: Path
) -> None:
    subprocess.run((*TESTBED, "up", "pair", "-n", testbed_name), check=True, capture_output=True)
    try:
        bash = Bash(place)
        for typed, rest in (
            (f"testbed inspect -n {testbed_name[:-1]}", testbed_name[-1]),
            (f"testbed up line -n {testbed_name[:-1]}", testbed_name[-1]),
            ("testbed inspect ob", "u1"),
            ("testbed logs rs", "u1"),
            ("testbed ping rsu1 ob", "u1"),
            (f"testbed exec -n {testbed_name} ob", "u1"),
        ):
            assert bash.tab(typed)[0] == f"{typed}{rest} "
        bash.close()
    finally:
        subprocess.run((*TESTBED, "down", testbed_name), check=True, capture_output=True)


def offered(shell: str, words: str, number: int | str) -> str:
    environment = {
        "_TESTBED_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(number),
    }
    return CliRunner().invoke(cli, prog_name="testbed", env=environment).stdout


def test_without_a_testbed_or_rights_nothing_is_offered_and_nothing_said(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words, number in (("testbed inspect -n ", 3), ("testbed logs ", 2)):
        assert offered("bash", words, number).strip() == ""
        with monkeypatch.context() as somebody:
            somebody.setattr(os, "geteuid", lambda: 54321)
            assert offered("bash", words, number).strip() == ""


def test_descriptions_are_whole_sentences_in_fish_too() -> None:
    script = CliRunner().invoke(cli, ["completion", "fish"], prog_name="testbed").stdout
    assert 'string split -m 1 "," $completion' in script
    lines = offered("fish", "testbed ", "").splitlines()
    assert any(", " in line for line in lines)
    for line in lines:
        assert line.endswith("."), line
        assert not line.endswith("..."), line


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish here")
def test_fish_completes_files_names_and_whole_descriptions(place: Path) -> None:
    def complete(line: str) -> str:
        script = f"testbed completion fish | source; complete -C'{line}'"
        return subprocess.run(
            ("fish", "--no-config", "-c", script),
            cwd=place,
            env=with_command(place),
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert "corner.yaml" in complete("testbed up cor")
    assert {"pair", "pairs of mine.yaml"} <= {
        line.split("\t")[0].replace("\\", "") for line in complete("testbed up pair").splitlines()
    }
    assert "up\tBring a topology up, or bring what runs in line with it." in complete("testbed u")
