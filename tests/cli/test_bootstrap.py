"""`./bootstrap`: clear words where it cannot, and no time where nothing is to be done."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

BOOTSTRAP = Path(__file__).resolve().parents[2] / "bootstrap"


def bootstrap(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (str(BOOTSTRAP), *arguments),
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def old_python(tmp_path: Path) -> Path:
    """An interpreter that is too old, as far as `bootstrap` can tell."""
    path = tmp_path / "python3.9"
    path.write_text('#!/bin/sh\n[ "$1" = -V ] && echo "Python 3.9.2" && exit 0\nexit 1\n')
    path.chmod(0o755)
    return path


def test_an_old_python_is_refused_in_words(old_python: Path) -> None:
    done = bootstrap(PYTHON=str(old_python))
    assert done.returncode == 4
    assert "Python 3.9.2 is too old, 3.11 is the least" in done.stderr


def test_no_python_is_refused_in_words() -> None:
    done = bootstrap(PYTHON="no-such-python")
    assert done.returncode == 4
    assert "no-such-python is not installed" in done.stderr


def test_from_elsewhere_it_runs_the_command_and_stdout_is_the_commands(tmp_path: Path) -> None:
    bootstrap()
    done = subprocess.run(
        (str(BOOTSTRAP), "validate", "pair", "--format", "json"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("{")
    # All was in place, so it had nothing to say.
    assert "bootstrap:" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_exit_code_is_the_commands() -> None:
    assert bootstrap("validate", "no-such-name").returncode == 2


def test_where_it_may_not_write_it_says_who_may(root: None) -> None:
    # How deep a test's own directory lies, where nobody else may look, depends on the workers.
    with tempfile.TemporaryDirectory(prefix="tbt-bootstrap-") as made:
        place = Path(made)
        place.chmod(0o755)
        for file in ("bootstrap", "pyproject.toml"):
            shutil.copy(BOOTSTRAP.parent / file, place)
        (place / ".venv").mkdir()
        done = subprocess.run(
            (place / "bootstrap", "doctor"),
            user=54321,
            group=54321,
            extra_groups=[],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 4
    assert done.stderr.endswith(
        f"bootstrap: error: {place}/.venv is not writable for user 54321: run as root\n"
    )
