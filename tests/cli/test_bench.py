"""`testbed bench`: tables, files and exit codes, in very short runs on real devices."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import click
import pytest

from testbed.cli.bench import coalescing

TESTBED = (sys.executable, "-m", "testbed", "bench")
SHORT = ("--rounds", "1", "--trial", "200ms")

pytestmark = pytest.mark.usefixtures("root", "run_dir")


def run(
    *arguments: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (*TESTBED, *arguments),
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def grounds(pid: int | None = None) -> list[str]:
    """Namespaces of benchmarks that are up, of that process if one is given."""
    folder = Path("/run/netns")
    names = os.listdir(folder) if folder.is_dir() else []
    return [
        one for one in names if one.startswith("tb.bench-") and (pid is None or f"-{pid}." in one)
    ]


def test_engines_are_printed_beside_the_floor_and_the_kernel_and_kept(tmp_path: Path) -> None:
    done = run(
        *("engines", "--path", "relay", "--engine", "per-packet", "--engine", "mmsg"),
        *("--batch", "8", *SHORT, "--output", str(tmp_path / "out")),
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    starts = [line[:2] for line in lines]
    for wanted in (["per-packet", "1"], ["mmsg", "8"], ["floor", "(C)"], ["kernel", "(XDP)"]):
        assert wanted in starts
    document = json.loads((tmp_path / "out" / "engines.json").read_text())
    assert document["format"] == "testbed-bench-engines"
    assert not document["interrupted"]
    assert document["machine"]["kernel"] == os.uname().release
    by_name = {row["name"]: row for row in document["rows"]}
    assert set(by_name) == {"floor (C)", "kernel (XDP)", "per-packet", "mmsg"}
    # On a busy machine so short a trial may be spoiled; then it says by what.
    assert all(row["trials"] or row["failed"] for row in by_name.values())
    assert {trial["batch"] for trial in document["trials"]} == {1, 8, None}
    ET.parse(tmp_path / "out" / "engines.svg")
    assert str(tmp_path / "out" / "engines.svg") in done.stderr


def test_without_a_compiler_the_floor_is_named_with_the_reason(tmp_path: Path) -> None:
    done = run(
        *("engines", "--path", "tap-to-wire", "--engine", "mmsg/uring", "--batch", "8", *SHORT),
        *("--format", "json", "--output", str(tmp_path / "out")),
        PATH=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert "no C compiler" in document["unavailable"]["floor (C)"]
    assert {one["name"] for one in document["trials"]} == {"mmsg/uring", "kernel (XDP)"}
    assert all(row["work_ratio"] is None for row in document["rows"])


def test_coalescing_is_printed_load_by_load(tmp_path: Path) -> None:
    done = run(
        *("coalescing", "--rate", "2000", "--rate", "max", *SHORT),
        *("--output", str(tmp_path / "out")),
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "2000 pps" in lines
    assert "max" in lines
    for mode in ("per-packet", "off", "fixed", "adaptive"):
        assert sum(line.startswith(f"{mode} ") for line in lines) == 2
    document = json.loads((tmp_path / "out" / "coalescing.json").read_text())
    assert document["extent"]["max_wait_us"] == 1000
    rows = [row for row in document["rows"] if row["load"] == "2000 pps"]
    assert all(row["trials"] or row["failed"] for row in rows)
    assert [row["name"] for row in rows if row["decisions"]] == ["fixed", "adaptive"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("engines", "--engine", "nonsense"),
        ("engines", "--batch", "257"),
        ("engines", "--path", "group"),
        ("engines", "--path", "relay", "--engine", "mmsg/uring"),
        ("engines", "--trial", "2"),
        ("coalescing", "--rate", "fast"),
        ("coalescing", "--rate", "5kbit"),
        ("coalescing", "--rate", "0pps"),
        ("coalescing", "--rate", "11mpps"),
        ("coalescing", "--max-wait", "20ms"),
    ],
)
def test_bad_usage_is_one_line_and_2_and_leaves_nothing(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_rate_may_have_its_unit() -> None:
    (option,) = (one for one in coalescing.params if one.name == "rate")
    given = ("5kpps", "0.5kpps", "5000", "max", "50000pps")
    with click.Context(coalescing) as context:
        assert option.process_value(context, given) == (5000, 500, None, 50_000)


def test_ctrl_c_undoes_everything_and_keeps_what_was_measured(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with subprocess.Popen(
        (
            *(*TESTBED, "engines", "--path", "relay", "--engine", "mmsg", "--trial", "200ms"),
            *("--rounds", "500", "--output", str(output)),
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
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
    assert grounds(process.pid) == []
    kept = json.loads((output / "engines.json").read_text())
    assert kept["interrupted"]
    assert kept["trials"]
    assert str(output / "engines.json") in stderr
