"""`testbed report` and `compare` on stored results: forms, exit codes, a line for what is bad."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

STORED = Path(__file__).parents[1] / "report" / "small_result.json"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-m", "testbed", *map(str, arguments)),
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def changed(folder: Path, name: str, **values: Any) -> Path:
    """A copy of the stored result with other values at its top."""
    path = folder / name
    path.write_text(json.dumps({**json.loads(STORED.read_text()), **values}))
    return path


def test_a_failed_check_ends_with_3_if_it_shall(tmp_path: Path) -> None:
    check = {"variant": "batched", "kind": "group", "topology": "cell", "passed": False}
    broken = changed(tmp_path, "broken.json", schema=2, checks=[check])
    done = run("report", broken, "--format", "junit", "--fail-on", "failed-check")
    assert done.returncode == 3
    assert done.stderr == "error: 1 check failed: batched group\n"
    assert done.stdout.startswith("<?xml")
    assert run("report", STORED, "--format", "junit", "--fail-on", "failed-check").returncode == 0


def test_the_page_of_the_claims_takes_several_results_and_nothing_else_does(tmp_path: Path) -> None:
    place = tmp_path / "claims.md"
    done = run("report", STORED, STORED, "--format", "claims", "--output", place)
    assert (done.returncode, done.stdout) == (0, "")
    page = place.read_text()
    assert page.startswith("# The documented claims, checked\n")
    # The file that was run, not one that would have to be called like the scenario.
    assert page.count("| `testbed run small.yaml` ") == 2
    assert f"| `testbed report {STORED} {STORED} --format claims --output {place}` " in page
    done = run("report", STORED, STORED, "--format", "html")
    assert done.returncode == 2
    assert "only --format claims takes several" in done.stderr


def test_a_result_is_no_worse_than_itself() -> None:
    done = run("compare", STORED, STORED, "--fail-on", "regression", "--format", "json")
    assert done.returncode == 0, done.stderr
    outcomes = {one["outcome"] for one in json.loads(done.stdout)["compared"]}
    assert "same" in outcomes
    assert not outcomes & {"worse", "better"}


def test_something_broken_is_a_regression(tmp_path: Path) -> None:
    def checked(name: str, passed: bool) -> Path:
        check = {"variant": "batched", "kind": "group", "topology": "cell", "passed": passed}
        return changed(tmp_path, name, schema=2, checks=[check])

    before, after = checked("before.json", True), checked("after.json", False)
    done = run("compare", before, after, "--fail-on", "regression", "--format", "markdown")
    assert done.returncode == 3
    assert done.stderr == "error: 1 regression: batched: group in cell\n"
    assert "**1 broken**" in done.stdout
    assert run("compare", after, before, "--fail-on", "regression").returncode == 0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"schema": 99}, "a newer version has written this file"),
        ({"trials": "none"}, "the file is damaged: trials"),
        ({"format": "something"}, "this is no result of a run"),
        ({"topology": {"name": "elsewhere"}}, "cannot be compared: the topology differs"),
    ],
)
def test_what_cannot_be_compared_is_one_line_and_2(
    values: dict[str, Any], words: str, tmp_path: Path
) -> None:
    done = run("compare", STORED, changed(tmp_path, "bad.json", **values))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr


@pytest.mark.parametrize("text", ["much", "0%", "0.1", "10", "-3%", "inf", "2000%"])
def test_a_threshold_is_a_percentage(text: str) -> None:
    done = run("compare", STORED, STORED, "--threshold", text)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_where_a_report_cannot_be_written_its_own_name_is_told(tmp_path: Path) -> None:
    done = run("report", STORED, "--format", "markdown", "--output", str(tmp_path / "no" / "x.md"))
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path}/no/x.md: No such file or directory\n"
