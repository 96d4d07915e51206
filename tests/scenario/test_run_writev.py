"""What one writev for a batch does, as a scenario shows it: packets, not promises."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_scenario_files import load

from testbed.experiment.outcome import OPEN_LEDGER
from testbed.experiment.runner import run_scenario
from testbed.measure.statistics import Verdict, assess
from testbed.scenario.loader import load_scenario

SMALL = """\
name: lossy
topology: pair
checks: {which: []}
measure:
  relay: {node: obu1, path: relay}
  to-tap: {node: obu1, path: wire-to-tap}
traffic:
  loads: {max: max}
variants:
  single: {baseline: true, engine: per-packet, handler: per-packet, batch: 1}
  writev: {engine: writev, handler: batched, batch: 32}
repeats: 1
trial: 500ms
warm_up: 100ms
"""


@pytest.mark.usefixtures("root", "run_dir")
def test_at_full_speed_hardly_anything_arrives_and_the_ledger_says_why(tmp_path: Path) -> None:
    made = run_scenario(load(SMALL, tmp_path), quick=False, output_dir=tmp_path / "out")
    assert len(made.trials) == 4
    arrived: dict[tuple[str, str], int] = {}
    for trial in made.trials:
        assert trial.traffic is not None
        assert trial.ledger is not None
        assert trial.node is not None
        arrived[trial.point, trial.variant] = trial.traffic.delivered
        open_frames = abs(trial.ledger.unexplained)
        assert open_frames <= max(10, OPEN_LEDGER * trial.ledger.offered)
        if trial.variant == "writev":
            assert {side.used for side in trial.node.engines.values()} == {"writev"}
            lost_by = "wire_batch_too_long" if trial.point == "relay" else "tap_swallowed"
            assert lost_by in {line.cause for line in trial.ledger.lines}
    # Batches that were not full yet, at the very beginning, may have got through.
    for point in ("relay", "to-tap"):
        assert arrived[point, "writev"] < arrived[point, "single"] / 5
    won = (Verdict.MET, Verdict.EXCEEDED)
    assert not [finding for finding in assess(made) if finding.verdict in won]


def test_the_shipped_scenario_compares_it_with_real_batches_and_single_calls() -> None:
    scenario = load_scenario("writev", env={})
    node = scenario.topology.node("obu1")
    engines = {
        variant.name: (variant.settings(node).engine_wire, variant.settings(node).engine_tap)
        for variant in scenario.variants
    }
    assert engines == {
        "per-packet": ("per-packet", "per-packet"),
        "writev": ("writev", "writev"),
        "mmsg": ("mmsg", "per-packet"),
        "uring": ("uring", "uring"),
    }
    assert scenario.baseline.name == "per-packet"
    assert "max" in scenario.quick.loads
