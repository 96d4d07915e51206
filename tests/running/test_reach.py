"""Who reaches whom, through real agents."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from running_helpers import make_topology

from testbed.cli import reachability
from testbed.kernel import limits, netns
from testbed.kernel.neighbours import NeighbourTable
from testbed.reach import echo
from testbed.reach import reach as reaching
from testbed.reach.pinger import Tally
from testbed.reach.reach import ReachError, reach
from testbed.running import lifecycle
from testbed.running.lifecycle import Running

pytestmark = pytest.mark.usefixtures("root", "run_dir")

NAMES = ["rsu", "a", "b", "c"]


@pytest.fixture
def cell(run_dir: Path, testbed_name: str) -> Iterator[Running]:
    topology = make_topology(testbed_name, NAMES, segments=[NAMES], command=None)
    try:
        with lifecycle.up(topology) as running:
            assert running.report is not None
            assert running.report.not_ready == ()
            yield running
    finally:
        lifecycle.down(testbed_name)


def test_in_a_cell_everybody_reaches_everybody(cell: Running) -> None:
    told: list[tuple[int, int]] = []
    found = reach(cell.topology, rounds=2, progress=lambda *step: told.append(step))
    assert found.complete, found.unreached
    assert found.unreached == ()
    assert len(found.pairs) == 2 * 4 * 3
    assert all(pair.sent == 2 for pair in found.pairs)
    for pair in found.pairs:
        assert pair.rtt_min_us is not None
        assert pair.rtt_mean_us is not None
        assert pair.rtt_max_us is not None
        assert 0 < pair.rtt_min_us <= pair.rtt_mean_us <= pair.rtt_max_us < 1e6
    assert told[-1] == (48, 48)
    assert set(found.matrix(6)) == {(a, b) for a in NAMES for b in NAMES if a != b}
    shown = json.loads(json.dumps(found.to_json()))
    assert shown["complete"]
    assert len(shown["pairs"]) == 24
    assert shown["pairs"][0]["loss"] == 0


def test_the_dead_reach_nobody_and_nobody_reaches_them(cell: Running) -> None:
    os.kill(cell.status()["b"].pid, signal.SIGKILL)
    cell.launcher.wait(lambda nodes: not nodes["b"].alive, 5)
    begun = time.monotonic()
    found = reach(cell.topology, rounds=2, timeout_s=0.5)
    assert time.monotonic() - begun < 10
    assert not found.complete
    gone = {(pair.source, pair.target) for pair in found.unreached}
    assert gone == {(a, b) for a in NAMES for b in NAMES if a != b and "b" in (a, b)}
    unsent = found.matrix(4)["b", "a"]
    assert (unsent.received, unsent.loss, unsent.error) == (0, 1.0, "Network is unreachable")
    unheard = found.matrix(6)["a", "b"]
    assert (unheard.sent, unheard.received, unheard.rtt_mean_us) == (2, 0, None)


def test_among_many_pairs_each_silence_is_waited_for_once(
    cell: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaching, "_MANY", 0)
    os.kill(cell.status()["b"].pid, signal.SIGKILL)
    cell.launcher.wait(lambda nodes: not nodes["b"].alive, 5)
    told: list[tuple[int, int]] = []
    found = reach(
        cell.topology, rounds=3, timeout_s=0.5, progress=lambda done, all: told.append((done, all))
    )
    assert told[-1] == (72, 72)
    for pair in found.pairs:
        if "b" not in (pair.source, pair.target):
            assert (pair.sent, pair.received, pair.error) == (3, 3, None)
            continue
        other = found.matrix(pair.family)[pair.target, pair.source]
        assert not pair.reached
        assert {pair.sent, other.sent} == {0, 1}
        assert pair.sent or pair.error == "not asked: nothing passed the other way"


def test_some_nodes_and_one_family(cell: Running) -> None:
    found = reach(cell.topology, nodes={"a", "rsu"}, families=(6,), rounds=1)
    assert found.nodes == ("rsu", "a")
    assert {(p.source, p.target, p.family) for p in found.pairs} == {
        ("rsu", "a", 6),
        ("a", "rsu", 6),
    }
    assert found.complete


def test_one_after_the_other_no_request_waits_for_another(
    cell: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Round trips are then those of a ping by hand, not of the burst that they are in."""
    under_way: list[int] = []

    class Watched(reaching.Pinger):
        def ask(self, tally: Tally) -> int:
            number = super().ask(tally)
            under_way.append(len(self._fresh))
            return number

    monkeypatch.setattr(reaching, "Pinger", Watched)
    found = reach(cell.topology, rounds=2, in_flight=1)
    assert found.complete
    assert set(under_way) == {1}
    assert reachability.caption(found, 4) == "IPv4, mean round trip in ms (answers of 2 if fewer)"
    assert found.to_json()["in_flight"] == 1
    found = reach(cell.topology, rounds=2, in_flight=16)
    assert 1 < max(under_way) <= 16
    assert reachability.caption(found, 6) == (
        "IPv6, mean round trip in ms with 16 requests at once, which wait for each other (answers "
        "of 2 if fewer)"
    )


@pytest.mark.parametrize(("requests", "in_flight"), [(252, 1), (1000, 1), (1001, 16)])
def test_so_many_requests_that_it_would_take_long_go_several_at_once(
    requests: int, in_flight: int
) -> None:
    assert reaching.in_flight_for(requests) == in_flight


def entries(running: Running, name: str) -> list[str]:
    command = ["ip", "-n", running.netns(name), "neigh", "show", "dev", "tap0"]
    return re.findall(r"^10\.\S+|^fd\S+", subprocess.check_output(command, text=True), re.M)


def test_with_a_small_neighbour_table_entries_are_given_back(
    cell: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table is one for all namespaces; all pairs of many nodes do not fit in at once."""
    whole = limits.neighbour_limit(0)
    monkeypatch.setattr(limits, "neighbour_limit", lambda entries: replace(whole, have=8))
    found = reach(cell.topology, rounds=2)
    assert found.complete, found.unreached
    for name in NAMES:
        assert entries(cell, name) == []


def test_entries_are_forgotten_one_by_one(cell: Running) -> None:
    assert reach(cell.topology, rounds=1).complete
    known = entries(cell, "a")
    assert len(known) == 6
    b = cell.topology.node("b")

    def forget() -> None:
        with NeighbourTable("tap0") as table:
            table.forget([b.ipv4.ip, b.ipv6.ip, IPv4Address("10.77.9.9"), IPv6Address("fd77::99")])

    netns.run_in(cell.netns("a"), forget)
    left = entries(cell, "a")
    assert sorted(set(known) - set(left)) == sorted([str(b.ipv4.ip), str(b.ipv6.ip)])


def test_a_testbed_that_is_not_up_cannot_be_probed(testbed_name: str) -> None:
    with pytest.raises(ReachError, match=f"testbed {testbed_name} is not up: no /run/netns"):
        reach(make_topology(testbed_name, NAMES))


def test_the_checksum_is_the_internets() -> None:
    # The worked example of RFC 1071, section 3.
    assert echo.checksum(bytes.fromhex("0001f203f4f5f6f7")) == ~0xDDF2 & 0xFFFF
    assert echo.checksum(b"\x01") == ~0x0100 & 0xFFFF


@given(st.integers(0, 65535), st.integers(0, 1 << 40), st.binary(max_size=64))
def test_requests_carry_what_they_are_given(number: int, sequence: int, payload: bytes) -> None:
    message = echo.request(4, number, sequence, payload)
    assert message[:2] == b"\x08\x00"
    assert echo.checksum(message) == 0
    assert message[8:] == payload
    # Answered as the other end does it: same bytes, other type.
    assert echo.reply_payload(4, b"\x45" + bytes(19) + b"\0" + message[1:]) == payload
    six = echo.request(6, number, sequence, payload)
    assert echo.reply_payload(6, b"\x81" + six[1:]) == payload


@given(st.sampled_from([4, 6]), st.binary(max_size=80))
def test_whatever_comes_is_a_reply_or_not(family: echo.Family, data: bytes) -> None:
    payload = echo.reply_payload(family, data)
    assert payload is None or data.endswith(payload)
