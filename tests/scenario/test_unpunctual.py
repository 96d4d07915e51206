"""A tester that may not run in real time measures all the same, and its result says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from testbed.report.markdown import render_markdown
from testbed.results.store import load_result

SCENARIO = """\
name: NAME
topology: pair
checks: {which: []}
measure: {relay: {node: obu1, path: relay}}
traffic:
  loads: {medium: 2kpps}
variants:
  single: {baseline: true, engine: per-packet, handler: per-packet, batch: 1}
  again: {engine: per-packet, handler: per-packet, batch: 1}
repeats: 1
trial: 200ms
warm_up: 50ms
"""

pytestmark = pytest.mark.usefixtures("root", "run_dir")


def test_what_the_kernel_refused_stands_in_the_result_and_the_report(
    tmp_path: Path, testbed_name: str
) -> None:
    (tmp_path / "small.yaml").write_text(SCENARIO.replace("NAME", testbed_name))
    done = subprocess.run(
        ("setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice",
         sys.executable, "-m", "testbed", "run", "small.yaml", "--output", "out"),
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = load_result(tmp_path / "out")
    wanted = {
        (
            "the generator did not keep its time as it should: it ran as ordinary: real-time "
            "scheduling was refused (Operation not permitted)"
        ),
        (
            "the sink did not keep its time as it should: it ran as ordinary: to come first was "
            "refused (Permission denied)"
        ),
    }
    assert wanted <= set(result.notes)
    page = " ".join(render_markdown(result).split())
    assert all(note[1:] in page for note in wanted)
