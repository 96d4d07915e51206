"""What waiting for frames saves and costs: CPU, wake-ups and latency of one relay at steady rates.

    python benchmarks/bench_coalescing.py [--rounds 5] [--seconds 2] [--rates 500,5000,50000]
        [--burst 1] [--realtime] [--json FILE] [MODE …]

An OBU relays smooth traffic between the tester's generator and sink, alone on its CPU. A mode is
`per-packet` (one call for each frame, never waiting) or, with batched I/O, `off`, `fixed:US`
or `adaptive:US`. In each round every mode has a turn at a rate, in one order and then in the
other; figures are medians, and ratios are taken within a round. `least` is the round with the
least CPU time, which others on the machine disturbed least; `late` the time in which the node could
have run and had no CPU, and so how far to trust latencies. With --realtime the node goes before
ordinary work on its CPU, of which it is then disturbed less. Needs root; everything it makes goes
with it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from testbed.measure import procstat
from testbed.measure.latency import Histogram
from testbed.running import agent_control, lifecycle
from testbed.running.running import Running
from testbed.topology.loader import load_topology
from testbed.topology.model import RADIO_INTERFACE, TAP_INTERFACE, NodeSettings
from testbed.traffic.legs import TesterCpus
from testbed.traffic.paths import Path as Way
from testbed.traffic.paths import Traffic
from testbed.traffic.peer import NodeUnderTest, Tester
from testbed.traffic.place import Place, Surface
from testbed.traffic.trial import Load

MODES = ("per-packet", "off", "fixed:200", "fixed:1000", "adaptive:1000")
NODE, PEER = "obu1", "rsu1"
WARM_UP_S = 0.3


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One turn of a mode at a rate."""

    mode: str
    rate_pps: int
    packets: int
    lost: int
    cpu_ns: int
    wakeups: int
    switches: int
    waits: int
    decisions: dict[str, int]
    run_delay_ns: int
    seconds: float
    generator_limited: str | None
    latency: Histogram

    @property
    def cpu_us(self) -> float:
        """CPU time per packet."""
        return self.cpu_ns / max(self.packets, 1) / 1e3

    @property
    def wakeups_per_packet(self) -> float:
        return self.wakeups / max(self.packets, 1)

    @property
    def switches_per_packet(self) -> float:
        """As the kernel counts: times that the process gave up the CPU."""
        return self.switches / max(self.packets, 1)

    def percentile_us(self, percent: float) -> float:
        return (self.latency.percentile_ns(percent) or 0) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rates", default="500,5000,50000")
    parser.add_argument("--burst", type=int, default=1)
    parser.add_argument("--realtime", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("modes", nargs="*", default=MODES)
    given = parser.parse_args()
    if os.geteuid() != 0:
        parser.exit(4, "needs root\n")
    rates = [int(rate) for rate in given.rates.split(",")]
    cpus = sorted(os.sched_getaffinity(0))
    tester_cpu, node_cpu = cpus[0], cpus[-1]
    os.sched_setaffinity(0, {tester_cpu})
    samples: list[Sample] = []
    topology = replace(load_topology("pair"), name=f"bench-coalescing-{os.getpid()}")
    running = lifecycle.up(topology, agents=())
    try:
        with tester(running, tester_cpu) as offering:
            for turn in range(given.rounds):
                for rate in rates:
                    order: Sequence[str] = given.modes
                    for mode in order if turn % 2 == 0 else list(reversed(order)):
                        load = Load(rate_pps=float(rate), burst=given.burst)
                        samples.append(
                            trial(
                                running,
                                offering,
                                mode,
                                load,
                                cpu=node_cpu,
                                seconds=given.seconds,
                                realtime=given.realtime,
                            )
                        )
    finally:
        running.close()
        lifecycle.down(topology.name)
    if given.json is not None:
        document = [asdict(one) | {"latency": one.latency.to_json()} for one in samples]
        given.json.write_text(json.dumps(document))
    for rate in rates:
        report(rate, [one for one in samples if one.rate_pps == rate], given.modes)


def settings_of(mode: str) -> NodeSettings:
    """The settings of a node in that mode."""
    kind, _, wait_us = mode.partition(":")
    if kind == "per-packet":
        return NodeSettings(
            handler="per-packet", engine_wire="per-packet", engine_tap="per-packet", batch=1
        )
    if kind not in ("off", "fixed", "adaptive"):
        raise SystemExit(f"no mode {mode!r}")
    return NodeSettings(
        handler="batched",
        engine_wire="mmsg",
        engine_tap="per-packet",
        coalesce=kind,
        max_wait_us=int(wait_us or 0),
    )


def tester(running: Running, cpu: int) -> Tester:
    node = running.topology.node(NODE)
    return Tester(
        NodeUnderTest(
            kind=node.kind,
            mac=node.mac,
            netns=running.netns(NODE),
            radio=RADIO_INTERFACE,
            tap=TAP_INTERFACE,
        ),
        wire=Place(netns=running.netns(PEER), ifname=RADIO_INTERFACE, surface=Surface.WIRE),
        cpus=TesterCpus.one(cpu),
    )


def trial(
    running: Running,
    offering: Tester,
    mode: str,
    load: Load,
    *,
    cpu: int,
    seconds: float,
    realtime: bool,
) -> Sample:
    status = running.restart(NODE, settings_of(mode), cpus=(cpu,))
    if realtime:
        os.sched_setscheduler(status.pid, os.SCHED_FIFO, os.sched_param(1))
    offering.prepare(Traffic(path=Way.RELAY))
    told: list[dict[str, Any]] = []
    seen: list[procstat.ProcessSample] = []

    def ask() -> None:
        answer = agent_control.ask(running.run, [NODE], {"cmd": "stats"})[NODE]
        assert answer is not None, "the node does not answer"
        told.append(answer)

    def start() -> None:
        ask()
        seen.append(procstat.sample(status.pid))

    def end() -> None:
        seen.append(procstat.sample(status.pid))
        ask()

    traffic = offering.run(
        load, duration_s=seconds, warm_up_s=WARM_UP_S, at_start=start, at_end=end
    )
    used = seen[1].cpu.since(seen[0].cpu)
    before, after = (one["coalescing"] for one in told)
    assert load.rate_pps is not None
    return Sample(
        mode=mode,
        rate_pps=round(load.rate_pps),
        packets=traffic.trial.delivered,
        lost=traffic.trial.lost,
        cpu_ns=used.total_ns,
        wakeups=told[1]["wakeups"] - told[0]["wakeups"],
        switches=seen[1].switches.since(seen[0].switches).voluntary,
        waits=after["waits"] - before["waits"],
        decisions={
            name: count - before["decisions"].get(name, 0)
            for name, count in after["decisions"].items()
        },
        run_delay_ns=used.run_delay_ns,
        seconds=seconds,
        generator_limited=traffic.generator_limited,
        latency=traffic.latency,
    )


def report(rate: int, samples: Sequence[Sample], modes: Sequence[str]) -> None:
    """A table for one rate."""
    by_mode = {mode: [one for one in samples if one.mode == mode] for mode in modes}
    base = by_mode[modes[0]]
    least = min(one.cpu_us for one in base)
    print(f"\n{rate} pps, {len(base)} rounds, ratios to {modes[0]}")
    print(
        f"{'':14}{'CPU µs per packet':^38}{'wake-ups per packet':^24}{'latency µs':^36}\n"
        f"{'mode':14}{'median':>7}{'ratio':>16}{'least':>8}{'ratio':>7}"
        f"{'median':>8}{'ratio':>7}{'kernel':>8}"
        f"{'p50':>7}{'p99':>7}{'p99.9':>7}{'added p99.9':>13}{'late %':>9}{'lost':>6}"
    )
    for mode, taken in by_mode.items():
        cpu = ratios(taken, base, lambda one: one.cpu_us)
        woken = ratios(taken, base, lambda one: one.wakeups_per_packet)
        added = statistics.median(
            one.percentile_us(99.9) - other.percentile_us(99.9)
            for one, other in zip(taken, base, strict=True)
        )
        best = min(one.cpu_us for one in taken)
        print(
            f"{mode:14}{middle(taken, lambda one: one.cpu_us):7.2f}"
            f"{f'{statistics.median(cpu):.2f} ({cpu[0]:.2f}–{cpu[-1]:.2f})':>16}"
            f"{best:8.2f}{best / least:7.2f}"
            f"{middle(taken, lambda one: one.wakeups_per_packet):8.3f}"
            f"{statistics.median(woken):7.2f}"
            f"{middle(taken, lambda one: one.switches_per_packet):8.3f}"
            f"{middle(taken, lambda one: one.percentile_us(50)):7.0f}"
            f"{middle(taken, lambda one: one.percentile_us(99)):7.0f}"
            f"{middle(taken, lambda one: one.percentile_us(99.9)):7.0f}"
            f"{added:13.0f}"
            f"{middle(taken, lambda one: one.run_delay_ns / one.seconds / 1e7):9.1f}"
            f"{sum(one.lost for one in taken):6d}"
        )
    compare(by_mode)
    for mode, taken in by_mode.items():
        decisions: dict[str, int] = {}
        for one in taken:
            for name, count in one.decisions.items():
                decisions[name] = decisions.get(name, 0) + count
        if decisions:
            print(f"  {mode}: " + ", ".join(f"{n} {name}" for name, n in decisions.items()))
        limited = sum(one.generator_limited is not None for one in taken)
        if limited:
            print(f"  {mode}: the generator did not keep the rate in {limited} of {len(taken)}")


def compare(by_mode: dict[str, list[Sample]]) -> None:
    """Each adaptive mode beside the better of never waiting and always waiting as long."""
    for mode, taken in by_mode.items():
        kind, _, wait = mode.partition(":")
        others = [by_mode[name] for name in ("off", f"fixed:{wait}") if name in by_mode]
        if kind == "adaptive" and len(others) == 2:
            better = min(others, key=lambda samples: middle(samples, lambda one: one.cpu_us))
            found = ratios(taken, better, lambda one: one.cpu_us)
            print(
                f"  {mode}: CPU {statistics.median(found):.2f} ({found[0]:.2f}–{found[-1]:.2f}) "
                f"of {better[0].mode}, the better of the two"
            )


def middle(taken: Sequence[Sample], of: Callable[[Sample], float]) -> float:
    return statistics.median(of(one) for one in taken)


def ratios(
    taken: Sequence[Sample], base: Sequence[Sample], of: Callable[[Sample], float]
) -> list[float]:
    """Ratios within each round, in ascending order."""
    return sorted(of(one) / max(of(other), 1e-9) for one, other in zip(taken, base, strict=True))


if __name__ == "__main__":
    main()
