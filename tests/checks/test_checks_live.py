"""Checks on real nodes: what is right passes, what is wrong fails with the true reason."""

from __future__ import annotations

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
        variant("writev", wire="writev", tap="writev"),
    ]
    checks = run_checks(variants, Checks(), testbed=testbed_name, quick=True)
    assert [check.variant for check in checks] == [v.name for v in variants for _ in KINDS]
    assert [name for name in netns.names() if f".{testbed_name}." in name] == []
    for name in ("per-packet", "mmsg", "uring"):
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


def test_only_what_is_wanted_is_checked(run_dir: Path, testbed_name: str) -> None:
    variants = [variant("mmsg", wire="mmsg", tap="uring")]
    checks = run_checks(
        variants, Checks(which=("reachability", "group")), testbed=testbed_name, quick=True
    )
    assert [check.kind for check in checks] == ["reachability", "group"]
    assert all(check.passed for check in checks)
