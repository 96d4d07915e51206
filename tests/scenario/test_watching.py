"""What a node is seen to cost: of several together, and of one over a window."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from testbed import results
from testbed.experiment.callcounting import CallCounting, difference
from testbed.experiment.nodetotal import together
from testbed.experiment.nodewatch import NodeGone, NodeWatch
from testbed.measure.counters import CallCounts, Side, SoftwareCounters, SoftwareCounts
from testbed.running.agent_control import Told


def node(
    cpu_ns: int, *, wakeups: int | None = 5, kernel: dict[str, int] | None = None
) -> results.NodeCounts:
    return results.NodeCounts(
        pid=1,
        cpu=results.Cpu(task_clock_ns=cpu_ns, user_ns=1, system_ns=2, window_ns=10),
        switches=results.Switches(voluntary=3, involuntary=4),
        memory=results.Memory(pss_end_bytes=100, rss_end_bytes=None, rss_peak_bytes=200),
        syscalls=results.Syscalls(kernel=kernel, node={"read": 1}),
        wakeups=wakeups,
        tx_frames={"wire": 7},
        drops={"loop": 1},
    )


def test_several_nodes_cost_the_sum_of_what_each_costs() -> None:
    total = together([node(10, kernel={"read": 2}), node(20, kernel={"read": 3, "write": 1})])
    assert total.cpu is not None
    assert (total.cpu.task_clock_ns, total.cpu.user_ns, total.cpu.window_ns) == (30, 2, 10)
    assert total.switches == results.Switches(voluntary=6, involuntary=8)
    assert total.memory is not None
    assert total.memory.pss_end_bytes == 200
    assert total.syscalls is not None
    assert total.syscalls.kernel == {"read": 5, "write": 1}
    assert total.wakeups == 10
    assert total.drops == {"loop": 2}


def test_what_one_node_lacks_is_missing_in_the_total_and_not_zero() -> None:
    total = together([node(10, kernel={"read": 2}), node(20, wakeups=None)])
    assert total.wakeups is None
    assert total.memory is not None
    assert total.memory.rss_end_bytes is None
    assert total.syscalls is not None
    assert total.syscalls.kernel is None
    assert total.syscalls.node == {"read": 2}


def test_what_several_nodes_sent_on_is_not_added_up() -> None:
    assert together([node(1), node(2)]).tx_frames == {}
    assert together([node(1)]).tx_frames == {"wire": 7}


def test_a_window_of_counts_is_what_came_after_its_beginning() -> None:
    before = CallCounts(total=10, by_name={"read": 4}, by_side={Side.WIRE: {"read": 3}}, method="m")
    now = CallCounts(
        total=25, by_name={"read": 9, "write": 2}, by_side={Side.WIRE: {"read": 5}}, method="m"
    )
    found = difference(now, before)
    assert found.total == 15
    assert found.by_name == {"read": 5, "write": 2}
    assert found.by_side == {Side.WIRE: {"read": 2}}


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[str]]:
    """A process that spins for as many milliseconds as each line tells it, and then says so."""
    program = (
        "import os, sys, time\n"
        "for line in sys.stdin:\n"
        "    end = time.monotonic() + int(line) / 1000\n"
        "    while time.monotonic() < end: pass\n"
        "    os.write(1, b'done\\n')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def watch(process: subprocess.Popen[str], counting: CallCounting | None = None) -> NodeWatch:
    return NodeWatch("worker", process.pid, Told, count_calls=counting, clock=time.monotonic_ns)


def spin(worker: subprocess.Popen[str], milliseconds: int) -> None:
    """Let it spin, and wait until it says that it has."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(f"{milliseconds}\n")
    worker.stdin.flush()
    assert worker.stdout.readline() == "done\n"


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.usefixtures("root")
def test_the_kernel_counts_the_calls_of_the_window_alone(
    worker: subprocess.Popen[str], wait_until: Callable[..., None]
) -> None:
    def work() -> None:
        spin(worker, 1)
        # Its next read has begun only once it sleeps in it.
        wait_until(lambda: state(worker.pid) == "S", timeout=10)

    work()
    with CallCounting() as counting:
        for rounds in (1, 3):
            with watch(worker, counting) as watched:
                work()
                watched.start()
                for _ in range(rounds):
                    work()
                watched.end()
                work()
                watched.finish()
                calls = watched.counts().syscalls
            assert calls is not None
            assert calls.kernel is not None
            assert calls.kernel["write"] == rounds
            assert calls.kernel["read"] == rounds


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("factor", "source"), [(0.5, "perf task-clock"), (2, "CPU-time clock of the process")]
)
def test_where_perf_counts_more_than_the_scheduler_that_one_counts(
    worker: subprocess.Popen[str],
    factor: float,
    source: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = SoftwareCounters.read

    def counted(counters: SoftwareCounters) -> SoftwareCounts:
        counts = read(counters)
        return replace(counts, task_clock_ns=round(factor * counts.task_clock_ns))

    monkeypatch.setattr(SoftwareCounters, "read", counted)
    with watch(worker) as watched:
        watched.start()
        spin(worker, 200)
        watched.end()
        watched.finish()
        cpu = watched.counts().cpu
    assert cpu is not None
    assert cpu.source == source
    assert cpu.task_clock_ns is not None
    assert 0 < cpu.task_clock_ns < 1.2 * 200e6


def test_a_process_that_is_gone_is_said_so() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], text=True)
    process.wait()
    with pytest.raises(NodeGone), watch(process):
        pass
