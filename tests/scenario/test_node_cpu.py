"""A node that has a share of its CPU is the limit earlier, and the report says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from test_scenario_files import load, problems

from testbed.errors import Lacking
from testbed.experiment import runner
from testbed.experiment.pinning import choose_pins
from testbed.experiment.runner import run_scenario
from testbed.report.markdown import render_markdown

SCENARIO = """\
name: NAME
topology: pair
measure:
  whole: {node: obu1, path: relay}
  slow: {node: obu1, path: relay, node_cpu: 20%}
traffic:
  loads: {max: max}
variants:
  single: {baseline: true, engine: per-packet, handler: per-packet, batch: 1}
  batched: {engine: {wire: mmsg, tap: per-packet}, handler: batched, batch: 32}
repeats: 1
trial: 500ms
warm_up: 100ms
checks: {which: []}
"""


@pytest.mark.usefixtures("root", "run_dir")
def test_it_forwards_less_for_the_same_cost(tmp_path: Path, testbed_name: str) -> None:
    scenario = load(SCENARIO.replace("NAME", testbed_name), tmp_path)
    made = run_scenario(scenario, quick=False, output_dir=tmp_path / "out")
    assert {point.name: point.node_cpu for point in made.scenario.points} == {
        "whole": 1,
        "slow": 0.2,
    }
    delivered = {}
    for trial in made.trials:
        assert trial.traffic is not None
        if trial.variant == "single":
            delivered[trial.point] = trial.traffic.delivered
    assert 0.05 < delivered["slow"] / delivered["whole"] < 0.6
    assert "obu1 (wire → wire, wire → wire with 20% of a CPU)" in render_markdown(made)


@pytest.mark.usefixtures("root", "run_dir")
def test_it_needs_a_cpu_without_the_tester(
    tmp_path: Path, testbed_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "choose_pins", lambda cpus: choose_pins(cpus[:1]))
    scenario = load(SCENARIO.replace("NAME", testbed_name), tmp_path)
    only = replace(scenario.full, points=("slow",))
    with pytest.raises(Lacking, match="a CPU without the tester: run it on two CPUs or more"):
        run_scenario(replace(scenario, full=only), quick=False, output_dir=tmp_path / "out")


def test_too_small_a_share_is_refused(tmp_path: Path) -> None:
    (problem,) = problems(SCENARIO.replace("NAME", "small").replace("20%", "5%"), tmp_path)
    assert problem == (
        "5: measure.slow.node_cpu: too small (got '5%'; expected a percentage from 10% to 100%, "
        "such as 25%)"
    )
