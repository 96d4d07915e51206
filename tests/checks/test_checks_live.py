"""Checks on real nodes: what is right passes, what is wrong fails with the true reason."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from testbed.checks.suite import run_checks
from testbed.kernel import netns
from testbed.results import Check
from testbed.scenario.model import CHECKS, PASSES, Checks, Variant

pytestmark = pytest.mark.usefixtures("root")

KINDS = list(CHECKS)


def variant(name: str, *, wire: str, tap: str, handler: str = "batched") -> Variant:
    overrides = {"engine_wire": wire, "engine_tap": tap, "handler": handler}
    return Variant(name=name, baseline=False, overrides=overrides, passes=PASSES)


def of(checks: Sequence[Check], name: str) -> dict[str, Check]:
    return {check.kind: check for check in checks if check.variant == name}


def test_honest_engines_pass_and_writev_fails_with_the_reason(
    run_dir: Path, testbed_name: str
) -> None:
    variants = [
        variant("per-packet", wire="per-packet", tap="per-packet", handler="per-packet"),
        variant("mmsg", wire="mmsg", tap="per-packet"),
        variant("uring", wire="uring", tap="uring"),
        variant("auto", wire="auto", tap="auto"),
        variant("writev", wire="writev", tap="writev"),
    ]
    checks = run_checks(variants, Checks(), testbed=testbed_name, quick=True)
    assert [check.variant for check in checks] == [v.name for v in variants for _ in KINDS]
    assert [name for name in netns.names() if f".{testbed_name}." in name] == []
    for name in ("per-packet", "mmsg", "uring", "auto"):
        found = of(checks, name)
        assert {kind: check.why for kind, check in found.items()} == dict.fromkeys(KINDS)
        assert all(check.passed for check in found.values())
        pairs = found["reachability"].pairs
        assert {pair.family for pair in pairs} == {"ipv4", "ipv6"}
        assert len(pairs) == 2 * 12
        assert all(pair.expected and pair.received for pair in pairs)
        assert [pair.destination for pair in found["group"].pairs] == ["obu1", "obu2", "obu3"]
        ways = {(one.way, one.frame_bytes, one.last_bytes) for one in found["integrity"].sizes}
        assert ways == {
            (way, 60, 1450)
            for way in ("obu1 → rsu1", "rsu1 → obu1", "obu1 → obu2", "obu3 → rsu1", "rsu1 → obu3")
        }
        lost = [(f.silenced, f.direction) for f in found["failover"].failovers]
        assert lost[:2] == [("rsu1", "up"), ("rsu1", "down")]
        assert {silenced for silenced, _ in lost[2:]} < {"obu1", "obu2"}
        for one in found["failover"].failovers:
            assert one.outage_ns is not None
            assert one.resumed_by not in (None, one.silenced)
    broken = of(checks, "writev")
    assert not broken["group"].passed
    # Of three copies in one frame, the first alone arrives, with the others as its tail.
    assert "obu3 got 0 whole" in str(broken["group"].why)
    assert any(
        "1 of 6 copies" in seen or "2 of 6 copies of 60 bytes" in seen
        for seen in broken["group"].seen
    )
    assert any("of them with a tail" in seen for seen in broken["group"].seen)
    assert "rsu1 put on the air 0 of 6 copies of 1450 bytes" in broken["group"].seen
    assert not broken["reachability"].passed
    assert "pairs (not " in str(broken["reachability"].why)


SMALL_NODE = Path(__file__).parents[1] / "traffic" / "small_node.py"


def program(name: str, *faults: str) -> Variant:
    """A node that shares no code with the agent, with faults or without."""
    command = (
        *(sys.executable, "-S", str(SMALL_NODE), "{kind}", "--bind", "{iface}"),
        *("--tap-name", "{tap}", "--ip", "{ip}", "--mtu", "{mtu}"),
        *("--hello-periodicity", "{hello_periodicity_ms}", *faults),
    )
    return Variant(name=name, baseline=False, overrides={"command": command}, passes=PASSES)


def test_a_program_is_held_to_the_same_and_its_faults_are_named(
    run_dir: Path, testbed_name: str
) -> None:
    variants = [
        program("right"),
        program("once", "--group-once"),
        program("cutting", "--cut", "7"),
        program("dying", "--no-such-option"),
    ]
    wanted = Checks(which=("reachability", "group", "integrity"))
    checks = run_checks(variants, wanted, testbed=testbed_name, quick=True)
    # What is not wanted is not checked.
    assert [check.kind for check in checks] == len(variants) * list(wanted.which)
    right = of(checks, "right")
    assert {kind: check.why for kind, check in right.items()} == dict.fromkeys(wanted.which)
    assert all(pair.received for pair in right["reachability"].pairs)
    once = of(checks, "once")
    assert not once["reachability"].passed
    assert once["integrity"].passed
    group = once["group"]
    assert not group.passed
    assert sorted(pair.received for pair in group.pairs) == [0, 0, 6]
    assert "got 0 whole" in str(group.why)
    assert any("2 of 6 copies of 60 bytes" in seen for seen in group.seen)
    cutting = of(checks, "cutting")["integrity"]
    assert not cutting.passed
    assert "arrived truncated" in str(cutting.why)
    assert sum(size.truncated for size in cutting.sizes) > 0
    # Who died, how, and what it said last: alike nodes are named together, and once.
    for check in of(checks, "dying").values():
        assert str(check.why).startswith(
            "rsu1, obu1, obu2, obu3: exited with status 2; the log of "
        )
        assert str(check.why).endswith("unrecognized arguments: --no-such-option")
