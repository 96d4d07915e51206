"""A node that is kept from running is waited for: what it sends on afterwards is counted."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from test_scenario_files import load

from testbed.experiment import trial
from testbed.experiment.nodewatch import NodeWatch
from testbed.experiment.runner import run_scenario
from testbed.traffic.legs import QUIET_S

SCENARIO = """\
name: NAME
topology: pair
measure:
  relay: {node: obu1, path: relay, tester: rsu1}
traffic:
  loads: {low: 500pps}
variants:
  single: {baseline: true, engine: per-packet, handler: per-packet, batch: 1}
  batched: {engine: {wire: mmsg, tap: per-packet}, handler: batched, batch: 32}
repeats: 1
trial: 200ms
warm_up: 0ms
checks: {which: []}
"""


@pytest.mark.usefixtures("root", "run_dir")
def test_frames_that_a_node_could_not_yet_send_on_are_waited_for(
    tmp_path: Path, testbed_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Kept(NodeWatch):
        """The node stands still from before the first frame until long after the last one."""

        def start(self) -> None:
            super().start()
            os.kill(self._pid, signal.SIGSTOP)

        def end(self) -> None:
            # It cannot answer now, so nothing is asked of it.
            threading.Timer(3 * QUIET_S, os.kill, (self._pid, signal.SIGCONT)).start()

    monkeypatch.setattr(trial, "NodeWatch", Kept)
    scenario = load(SCENARIO.replace("NAME", testbed_name), tmp_path)
    made = run_scenario(scenario, quick=False, output_dir=tmp_path / "out")
    # A pair that the machine has spoiled is made again, and holds to the same.
    assert [one.variant for one in made.trials[:2]] == ["single", "batched"]
    for one in made.trials:
        assert one.traffic is not None
        assert one.ledger is not None
        assert one.traffic.offered >= 50
        assert one.traffic.delivered == one.traffic.offered
        assert one.ledger.unexplained == 0
