"""Results made up for tests: every count is chosen, so every figure of a report can be foretold."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from testbed.results import (
    Cpu,
    CpuUse,
    Engine,
    Environment,
    Latency,
    Ledger,
    LedgerLine,
    Load,
    Mark,
    Marked,
    Memory,
    NodeCounts,
    Point,
    Result,
    Scenario,
    Switches,
    Syscalls,
    Traffic,
    Trial,
    Variant,
)
from testbed.targets import TARGETS

RATES: Mapping[str, float | None] = {"low": 500, "medium": 5_000, "high": 50_000, "max": None}
CLASSES = {"recvfrom": "receive", "recvmmsg": "receive", "sendto": "send", "sendmmsg": "send"}


def trial(
    variant: str = "batched",
    *,
    number: int = 0,
    pair: int = 0,
    load: str = "low",
    point: str = "obu-relay",
    phase: str = "timing",
    offered: int = 1_000,
    delivered: int | None = None,
    seconds: float = 2.0,
    cpu_us: float = 20.0,
    switches_per_packet: float = 1.0,
    p50_us: float = 100.0,
    pss_mib: float = 8.0,
    calls: Mapping[str, int] | None = None,
    own_calls: Mapping[str, int] | None = None,
    corrupted: int = 0,
    marks: Mapping[Mark, str] | None = None,
    dropped: Mapping[str, int] | None = None,
) -> Trial:
    """One trial; what is lost beyond `dropped` is unexplained."""
    arrived = offered if delivered is None else delivered
    cpu_ns = round(cpu_us * 1000 * arrived)
    switches = round(switches_per_packet * arrived)
    lines = [
        LedgerLine(place="obu1 wire", cause=cause, count=count)
        for cause, count in (dropped or {}).items()
    ]
    kernel = None if calls is None else dict(calls)
    return Trial.model_validate(
        {
            "id": number,
            "phase": phase,
            "point": point,
            "load": load,
            "frame_bytes": 256,
            "variant": variant,
            "pair": pair,
            "started_s": float(number),
            "traffic": Traffic(
                intended_pps=RATES[load],
                frame_bytes=256,
                duration_ns=round(seconds * 1e9),
                offered=offered,
                delivered=arrived,
                lost=offered - arrived,
                duplicated=0,
                reordered=0,
                corrupted=corrupted,
                latency=Latency(
                    count=arrived,
                    min_ns=10_000,
                    p50_ns=round(p50_us * 1e3),
                    p90_ns=round(p50_us * 1.5e3),
                    p99_ns=round(p50_us * 3e3),
                    p999_ns=round(p50_us * 5e3),
                    max_ns=round(p50_us * 9e3),
                ),
            ),
            "ledger": Ledger(
                offered=offered,
                delivered=arrived,
                lines=lines,
                node_told=True,
                unexplained=offered - arrived - sum((dropped or {}).values()),
            ),
            "node": NodeCounts(
                pid=4711,
                cpu=Cpu(
                    task_clock_ns=cpu_ns,
                    user_ns=cpu_ns // 3,
                    system_ns=cpu_ns - cpu_ns // 3,
                    window_ns=round(seconds * 1e9),
                    source="perf task-clock",
                ),
                switches=Switches(voluntary=switches, involuntary=0),
                memory=Memory(
                    pss_start_bytes=round(pss_mib * (1 << 20)),
                    pss_end_bytes=round(pss_mib * (1 << 20)),
                    rss_end_bytes=30 << 20,
                    rss_peak_bytes=31 << 20,
                ),
                syscalls=Syscalls(
                    kernel=kernel,
                    total=None if kernel is None else sum(kernel.values()),
                    node=None if own_calls is None else dict(own_calls),
                    classes=dict(CLASSES),  # type: ignore[arg-type]
                ),
                wakeups=switches,
                fill={"wire": {"1": arrived}},
                engines={"wire": Engine(requested="mmsg", used="mmsg")},
            ),
            "machine": [
                CpuUse(
                    cpu=cpu,
                    busy_ns=round(seconds * 4e8),
                    user_ns=round(seconds * 2e8),
                    system_ns=round(seconds * 2e8),
                    softirq_ns=0,
                    steal_ns=0,
                    idle_ns=round(seconds * 6e8),
                )
                for cpu in (0, 1)
            ],
            "marks": [Marked(mark=mark, why=why) for mark, why in (marks or {}).items()],
        }
    )


def result(trials: list[Trial], **changes: Any) -> Result:
    """A result with these trials; `changes` go over its scenario or, if not known there, itself."""
    scenario: dict[str, Any] = {
        "name": "batching",
        "description": "made for a test",
        "kind": "node",
        "form": "quick",
        "pairs": 5,
        "warm_up_s": 0.1,
        "loads": [Load(name=n, rate_pps=r, duration_s=2.0) for n, r in RATES.items()],
        "points": [
            Point(name="obu-relay", nodes=["obu1"], node_kind="obu", path="relay", tester_at="rsu1")
        ],
        "frame_bytes": [256],
        "flows": 1,
        "variants": [
            variant("per-packet", batch=1, baseline=True),
            variant("batched", batch=32),
            *(variant(f"batched-of-{n}", batch=n, passes=["counting"]) for n in (1, 8, 16)),
        ],
        "counting_s": 0.3,
        "targets": [target.key for target in TARGETS],
        "shortfalls": ["trials of 2 s; a full run takes 10 s, RFC 2544 60 s"],
        "source": "scenarios/batching.yaml",
        "text": None,
    }
    top: dict[str, Any] = {
        "started": "2026-01-02T03:04:05+00:00",
        "finished": "2026-01-02T03:05:25+00:00",
        "elapsed_s": 80.0,
        "seed": 1,
        "topology": {"name": "pair"},
        "environment": ENVIRONMENT,
        "trials": trials,
    }
    for key, value in changes.items():
        (scenario if key in scenario else top)[key] = value
    return Result(scenario=Scenario(**scenario), **top)


def variant(
    name: str, *, batch: int, baseline: bool = False, passes: list[Any] | None = None
) -> Variant:
    engine = "per-packet" if baseline else "mmsg"
    return Variant(
        name=name,
        baseline=baseline,
        settings={"engine_wire": engine, "batch": batch},
        passes=passes or ["timing", "counting"],
    )


ENVIRONMENT = Environment(
    kernel="6.18.0",
    machine="x86_64",
    cpu_model="Example CPU",
    cpus=2,
    cpu_governor=None,
    mitigations={"meltdown": "Not affected", "spectre_v2": "Retpolines"},
    memory_total_bytes=4 << 30,
    virtualisation="kvm",
    python="3.11.2",
    versions={"testbed": "0.1.0", "numpy": "2.0.0"},
    clock_source="tsc",
    perf_event_paranoid=2,
    load_average=[0.1, 0.2, 0.3],
    tester_cpus=[0],
    node_cpus=[1],
)


def pairs(
    count: int = 5,
    *,
    load: str = "low",
    factor: Callable[[random.Random], float] = lambda rng: rng.gauss(1.0, 0.02),
    seed: int = 1,
    baseline: Mapping[str, Any] | None = None,
    candidate: Mapping[str, Any] | None = None,
    candidate_name: str = "batched",
    first: int = 0,
) -> list[Trial]:
    """Pairs of trials in one cell, with `factor` as noise on the CPU time of each trial."""
    rng = random.Random(seed)
    made: list[Trial] = []
    for pair in range(count):
        for name, given in (("per-packet", baseline or {}), (candidate_name, candidate or {})):
            values = {"cpu_us": 20.0, **given}
            values["cpu_us"] *= factor(rng)
            made.append(trial(name, number=first + len(made), pair=pair, load=load, **values))
    return made
