"""`testbed validate` on scenarios: what they would measure, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from testbed.cli import cli
from testbed.errors import InputError

SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_scenario_is_valid_by_path_and_by_name(path: Path) -> None:
    by_path = CliRunner().invoke(cli, ["validate", str(path), "--format", "json"])
    assert by_path.exit_code == 0, by_path.output
    values = json.loads(by_path.stdout)
    assert values["checks"]
    by_name = CliRunner().invoke(cli, ["validate", path.stem])
    assert by_name.exit_code == 0
    assert values["variants"][0]["name"] in by_name.stdout
    if values["kind"] != "checks":
        assert values["full"]["trials"] > values["quick"]["trials"] > 0
        assert values["points"][0]["name"] in by_name.stdout


def test_a_wrong_scenario_is_refused_as_a_scenario(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("name: wrong\ntopology: pair\nvariants: {}\n")
    refused = CliRunner().invoke(cli, ["validate", str(path)])
    assert isinstance(refused.exception, InputError)
    # The last is left to whoever prints errors.
    said = [*refused.stderr.splitlines(), f"error: {refused.exception}"]
    assert len(said) > 1
    assert f"error: {path}:1: the key 'measure' is missing" in said
    assert all(line.startswith(f"error: {path}:") for line in said)


def test_what_is_searched_for_is_told_along_with_the_trials() -> None:
    told = CliRunner().invoke(cli, ["validate", "throughput", "--format", "json"])
    values = json.loads(told.stdout)
    assert values["full"]["searches"] > values["quick"]["searches"] > 0
    assert values["full"]["estimated_s"] > values["full"]["measured_s"]
    shown = CliRunner().invoke(cli, ["validate", "throughput"])
    rows = [line.split() for line in shown.stdout.splitlines()]
    searched = [row for row in rows if "search" in row]
    assert {row[-3] for row in searched} == {variant["name"] for variant in values["variants"]}
    assert sum(int(row[-2]) for row in searched) == values["full"]["searches"]
    assert f"and {values['quick']['searches']} searches in about" in shown.stderr


def test_the_time_that_a_run_takes_holds_its_checks(tmp_path: Path) -> None:
    text = (SCENARIOS / "batching.yaml").read_text()
    path = tmp_path / "own.yaml"
    estimated = {}
    for checks in ("", "checks: {which: []}\n"):
        path.write_text(text + checks)
        told = CliRunner().invoke(cli, ["validate", str(path), "--format", "json"])
        assert told.exit_code == 0, told.output
        estimated[checks] = json.loads(told.stdout)["quick"]["estimated_s"]
    assert estimated[""] >= estimated["checks: {which: []}\n"] + 10
