"""Kills what makes a testbed, at random moments, and says what `down --all` leaves of it.

Run it as `unshare --mount --net --pid --kill-child --mount-proc --propagation private python
chaos.py SEED FIRST COUNT`: with processes, mounts, links and a /run of its own, all that there is
besides it afterwards was left. Each difference is a line on standard output; the last line is a
JSON object that counts who was killed in which stage.

A point is a number: with the seed it decides what is made, who is killed, and when. A point counts
once somebody was killed; where everything had ended before, it is tried again, somewhat earlier.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from bpf_objects import bpf_objects
from running_helpers import make_topology

from testbed.errors import TestbedError
from testbed.experiment.runner import run_scenario
from testbed.kernel import netns
from testbed.running import lifecycle
from testbed.scenario.loader import load_scenario
from testbed.scenario.model import Scenario
from testbed.topology.model import Topology

Stage = Literal["up", "run", "down"]
Victim = Literal["orchestrator", "launcher", "agent", "generator", "sink", "medium"]

STAGES: Final[tuple[Stage, ...]] = ("up", "up", "down", "down", "run")
VICTIMS: Final[dict[Stage, tuple[Victim, ...]]] = {
    "up": ("orchestrator", "orchestrator", "launcher", "agent", "medium"),
    "down": ("orchestrator", "orchestrator", "launcher", "agent", "medium"),
    "run": ("orchestrator", "launcher", "agent", "generator", "sink"),
}
NAME: Final = "chaos"
RUN: Final = Path("/run")
OUTPUT: Final = Path("/run/chaos-output")
"""Where runs write; beside what a testbed may leave, and removed after each point."""
HANGS_S: Final = 60.0
STAYS_S: Final = 30.0
TRIES: Final = 12
SCENARIO: Final = """\
name: chaos
topology: pair
measure:
  relay: {node: obu1, path: relay}
traffic:
  loads: {medium: 2kpps}
variants:
  single: {baseline: true, engine: per-packet, handler: per-packet, batch: 1}
  batched: {engine: {wire: mmsg, tap: per-packet}, handler: batched, batch: 32}
# One check will do: most of a run is to be its trials.
checks: {which: [reachability]}
repeats: 1
trial: 100ms
warm_up: 50ms
"""


def pair() -> Topology:
    """A cable, and one of the agents with a BPF program."""
    made = make_topology(NAME, ["rsu", "a"], links=[("rsu", "a")], command=None)
    rsu, a = made.nodes
    return replace(made, nodes=(rsu, replace(a, settings=replace(a.settings, engine_wire="xsk"))))


def line() -> Topology:
    """Three ports in the medium."""
    return make_topology(NAME, ["rsu", "a", "b"], links=[("rsu", "a"), ("a", "b")], command=None)


# -- processes, as the one that has number 1 here


def command_of(pid: int) -> str:
    """The command line of a living process, empty for one that is gone or waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def others() -> list[int]:
    """Every living process but this one."""
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return [pid for pid in pids if pid != os.getpid() and command_of(pid)]


def find(victim: Victim, actor: int) -> list[int]:
    """The processes that are such a victim now."""
    if victim == "orchestrator":
        return [actor]
    pids = others()
    if victim in ("generator", "sink"):
        return [pid for pid in pids if f"workermain {victim} " in command_of(pid)]
    daemons = {pid for pid in pids if "testbed.launch.launcher" in command_of(pid)}
    agents = {pid for pid in daemons if parent_of(pid) in daemons}
    return sorted(agents if victim == "agent" else daemons - agents)


class Actor:
    """A child of ours that runs one command of the testbed."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._status: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                work()
                status = 0
            except (TestbedError, KeyboardInterrupt):
                status = 3
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)

    def ended(self) -> bool:
        """Whether it has; others that have are reaped on the way."""
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                if pid == self.pid:
                    self._status = os.waitstatus_to_exitcode(status)
        return self._status is not None

    def wait(self, limit_s: float) -> int | None:
        """Its exit status; None if it has not ended after `limit_s`."""
        deadline = time.monotonic() + limit_s
        while not self.ended() and time.monotonic() < deadline:
            time.sleep(0.001)
        return self._status


def kill(victim: Victim, actor: Actor, after_s: float, chance: random.Random) -> bool:
    """Kill it `after_s` seconds from now, or as soon after that as it is there; whether it was."""
    deadline = time.monotonic() + after_s
    while time.monotonic() < deadline:
        if actor.ended():
            return False
        time.sleep(0.0005)
    waited = False
    while not actor.ended():
        if victim == "medium":
            name = netns.namespace_name(NAME, netns.MEDIUM_NODE)
            with suppress(OSError, netns.ForeignNamespace):
                if (inode := netns.inode_of(name)) and netns.remove(name, inode):
                    return True
        elif pids := find(victim, actor.pid):
            if waited:  # it came only now: not always at its first moment
                time.sleep(chance.uniform(0, 0.05))
            with suppress(ProcessLookupError):
                os.kill(chance.choice(pids), signal.SIGKILL)
                return True
        waited = True
        time.sleep(0.0005)
    return False


# -- what there is


def world() -> set[str]:
    """All that a testbed could leave here; but BPF programs have no world of their own."""
    qdiscs = subprocess.run(["tc", "qdisc", "show"], capture_output=True, text=True, check=True)
    return {
        *(f"namespace {name}" for name in netns.names()),
        *(f"link {link}" for _, link in socket.if_nameindex()),
        *(f"qdisc {line}" for line in qdiscs.stdout.splitlines()),
        # Without its own number and its parent's, which tell nothing.
        *(
            "mount " + line.split(" ", 2)[2]
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
        ),
        *(f"file {path} {path.lstat().st_mode:o}" for path in (RUN, *RUN.rglob("*"))),
        *(
            f"socket {line.split()[-1]}"
            for line in Path("/proc/net/unix").read_text().splitlines()
            if str(RUN / "testbed") in line
        ),
        *(f"process {command_of(pid)}" for pid in others()),
    }


def differences(before: set[str], seen: Callable[[], set[str]]) -> Iterator[str]:
    """What is not as before, once that does not change for the better any more."""
    deadline = time.monotonic() + 5.0
    while not (now := seen()) <= before and time.monotonic() < deadline:
        time.sleep(0.01)
    yield from (f"left: {item}" for item in sorted(now - before))
    # What others have mounted in the machine's own /run, below ours, they may take away.
    gone = (item for item in sorted(before - now) if not item.startswith("mount "))
    yield from (f"gone: {item}" for item in gone)


def staying(objects: set[str]) -> set[str]:
    """Those BPF objects that stay. Others on the machine have some too; theirs go with their tests.

    The kernel counts on, and does not soon give a number again.
    """
    deadline = time.monotonic() + STAYS_S
    while objects and time.monotonic() < deadline:
        time.sleep(0.01)
        objects &= bpf_objects()
    return objects


# -- points


class Chaos:
    """The points of one seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._scenario = self._load()
        self._takes_s: dict[Stage, float] = {}
        self.killed: Counter[str] = Counter()

    def _load(self) -> Scenario:
        path = RUN / "chaos.yaml"
        path.write_text(SCENARIO)
        try:
            return load_scenario(path, env={})
        finally:
            path.unlink()

    def _work(self, stage: Stage, topology: Topology) -> Callable[[], object]:
        match stage:
            case "up":
                return lambda: lifecycle.up(topology, wait_s=1.0, restart=True).close()
            case "down":
                return lambda: lifecycle.down(NAME)
            case "run":
                return lambda: run_scenario(self._scenario, quick=False, output_dir=OUTPUT)

    def measure(self) -> None:
        """How long each stage takes when nobody is killed, which must work first of all.

        And that what is looked for can be seen while a testbed is up.
        """
        before, programs = world(), bpf_objects()
        with lifecycle.up(pair(), wait_s=5.0) as running:
            report = running.report
            if report is not None and not report.not_ready and bpf_objects() <= programs:
                print("no BPF program can be seen while there is one", flush=True)
            seen = {item.split()[0] for item in world() - before}
        if missing := {"namespace", "mount", "file", "socket", "process"} - seen:
            print(f"no {', '.join(missing)} can be seen while a testbed is up", flush=True)
        lifecycle.down(NAME)
        for stage in ("up", "down", "run"):
            begun = time.monotonic()
            status = Actor(self._work(stage, line())).wait(HANGS_S)
            if status != 0:
                print(f"{stage} without any kill ended with {status}", flush=True)
            self._takes_s[stage] = time.monotonic() - begun
        clear_output()

    def point(self, number: int) -> None:
        """Kill somebody once, clean up, and print what is left."""
        before = world()
        for attempt in range(TRIES):
            chance = random.Random(f"{self._seed} {number} {attempt}")
            stage = STAGES[number % len(STAGES)]
            victims = [chance.choice(VICTIMS[stage])]
            if chance.random() < 0.2:
                victims.append(chance.choice(VICTIMS[stage]))
            topology = line() if "medium" in victims else chance.choice([pair, line])()
            after_s = chance.uniform(0, self._takes_s[stage]) * 0.8**attempt
            told = f"point {number} of seed {self._seed}: {'+'.join(victims)}, {stage}"
            told += f" of {len(topology.nodes)}, after {after_s:.4f} s: "
            if stage == "down":
                lifecycle.up(topology, wait_s=1.0, restart=True).close()
            actor = Actor(self._work(stage, topology))
            killed = [one for one in victims if kill(one, actor, after_s / len(victims), chance)]
            if actor.wait(HANGS_S) is None:
                print(f"{told}the command hangs", flush=True)
                os.kill(actor.pid, signal.SIGKILL)
                actor.wait(HANGS_S)
            elif actor.wait(0) == 1:
                print(f"{told}the command ended with a traceback", flush=True)
            left = lifecycle.down_all().left
            clear_output()
            for item in (*left, *differences(before, world)):
                print(told + item, flush=True)
            actor.ended()
            if killed:
                self.killed.update(f"{stage} {one}" for one in killed)
                return
        print(f"point {number} of seed {self._seed}: nobody could be killed", flush=True)


def clear_output() -> None:
    if OUTPUT.exists():
        for path in OUTPUT.iterdir():
            path.unlink()
        OUTPUT.rmdir()


def main(seed: int, first: int, count: int) -> None:
    subprocess.check_call(["mount", "-t", "tmpfs", "tmpfs", str(RUN)])
    os.environ.pop("TESTBED_RUN_DIR", None)
    programs = bpf_objects()
    chaos = Chaos(seed)
    chaos.measure()
    begun = time.monotonic()
    for number in range(first, first + count):
        chaos.point(number)
    took_s = time.monotonic() - begun
    for made in sorted(staying(bpf_objects() - programs)):
        print(f"BPF: left: {made}", flush=True)
    print(json.dumps({"points": count, "seconds": round(took_s, 1), "killed": chaos.killed}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
