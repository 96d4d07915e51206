"""Metrics say what the counters say, in the form that Prometheus reads."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from agent import metrics
from agent.engines.base import EngineCounters
from agent.stats import saved_syscalls

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

DOCUMENT: dict[str, Any] = {
    "schema": 1,
    "name": 'o"b\\u\n1',
    "kind": "obu",
    "pid": 7,
    "mac": "02:00:00:00:00:01",
    "uptime_ns": 1_500_000_000,
    "handler": "batched",
    "batch": 64,
    "adaptive_batch": {"wire": {"size": 16, "fill": 0.5}},
    "engines": {
        "wire": {"requested": "auto", "used": "mmsg", "why": "it"},
        "tap": {"requested": "auto", "used": "uring", "why": "it"},
    },
    "wire": {
        "rx_frames": 100,
        "rx_bytes": 25600,
        "tx_frames": 90,
        "tx_bytes": 23040,
        "kernel_drops": 1,
    },
    "tap": {"rx_frames": 5, "rx_bytes": 500, "tx_frames": 6, "tx_bytes": 600, "kernel_drops": 0},
    "syscalls": {"epoll_wait": 50, "recvmmsg": 20, "sendmmsg": 19},
    "saved_syscalls": {"wire": 151, "tap": -3},
    "wakeups": 50,
    "fill": {"wire": {"1": 4, "3": 2, "32": 3}, "tap": {}},
    "carried": {"wire": {}, "tap": {}},
    "queues": {
        "wire": {
            "receive": {"bytes": 2304, "limit_bytes": 8388608},
            "send": {"bytes": 0, "limit_bytes": 212992},
        },
        "tap": None,
    },
    "messages": {"upstream": 99, "heartbeat": 1},
    "drops": {"no_upstream": 3, "wire_send_queue_full": 2},
    "waited_ns": 250_000_000,
    "coalescing": {
        "mode": "adaptive",
        "max_wait_us": 1000,
        "waits": 40,
        "decisions": {"waited": 40, "late": 1},
        "late_us": 35.0,
    },
    "upstream": {"mac": "02:aa", "rsu": "02:cc", "hops": 1, "score_us": 900},
    "candidates": [
        {"mac": "02:aa", "rsu": "02:cc", "hops": 1, "score_us": 900},
        {"mac": "02:bb", "rsu": "02:cc", "hops": 2, "score_us": None},
    ],
    "routes": [{"node": "02:dd", "next_hop": "02:ee", "hops": 2, "score_us": 1500}],
    "clients": 4,
}


def samples(document: dict[str, Any]) -> Samples:
    """Every sample of the text, after reading it back."""
    kind, text = metrics.render(document)
    assert kind.startswith("text/plain")
    found: Samples = {}
    for family in text_string_to_metric_families(text.decode()):
        assert family.documentation
        for sample in family.samples:
            key = (sample.name.removeprefix("testbed_agent_"), frozenset(sample.labels.items()))
            assert key not in found, f"{key} twice"
            found[key] = sample.value
    return found


def value(found: Samples, name: str, **labels: str) -> float | None:
    return found.get((name, frozenset(labels.items())))


def test_everything_that_was_counted_is_there() -> None:
    found = samples(DOCUMENT)
    assert value(found, "received_packets_total", side="wire") == 100
    assert value(found, "received_bytes_total", side="wire") == 25600
    assert value(found, "sent_packets_total", side="tap") == 6
    assert value(found, "sent_bytes_total", side="tap") == 600
    assert value(found, "kernel_dropped_packets_total", side="wire") == 1
    assert value(found, "syscalls_total", call="recvmmsg") == 20
    assert value(found, "saved_syscalls", side="wire") == 151
    assert value(found, "saved_syscalls", side="tap") == -3
    assert value(found, "dropped_packets_total", cause="no_upstream") == 3
    assert value(found, "messages_total", kind="upstream") == 99
    assert value(found, "wakeups_total") == 50
    assert value(found, "waits_total") == 40
    assert value(found, "waited_seconds_total") == 0.25
    assert value(found, "wait_decisions_total", decision="waited") == 40
    assert value(found, "uptime_seconds") == 1.5
    assert value(found, "batch_size", side="wire") == 16
    assert value(found, "batch_size", side="tap") == 64
    assert value(found, "queue_bytes", side="wire", queue="receive") == 2304
    assert value(found, "queue_limit_bytes", side="wire", queue="send") == 212992
    assert value(found, "route_hops", node="02:dd", next_hop="02:ee") == 2
    assert value(found, "route_score_seconds", node="02:dd", next_hop="02:ee") == 0.0015
    assert value(found, "candidate_hops", mac="02:aa", rsu="02:cc", current="true") == 1
    assert value(found, "candidate_hops", mac="02:bb", rsu="02:cc", current="false") == 2
    assert value(found, "clients") == 4


def test_what_is_not_known_is_left_out() -> None:
    found = samples(DOCUMENT)
    assert not [key for key in found if ("side", "tap") in key[1] and "queue" in key[0]]
    assert value(found, "candidate_score_seconds", mac="02:aa", rsu="02:cc") == 0.0009
    assert value(found, "candidate_score_seconds", mac="02:bb", rsu="02:cc") is None


def test_names_of_all_sorts_survive() -> None:
    ((_, labels),) = (key for key in samples(DOCUMENT) if key[0].endswith("info"))
    assert dict(labels)["name"] == 'o"b\\u\n1'
    assert dict(labels)["wire_engine"] == "mmsg"


def test_the_histogram_is_cumulative() -> None:
    found = samples(DOCUMENT)
    buckets = {
        bound: value(found, "batch_packets_bucket", side="wire", le=bound)
        for bound in ("1", "2", "4", "16", "32", "256", "+Inf")
    }
    assert list(buckets.values()) == [4, 4, 6, 6, 9, 9, 9]
    assert value(found, "batch_packets_count", side="wire") == 9
    assert value(found, "batch_packets_sum", side="wire") == 4 + 6 + 96
    assert value(found, "batch_packets_count", side="tap") == 0


@given(st.dictionaries(st.integers(1, 256), st.integers(1, 1000)))
def test_no_batch_is_lost_between_the_buckets(counts: dict[int, int]) -> None:
    buckets, total = metrics.histogram(counts)
    heights = [height for _, height in buckets]
    assert heights == sorted(heights)
    assert heights[-1] == sum(counts.values())
    assert heights[-2] == heights[-1]
    assert total == sum(size * times for size, times in counts.items())


def test_saved_calls_are_those_of_one_for_each_packet_less_those_taken() -> None:
    counters = EngineCounters(rx_frames=320, tx_frames=320)
    counters.syscalls = Counter({"recvmmsg": 11, "sendmmsg": 10, "poll": 4})
    assert saved_syscalls(counters) == 640 - 21
    plain = EngineCounters(rx_frames=100, tx_frames=100)
    plain.syscalls = Counter({"recvfrom": 150, "sendto": 100})
    assert saved_syscalls(plain) == -50
    joined = EngineCounters(tx_frames=10, carried=Counter({8: 10}))
    joined.syscalls = Counter({"writev": 10})
    assert saved_syscalls(joined) == 70


def test_the_library_is_not_loaded_before_it_is_used() -> None:
    code = (
        "import sys, agent.runtime, agent.cli\n"
        "assert 'prometheus_client' not in sys.modules\n"
        "from agent import metrics\n"
        "metrics.load()\n"
        "assert 'prometheus_client' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(metrics.LackingError, match="install prometheus_client"):
        metrics.render(DOCUMENT)
