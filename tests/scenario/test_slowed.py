"""A change for the worse is found by comparing two real runs, and no change is not called one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.config import SLOW_VARIABLE

SLOW_US = 1_000
SCENARIO = """\
name: tbtslow
topology: pair
checks: {which: []}
measure:
  relay: {node: obu1, path: relay}
traffic:
  loads: {low: 400pps}
variants:
  per-packet: {baseline: true, engine: per-packet, handler: per-packet, batch: 1}
  batched: {engine: {wire: mmsg, tap: per-packet}, handler: batched, batch: 32}
repeats: 5
trial: 200ms
warm_up: 50ms
"""

pytestmark = pytest.mark.usefixtures("root", "run_dir")


def testbed(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-m", "testbed", *arguments),
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same scenario three times; the last with agents that waste a millisecond for a frame."""
    folder = tmp_path_factory.mktemp("runs")
    scenario = folder / "slow.yaml"
    scenario.write_text(SCENARIO)
    made = {}
    for name, wasted_us in (("old", 0), ("new", 0), ("slowed", SLOW_US)):
        made[name] = folder / name
        done = testbed(
            "run", str(scenario), "--output", str(made[name]), "--reports", "junit",
            **({SLOW_VARIABLE: str(wasted_us)} if wasted_us else {}),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    return made


def test_a_slowed_agent_is_a_regression(runs: dict[str, Path]) -> None:
    done = testbed("compare", str(runs["old"]), str(runs["slowed"]), "--fail-on", "regression")
    assert done.returncode == 3, done.stdout
    assert "CPU per packet of per-packet at low load" in done.stderr
    assert "CPU per packet of batched at low load" in done.stderr
    words = " ".join(done.stdout.split())
    assert f"nodes were slowed down on purpose: {SLOW_VARIABLE}={SLOW_US}" in words


def test_going_back_is_an_improvement(runs: dict[str, Path]) -> None:
    done = testbed(
        "compare", str(runs["slowed"]), str(runs["new"]), "--fail-on", "regression",
        "--format", "json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["compared"]
    cpu = [one for one in found if one["quantity"] == "cpu_us_per_packet"]
    assert [one["outcome"] for one in cpu] == ["better", "better"]


def test_an_unchanged_agent_is_none(runs: dict[str, Path]) -> None:
    done = testbed("compare", str(runs["old"]), str(runs["new"]), "--fail-on", "regression")
    assert done.returncode == 0, done.stdout
    assert " worse" not in done.stdout.partition("Change: ")[0]
