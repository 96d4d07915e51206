"""`testbed run` and `report`: files, exit codes, and that Ctrl-C leaves nothing but the result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TESTBED = (sys.executable, "-m", "testbed")
TINY = """\
name: tbttiny
topology: pair
checks: {which: []}
measure:
  relay: { node: obu1, path: relay }
traffic:
  loads: { low: 500pps }
variants:
  per-packet: { baseline: true, engine: per-packet, handler: per-packet, batch: 1 }
  batched: { engine: { wire: mmsg, tap: per-packet }, handler: batched }
targets: [all]
repeats: 1
trial: REPEAT
warm_up: 0s
"""


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (*TESTBED, *arguments), cwd=cwd, capture_output=True, text=True, check=False, timeout=100
    )


def testbeds_of_runs() -> list[str]:
    folder = Path("/run/netns")
    return [one for one in os.listdir(folder) if "tbttiny" in one] if folder.is_dir() else []


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scenario") / "tiny.yaml"
    path.write_text(TINY.replace("REPEAT", "200ms"))
    return path


@pytest.fixture(scope="module")
def measured(
    scenario: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A run that is made once, and the directory that it wrote to."""
    output = tmp_path_factory.mktemp("measured") / "new" / "here"
    return output, run("run", str(scenario), "--output", str(output), "--fail-on", "inconclusive")


def test_a_run_writes_its_files_and_prints_the_targets(
    root: None, measured: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    output, done = measured
    names = ["junit.xml", "report.html", "report.md", "result.json"]
    assert sorted(path.name for path in output.iterdir()) == names
    assert "claimed and found" in done.stdout
    assert "throughput, low load" in done.stdout
    assert str(output / "result.json") in done.stderr
    assert testbeds_of_runs() == []


def test_a_verdict_that_shall_fail_does(
    root: None, measured: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    output, done = measured
    # One pair decides nothing.
    assert done.returncode == 3, done.stderr
    assert "inconclusive" in done.stderr.splitlines()[-1]
    assert run("report", str(output), "--fail-on", "inconclusive").returncode == 3
    assert run("report", str(output), "--fail-on", "missed").returncode == 0


def test_the_report_is_made_again_from_the_file_alone(
    root: None, measured: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    output, done = measured
    again = run("report", str(output))
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith(done.stdout)
    markdown = run("report", str(output / "result.json"), "--format", "markdown").stdout
    assert markdown == (output / "report.md").read_text()
    for form, name in (("html", "report.html"), ("junit", "junit.xml")):
        place = output.parent / f"again-{name}"
        assert run("report", str(output), "--format", form, "--output", str(place)).stdout == ""
        assert place.read_bytes() == (output / name).read_bytes()
    values = json.loads(run("report", str(output), "--format", "json").stdout)
    assert values == json.loads((output / "result.json").read_text())


def test_without_output_there_is_a_new_directory(
    root: None, scenario: Path, tmp_path: Path
) -> None:
    done = run("run", str(scenario), "--reports", "junit", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (made,) = (tmp_path / "results").iterdir()
    assert made.name.startswith("tbttiny-")
    assert sorted(path.name for path in made.iterdir()) == ["junit.xml", "result.json"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "no-such-scenario"),
        ("run", "batching", "--fail-on", "nonsense"),
        ("run", "batching", "--seed", "-1"),
        ("run", "batching", "--reports", "pdf"),
        ("report", "no-such-directory", "--format", "pdf"),
        ("report", "no-such-directory"),
        ("report", "/proc/self/environ"),
    ],
)
def test_bad_usage_is_one_line_and_2_and_leaves_nothing(
    root: None, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_found_before_the_run(
    root: None, scenario: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    done = run("run", str(scenario), "--output", str(tmp_path / "file" / "below"))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: ")


def test_ctrl_c_undoes_everything_and_keeps_what_was_measured(root: None, tmp_path: Path) -> None:
    path = tmp_path / "long.yaml"
    path.write_text(TINY.replace("REPEAT", "500ms").replace("repeats: 1", "repeats: 100"))
    output = tmp_path / "out"
    with subprocess.Popen(
        (*TESTBED, "run", str(path), "--output", str(output)),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            # A line comes every ten seconds: by then some trials have been made.
            if not line.startswith("0/"):
                break
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert testbeds_of_runs() == []
    kept = json.loads((output / "result.json").read_text())
    assert kept["interrupted"]
    assert kept["trials"]
    assert str(output / "result.json") in stderr


def test_ctrl_c_before_the_first_trial_leaves_no_directory(root: None, tmp_path: Path) -> None:
    path = tmp_path / "long.yaml"
    path.write_text(TINY.replace("REPEAT", "30s"))
    output = tmp_path / "out" / "deep"
    with subprocess.Popen(
        (*TESTBED, "run", str(path), "--output", str(output)), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert testbeds_of_runs() == []
    assert not output.parent.exists()
