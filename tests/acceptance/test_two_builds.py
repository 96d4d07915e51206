"""Builds of somebody else's node compared: one that errs in group traffic, one that calls twice.

The node shares no code with the agent and tells nothing; all that is known of it the tester and
the kernel have counted. And the example of the documents, as it stands there.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from testbed.experiment import rigs
from testbed.experiment.runner import run_scenario
from testbed.measure.statistics import syscalls_per_packet
from testbed.report.markdown import render_markdown
from testbed.results import Result, Trial
from testbed.results.store import load_result
from testbed.scenario.loader import load_scenario

pytestmark = pytest.mark.usefixtures("root", "run_dir")

SMALL_NODE = Path(__file__).parents[1] / "traffic" / "small_node.py"


def build(*faults: str) -> str:
    words = [
        *(sys.executable, "-S", str(SMALL_NODE), "{kind}", "--bind", "{iface}"),
        *("--tap-name", "{tap}", "--ip", "{ip}", "--mtu", "{mtu}"),
        *("--hello-periodicity", "{hello_periodicity_ms}", *faults),
    ]
    return "command: [" + ", ".join(f'"{word}"' for word in words) + "]"


SCENARIO = f"""\
name: two-builds
topology: cell.yaml
measure:
  group: {{node: rsu1, path: group}}
traffic:
  loads: {{low: 400pps}}
variants:
  before: {{baseline: true, {build()}, ready: {{log: ^ready$}}}}
  once: {{{build("--group-once")}, only: {{passes: [timing]}}}}
  twice: {{{build("--twice")}}}
  unready: {{{build()}, ready: {{log: never, within: 300ms}}, only: {{passes: [timing]}}}}
checks: {{which: [group]}}
repeats: 1
trial: 400ms
warm_up: 100ms
counting: {{trial: 300ms, repeats: 1}}
"""

CELL = """\
name: cell
topology:
  defaults: {kind: obu, hello: {period: 200ms}}
  nodes: {rsu1: {kind: rsu}, obu1: , obu2: , obu3: }
  segments: [[rsu1, obu1, obu2, obu3]]
"""


def trials(made: Result, variant: str, phase: str) -> list[Trial]:
    """All of them: what a busy machine spoils is made again, and both are kept."""
    found = [one for one in made.trials if (one.variant, one.phase) == (variant, phase)]
    assert found
    return found


def test_the_report_names_what_each_build_does_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One of them never forwards as it should, and is not waited for as long as a node is.
    monkeypatch.setattr(rigs, "PREPARE_TIMEOUT_S", 3.0)
    (tmp_path / "cell.yaml").write_text(CELL)
    (tmp_path / "scenario.yaml").write_text(SCENARIO)
    run_scenario(
        load_scenario(tmp_path / "scenario.yaml"), quick=False, output_dir=tmp_path / "out"
    )
    made = load_result(tmp_path / "out")

    # What ran is in the result, filled in.
    commands = {variant.name: variant.command for variant in made.scenario.variants}
    assert commands["twice"] is not None
    assert commands["twice"].argv[2:5] == [str(SMALL_NODE), "rsu", "--bind"]
    assert commands["twice"].argv[-1] == "--twice"
    told = {variant.name: set(variant.settings) for variant in made.scenario.variants}
    assert told["before"] == {"mtu", "hello_periodicity_ms"}

    # One OBU gets its copy of group traffic, and the others none: the check before says so,
    checked = {check.variant: check for check in made.checks}
    assert {name for name, check in checked.items() if not check.passed} == {"once", "unready"}
    assert sorted(pair.received > 0 for pair in checked["once"].pairs) == [False, False, True]
    # and that is no RSU to be measured.
    for failed in trials(made, "once", "timing"):
        assert failed.traffic is None
        (mark,) = failed.marks
        assert mark.mark == "failed"
        assert "2 of 3 streams missing" in mark.why

    # One that is not ready in time is stopped for that, and has not died.
    never = (
        "rsu1: could not be started: not ready within 0.3 s: no line of its log matches 'never'; "
        "its log ends with: ready"
    )
    for failed in trials(made, "unready", "timing"):
        assert [(one.mark, one.why) for one in failed.marks] == [("failed", never)]
    assert str(checked["unready"].why).startswith(never)

    # The others tell nothing either; the kernel has counted all that is outside of them.
    for one in made.trials:
        if one.variant in ("once", "unready"):
            continue
        assert one.traffic is not None, one.marks
        assert one.traffic.delivered == one.traffic.offered
        assert one.ledger is not None
        assert not one.ledger.node_told
        assert one.node is not None
        assert one.node.cpu is not None
        assert one.node.cpu.task_clock_ns
        assert one.node.switches is not None
        assert one.node.memory is not None
        assert one.node.memory.pss_end_bytes
        assert one.node.wakeups is None
        assert one.node.syscalls is None or one.node.syscalls.node is None

    # Twice the system calls, by the kernel's count.
    before, twice = (
        syscalls_per_packet(min(trials(made, name, "counting"), key=lambda one: len(one.marks)))
        for name in ("before", "twice")
    )
    assert before is not None
    assert twice is not None
    assert twice / before == pytest.approx(2, rel=0.1)

    report = " ".join(render_markdown(made).replace("\\", "").split())
    assert f"{SMALL_NODE} rsu --bind radio0 --tap-name tap0" in report
    number = len(trials(made, "once", "timing"))
    assert f"{number} of {number} of once at low load" in report
    assert "2 of 3 streams missing" in report
    assert "got 0 whole" in report
    row = re.search(r"\| low \| twice \| ([\d.]+) \| \+(\d+)", report)
    assert row is not None
    # The median of all that were counted.
    assert float(row[1]) == pytest.approx(twice, rel=0.1)
    assert 80 <= int(row[2]) < 130


def test_the_example_in_the_documents_passes_its_checks_and_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    text = (Path(__file__).parents[2] / "docs" / "foreign-nodes.md").read_text()
    topology, scenario = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "theirs.yaml").write_text(topology)
    # As it stands there, but for the time that it takes.
    quick = "quick: {repeats: 1, loads: [medium], trial: 200ms, warm_up: 50ms}"
    short, times = re.subn(r"^counting: .*\nquick: .*$", quick, scenario, flags=re.MULTILINE)
    assert times == 1
    (tmp_path / "builds.yaml").write_text(short)
    made = run_scenario(
        load_scenario(tmp_path / "builds.yaml"), quick=True, output_dir=tmp_path / "out"
    )
    assert [(one.variant, one.kind, one.why) for one in made.checks if not one.passed] == []
    assert {one.variant for one in made.checks} == {"before", "after", "ours"}
    # What an outsider cannot know of a node, ours tells.
    assert {one.variant for one in made.trials} == {"before", "after", "ours"}
    for one in made.trials:
        assert one.node is not None, one.marks
        assert one.ledger is not None
        assert (one.node.wakeups is not None) == one.ledger.node_told == (one.variant == "ours")
