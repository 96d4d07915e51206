"""Where something runs out the command says what in one line, and nothing is left behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("root")

HERE = Path(__file__).parent
FULL = "No space left on device"


@pytest.mark.parametrize(
    ("what", "limits", "codes", "said"),
    [
        ("blocks", (4, 8), {1}, FULL),
        ("inodes", (2, 6, 10), {1}, FULL),
        ("read-only", (1,), {1}, "Read-only file system"),
        ("output", (4,), {1}, FULL),
        ("descriptors", (12,), {1}, "Too many open files"),
        ("all descriptors", (60,), {4}, "RLIMIT_NOFILE"),
        ("namespaces", (0, 2), {4}, "no further network namespace"),
        ("memory", (60, 80), {1, 4}, ""),
    ],
)
def test_it_is_told_and_undone(
    what: str, limits: tuple[int, ...], codes: set[int], said: str
) -> None:
    unshare = shutil.which("unshare")
    assert unshare is not None
    done = subprocess.run(
        [
            *(unshare, "--mount", "--net", "--pid", "--kill-child", "--mount-proc"),
            *("--propagation", "private"),
            *(sys.executable, str(HERE / "starved.py"), what, *map(str, limits)),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    assert [case["limit"] for case in cases] == list(limits)
    for case in cases:
        assert case["exit"] in codes, case
        assert case["said"][-1].startswith("error: "), case
        assert said in case["said"][-1], case
        assert not any("Traceback" in line for line in case["said"]), case
        assert case["left"] == [], case
