"""What others count of one run agrees with its report: perf or strace, the interface, a capture.

None of them shares code with what is checked: perf and strace count system calls, /proc/net/dev the
frames of the node's radio, and tcpdump the frames that reach the tester's.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_scenario_files import load

from testbed.experiment import course, trial
from testbed.experiment.nodewatch import NodeWatch
from testbed.experiment.runner import run_scenario
from testbed.results import Result, Trial
from testbed.traffic.paths import Cast
from testbed.traffic.peer import DEFAULT_OBUS, DEFAULT_PERIOD_MS

SCENARIO = """\
name: NAME
topology: pair
checks: {which: []}
measure:
  relay: {node: obu1, path: relay, tester: rsu1}
traffic:
  loads: {medium: {rate: 3kpps, burst: 16}}
variants:
  single: {baseline: true, engine: per-packet, handler: per-packet, batch: 1}
  batched: {engine: {wire: mmsg, tap: per-packet}, handler: batched, batch: 32}
repeats: 1
trial: 100ms
warm_up: 50ms
counting: {trial: 500ms, repeats: 1}
"""

CALLS = (
    "recvfrom", "sendto", "recvmmsg", "sendmmsg", "read", "write", "ppoll", "poll", "epoll_wait",
    "io_uring_enter",
)  # fmt: skip
DATA = f"ether dst {Cast().rsu} and ether[12:2] = 0x3030 and ether[14] = 1"

HEARTBEAT_S = DEFAULT_PERIOD_MS / 1000
AT_THE_ENDS = 12
"""Calls and frames that may fall between two counts that begin and end one after the other."""


SPAWNED: list[subprocess.Popen[str]] = []


def spawn(arguments: tuple[str | Path, ...], **streams: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(arguments, text=True, **streams)  # type: ignore[call-overload]
    SPAWNED.append(process)
    return process  # type: ignore[no-any-return]


class Perf:
    """`perf stat` of one process, told by a pipe when to begin and to end."""

    def __init__(self, pid: int, folder: Path) -> None:
        self._out = folder / f"perf-{pid}.json"
        self._control, self._ack = folder / f"control-{pid}", folder / f"ack-{pid}"
        for fifo in (self._control, self._ack):
            os.mkfifo(fifo)
        events = ["raw_syscalls:sys_enter", *(f"syscalls:sys_enter_{name}" for name in CALLS)]
        self._process = spawn(
            (
                "perf", "stat", "-j", "-o", self._out, "-D", "-1", "-p", str(pid),
                "--control", f"fifo:{self._control},{self._ack}",
                *(word for event in events for word in ("-e", event)),
            ),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._to = self._control.open("w")
        self._from = self._ack.open("r")

    def begin(self) -> None:
        self._tell("enable")

    def end(self) -> None:
        self._tell("disable")

    def counts(self) -> dict[str, int]:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(20)
        self._to.close()
        self._from.close()
        counts = {}
        for line in self._out.read_text().splitlines():
            if line.startswith("{"):
                found = json.loads(line)
                name = found["event"].removeprefix("syscalls:sys_enter_")
                counts[name] = int(float(found["counter-value"]))
        return counts

    def _tell(self, word: str) -> None:
        self._to.write(word + "\n")
        self._to.flush()
        assert self._from.readline().strip().strip("\0") == "ack"


class Strace:
    """`strace -c` of one process; it counts from the moment it has attached."""

    def __init__(self, pid: int, folder: Path) -> None:
        self._pid, self._out = pid, folder / f"strace-{pid}"

    def begin(self) -> None:
        self._process = spawn(
            ("strace", "-c", "-f", "-o", self._out, "-p", str(self._pid)),
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stderr is not None
        assert "attached" in self._process.stderr.readline()

    def end(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.communicate(timeout=20)

    def counts(self) -> dict[str, int]:
        counts = {"raw_syscalls:sys_enter": 0, **dict.fromkeys(CALLS, 0)}
        row = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$")
        for line in self._out.read_text().splitlines():
            if (found := row.match(line)) and found[2] != "total":
                counts[found[2]] = int(found[1])
                counts["raw_syscalls:sys_enter"] += int(found[1])
        return counts


def counter() -> type[Perf] | type[Strace]:
    for program, kind in (("perf", Perf), ("strace", Strace)):
        if shutil.which(program):
            tried = subprocess.run((program, "-V" if program == "strace" else "--version"),
                                   capture_output=True, check=False)  # fmt: skip
            if tried.returncode == 0:
                return kind
    pytest.skip("neither perf nor strace is installed here")


class Capture:
    """tcpdump of the data messages that reach an interface in a namespace."""

    def __init__(self, netns: str, interface: str) -> None:
        self._process = spawn(
            (
                "ip", "netns", "exec", netns, "tcpdump", "-n", "-i", interface, "-Q", "in",
                "-B", "65536", "-s", "64", "--immediate-mode", "-w", "/dev/null", DATA,
            ),
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stderr is not None
        line = ""
        while "listening on" not in line:
            line = self._process.stderr.readline()
            assert line, "tcpdump did not begin"

    def end(self) -> int:
        self._process.send_signal(signal.SIGINT)
        _, said = self._process.communicate(timeout=20)
        dropped = re.search(r"(\d+) packets? dropped by kernel", said)
        assert dropped is not None, said
        assert dropped[1] == "0", said
        # What its socket took: of that, some may still have been on the way to it when it ended.
        captured = re.search(r"(\d+) packets? received by filter", said)
        assert captured is not None, said
        return int(captured[1])


def frames_of(pid: int, interface: str) -> tuple[int, int]:
    """Frames that an interface of the process' namespace has received and sent."""
    for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name.strip() == interface:
            values = rest.split()
            return int(values[1]), int(values[9])
    raise AssertionError(f"no {interface}")


@pytest.fixture
def counted_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, testbed_name: str
) -> Iterator[list[dict[str, Any]]]:
    """What others count in each trial of the counting pass, while it goes on."""
    kind = counter()
    found: list[dict[str, Any]] = []

    class Watched(NodeWatch):
        """The others begin after the watch and end before it, while the node is idle."""

        def start(self) -> None:
            self._counter = self._capture = None
            if self._count_calls is not None:
                self._counter = kind(self._pid, tmp_path)
                netns = f"tb.{course.testbed_name_of(testbed_name)}.rsu1"
                self._capture = Capture(netns, "radio0")
                self._before, self._began = frames_of(self._pid, "radio0"), time.monotonic()
            super().start()
            if self._counter is not None:
                self._counter.begin()

        def end(self) -> None:
            if self._counter is not None:
                self._counter.end()
                after = frames_of(self._pid, "radio0")
                beats = (time.monotonic() - self._began) / HEARTBEAT_S
            super().end()
            if self._counter is not None and self._capture is not None:
                calls = self._counter.counts()
                received, sent = (n - b for n, b in zip(after, self._before, strict=True))
                captured = self._capture.end()
                found.append(
                    {
                        "calls": calls,
                        "received": received,
                        "sent": sent,
                        "captured": captured,
                        "beats": beats,
                    }
                )

    monkeypatch.setattr(trial, "NodeWatch", Watched)
    yield found
    while SPAWNED:
        process = SPAWNED.pop()
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_three_others_count_the_same(
    root: None,
    run_dir: Path,
    tmp_path: Path,
    testbed_name: str,
    counted_elsewhere: list[dict[str, Any]],
) -> None:
    scenario = load(SCENARIO.replace("NAME", testbed_name), tmp_path)
    made: Result = run_scenario(scenario, quick=False, output_dir=tmp_path / "out")
    reported = [one for one in made.trials if one.phase == "counting"]
    assert [one.variant for one in reported] == ["single", "batched"]
    assert len(counted_elsewhere) == 2
    for one, elsewhere in zip(reported, counted_elsewhere, strict=True):
        agree(one, elsewhere)


def agree(reported: Trial, elsewhere: dict[str, Any]) -> None:
    assert reported.traffic is not None
    assert reported.node is not None
    calls = reported.node.syscalls
    assert calls is not None
    assert calls.kernel is not None
    assert calls.total is not None
    for name in CALLS:
        here = calls.kernel.get(name, 0) + calls.aside.get(name, 0)
        assert abs(elsewhere["calls"][name] - here) <= AT_THE_ENDS, name
    # Each variant makes the calls that it should.
    kind = "recvfrom" if reported.variant == "single" else "recvmmsg"
    assert elsewhere["calls"][kind] > 50
    assert abs(elsewhere["calls"]["raw_syscalls:sys_enter"] - calls.total) <= AT_THE_ENDS
    assert reported.traffic.offered > 50 * AT_THE_ENDS
    # Heartbeats are frames too: the node hears one, and those that answer it, and sends it on and
    # answers.
    control = AT_THE_ENDS + (1 + DEFAULT_OBUS) * (1 + elsewhere["beats"])
    assert 0 <= elsewhere["received"] - reported.traffic.offered <= control
    assert 0 <= elsewhere["sent"] - reported.traffic.delivered <= control
    # A capture sees what is no test traffic as well.
    assert 0 <= elsewhere["captured"] - reported.traffic.delivered <= AT_THE_ENDS
