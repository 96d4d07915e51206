"""What a node delivers at saturation with each engine, on its three paths.

    python benchmarks/bench_engines.py [--rounds 5] [--seconds 1.0] [--path PATH] [MODE …]

An OBU alone on its CPU; the project's tester stands for its neighbours and for the application
behind its TAP, on another CPU, and offers as much as it can. A mode is WIRE/TAP:BATCH, or
`per-packet` for the node that handles frame by frame. All modes take turns in each round,
forwards and backwards; what counts is the ratio to the first of them within a round. CPU is the
agent's per delivered frame, system calls are as the agent counts them. `≥` marks a rate that the
tester limited. With --beside another process wants the node's CPU as well, so that the node gets
about half of it, and is the limit, where the tester is too slow for a whole one. Needs root;
everything it makes goes with it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.linux import netif
from testbed.kernel import netns
from testbed.kernel.netns import run_in
from testbed.traffic.legs import TesterCpus
from testbed.traffic.paths import Path as Way
from testbed.traffic.paths import Traffic
from testbed.traffic.peer import NodeUnderTest, Tester
from testbed.traffic.place import Place, Surface
from testbed.traffic.trial import Load

RADIO, TAP = "radio0", "tap0"
NODE_MAC = "02:7b:00:00:00:55"
WAYS = (Way.RELAY, Way.TAP_TO_WIRE, Way.WIRE_TO_TAP)
MODES = (
    "per-packet",
    "mmsg/per-packet:32",
    "mmsg/uring:8",
    "mmsg/uring:32",
    "mmsg/uring:64",
    "uring/uring:32",
    "ring/uring:32",
    "ring/uring:64",
    "xsk/uring:32",
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One trial; `calls` is system calls per delivered frame."""

    pps: float
    cpu_us: float
    calls: float
    limited: bool


@contextmanager
def laid_out(name: str) -> Iterator[tuple[str, str]]:
    """Namespaces of the tester and of the node, with a wire between them."""
    tester, node = f"{name}-t", f"{name}-n"
    made: list[tuple[str, int]] = []
    try:
        with netns.directory():
            for one in (tester, node):
                inode = netns.create(one, prepare=lambda: None, record=lambda _: None)
                made.append((one, inode))
        request = (
            f"ip link add {RADIO} netns {tester} type veth "
            f"peer name {RADIO} netns {node} address {NODE_MAC}"
        )
        subprocess.run(request.split(), check=True)

        def up() -> None:
            netif.set_ipv6_option(RADIO, "disable_ipv6", 1)
            netif.set_up(RADIO)

        run_in(tester, up)
        run_in(node, up)
        yield tester, node
    finally:
        for one, inode in made:
            netns.remove(one, inode)
        netns.tidy_directory()


@contextmanager
def beside(cpu: int, wanted: bool) -> Iterator[None]:
    """Somebody else who always wants that CPU, if wanted."""
    if not wanted:
        yield
        return
    other = subprocess.Popen(
        [sys.executable, "-c", "while True: pass"],
        preexec_fn=lambda: os.sched_setaffinity(0, {cpu}),
    )
    try:
        yield
    finally:
        other.kill()
        other.wait()


@contextmanager
def agent(mode: str, node: str, cpu: int, stats: Path) -> Iterator[int]:
    """An OBU in that mode; its pid. Its statistics are in the file when the context ends."""
    engines, _, batch = mode.partition(":")
    wire, _, tap = engines.partition("/")
    handler = "per-packet" if mode == "per-packet" else "batched"
    command = [
        *("ip", "netns", "exec", node, sys.executable, "-m", "agent.cli", "obu", "-b", RADIO),
        *("--tap-name", TAP, "--quiet-tap", "--log-level", "error", "--event-fd", "1"),
        *("--engine", wire, "--tap-engine", tap or wire, "--handler", handler),
        *("--batch", batch or "1", "--stats-file", str(stats)),
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, preexec_fn=lambda: os.sched_setaffinity(0, {cpu})
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["event"] == "ready":
                break
        else:
            raise SystemExit(f"{mode}: the agent did not start")
        yield process.pid
    finally:
        process.terminate()
        process.communicate()


def trial(mode: str, way: Way, spaces: tuple[str, str], seconds: float, stats: Path) -> Sample:
    tester_ns, node_ns = spaces
    cpus = sorted(os.sched_getaffinity(0))
    wire = Place(netns=tester_ns, ifname=RADIO, surface=Surface.WIRE)
    node = NodeUnderTest(kind="obu", mac=NODE_MAC, netns=node_ns)
    spent: list[int] = []
    with agent(mode, node_ns, cpus[-1], stats) as pid:
        schedstat = Path(f"/proc/{pid}/schedstat")

        def note() -> None:
            spent.append(int(schedstat.read_text().split()[0]))

        with Tester(node, wire=wire, cpus=TesterCpus.one(cpus[0])) as tester:
            tester.prepare(Traffic(path=way))
            done = tester.run(
                Load(rate_pps=None), duration_s=seconds, warm_up_s=0.3, at_start=note, at_end=note
            )
    counted = json.loads(stats.read_text())
    calls = sum(n for name, n in counted["syscalls"].items() if name != "poll")
    frames = counted["wire"]["rx_frames"] + counted["tap"]["rx_frames"]
    return Sample(
        pps=done.delivered_pps or 0.0,
        cpu_us=(spent[1] - spent[0]) / max(done.trial.delivered, 1) / 1000,
        calls=calls / max(frames, 1),
        limited=done.lower_bound,
    )


def report(way: Way, samples: dict[str, list[Sample]]) -> None:
    base = next(iter(samples))
    print(f"\n{way}: to {base}")
    head = f"{'kpps':>7} {'ratio':>6} {'lowest–highest':>15} {'µs/frame':>9} {'calls':>7}"
    print(f"  {'mode':20} {head}")
    for mode, taken in samples.items():
        ratios = sorted(a.pps / b.pps for a, b in zip(taken, samples[base], strict=True) if b.pps)
        mark = "≥" if any(one.limited for one in taken) else " "
        middle = statistics.median(ratios) if ratios else float("nan")
        span = f"{ratios[0]:.2f}–{ratios[-1]:.2f}" if ratios else "–"
        print(
            f"  {mode:20} {mark}{statistics.median(s.pps for s in taken) / 1000:6.1f} "
            f"{middle:6.2f} {span:>15} {statistics.median(s.cpu_us for s in taken):9.2f} "
            f"{statistics.median(s.calls for s in taken):7.3f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--path", action="append", choices=[str(way) for way in WAYS])
    parser.add_argument("--beside", action="store_true", help="the node shares its CPU")
    parser.add_argument("--json", type=Path, help="write all samples there too")
    parser.add_argument("modes", nargs="*", default=MODES)
    given = parser.parse_args()
    if os.geteuid() != 0:
        parser.exit(4, "needs root\n")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # not without tidying up
    directory = Path(tempfile.mkdtemp(prefix="bench-engines-"))
    kept: dict[str, dict[str, list[dict[str, object]]]] = {}
    try:
        with (
            laid_out(f"tbt-be{os.getpid() % 100000}") as spaces,
            beside(max(os.sched_getaffinity(0)), given.beside),
        ):
            for way in given.path or WAYS:
                samples: dict[str, list[Sample]] = {mode: [] for mode in given.modes}
                for turn in range(given.rounds):
                    order = list(given.modes)
                    for mode in order if turn % 2 == 0 else reversed(order):
                        stats = directory / "stats.json"
                        samples[mode].append(trial(mode, Way(way), spaces, given.seconds, stats))
                report(Way(way), samples)
                kept[str(way)] = {m: [asdict(s) for s in taken] for m, taken in samples.items()}
    finally:
        shutil.rmtree(directory)
    if given.json:
        given.json.write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
