"""The action for GitHub, its steps run as its runner runs them, on a real engine."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from engine_under_test import RealEngine, same_twice

from testbed.results.store import load_result

ROOT = Path(__file__).resolve().parents[2]

# The making of engine and image may count as this test's.
pytestmark = [pytest.mark.timeout(660), pytest.mark.usefixtures("root")]

NEAR = """\
name: near
topology:
  nodes: {rsu1: {kind: rsu}, obu1: {kind: obu}}
  links: [[rsu1, obu1]]
"""


class Runner:
    """As much of GitHub's runner as the action's steps see: files, variables, expressions."""

    def __init__(self, engine: RealEngine, workspace: Path, temporary: Path) -> None:
        self._action: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
        self._engine = engine
        self._workspace = workspace
        self._temporary = temporary
        self._variables: dict[str, str] = {}
        self.outputs: dict[str, str] = {}

    def run(self, *, installed: bool = False, **inputs: str) -> tuple[int, str]:
        """All steps but those of other actions; the exit code of the last, and the summary.

        With `installed`, what an earlier run has installed is taken: that takes most of the time.
        """
        values = {name: str(one["default"]) for name, one in self._action["inputs"].items()}
        assert inputs.keys() <= values.keys()
        self._inputs = values | inputs
        files = {
            name: self._temporary / name
            for name in ("GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")
        }
        code = 0
        for file in files.values():
            file.write_text("")
        for step in self._action["runs"]["steps"]:
            if "run" not in step or (installed and step["name"] == "Install the command"):
                continue
            assert step["shell"] == "bash"
            done = subprocess.run(
                ("bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]),
                cwd=self._workspace,
                env=self._engine.environment
                | {"RUNNER_TEMP": str(self._temporary)}
                | {name: str(path) for name, path in files.items()}
                | self._variables
                | {name: self._value(text) for name, text in step.get("env", {}).items()},
                capture_output=True,
                text=True,
                check=False,
                timeout=300,
            )
            code = done.returncode
            last = step is self._action["runs"]["steps"][-1]
            assert code == 0 or last, f"{step['name']}: {done.stderr}"
            self._variables |= _pairs(files["GITHUB_ENV"])
            self.outputs |= _pairs(files["GITHUB_OUTPUT"])
        return code, files["GITHUB_STEP_SUMMARY"].read_text()

    def _value(self, text: str) -> str:
        return re.sub(r"\$\{\{\s*(\S+)\s*\}\}", lambda found: self._context(found[1]), text)

    def _context(self, name: str) -> str:
        if name == "github.action_path":
            return str(ROOT)
        if name.startswith("inputs."):
            return self._inputs[name.removeprefix("inputs.")]
        return self.outputs[name.removeprefix("steps.run.outputs.")]


def _pairs(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


def test_its_steps_measure_compare_and_pass_the_exit_code_on(
    real_engine: RealEngine, tmp_path: Path
) -> None:
    workspace, temporary = tmp_path / "workspace", tmp_path / "temporary"
    workspace.mkdir()
    temporary.mkdir()
    (workspace / "near.yaml").write_text(NEAR)
    (workspace / "short.yaml").write_text(same_twice("tbt-action", trial="200ms"))
    runner = Runner(real_engine, workspace, temporary)
    wanted = {"scenario": "short.yaml", "quick": "false", "image": real_engine.image}

    code, summary = runner.run(output="results/base", **wanted)
    assert (code, runner.outputs) == (0, {"status": "0", "result": "results/base/result.json"})
    assert "tbt-action: claimed and found" in summary
    assert load_result(workspace / "results" / "base").seed is not None

    code, summary = runner.run(
        installed=True,
        **wanted,
        output="results/this",
        baseline="results/base",
        **{"fail-on": "inconclusive"},
    )
    assert (code, runner.outputs["status"]) == (3, "3")
    assert "tbt-action: claimed and found" in summary
    assert re.search(r"Of \d+ comparisons", summary)
    assert "Not compared" not in summary
    assert {"result.json", "report.md", "report.html", "junit.xml"} <= set(
        os.listdir(workspace / "results" / "this")
    )
    assert real_engine.containers() == []
