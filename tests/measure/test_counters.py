"""What the kernel counts for a process is exactly what the process did."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from worked_child import IN, OUT, Child

from agent.linux import packet, tap
from testbed.measure import perf
from testbed.measure.counters import (
    CLASSES,
    CallClass,
    CallCounts,
    Side,
    SoftwareCounters,
    SyscallCounters,
    class_of,
    descriptor_sides,
    probe_counters,
)

pytestmark = pytest.mark.usefixtures("root")


def about(count: int, commands: int) -> range:
    """So many calls, and the reads of that many commands.

    The child may go to wait for its next command just before or just after counting begins, and
    just before or after it ends.
    """
    return range(count + commands - 1, count + commands + 2)


def of_class(counts: Mapping[str, int], kind: CallClass) -> int:
    return sum(count for name, count in counts.items() if class_of(name) is kind)


def counted(
    child: Child,
    *commands: str,
    number_filter: bool = False,
    sides: dict[int, Side] | None = None,
) -> CallCounts:
    with SyscallCounters(child.pid, number_filter=number_filter, sides=sides) as counters:
        counters.start()
        for command in commands:
            child.tell(command)
        counters.stop()
        return counters.read()


@pytest.mark.parametrize("number_filter", [False, True])
def test_every_call_of_the_process_its_threads_and_its_children_is_counted(
    number_filter: bool,
) -> None:
    with Child() as child:
        counts = counted(child, "calls 100", "thread 1000", "fork 50", number_filter=number_filter)
    assert counts.complete
    assert counts.by_name["sendto"] == 1150
    assert counts.by_name["recvfrom"] == 1150
    assert counts.by_name["poll"] == 1150
    assert counts.by_name["read"] in about(1150, commands=3)
    # The answers are writes.
    assert counts.by_name["write"] == 1150 + 3
    assert counts.by_name["recvmmsg"] == 0
    assert counts.method == ("number filter" if number_filter else "tracepoint per call")


def test_calls_are_classed_and_the_rest_is_other() -> None:
    with Child() as child:
        counts = counted(child, "calls 100")
    assert of_class(counts.by_name, CallClass.RECEIVE) in about(200, commands=1)
    assert of_class(counts.by_name, CallClass.SEND) == 201
    assert of_class(counts.by_name, CallClass.WAIT) == 100
    assert of_class(counts.by_name, CallClass.RING) == 0
    assert of_class(counts.by_name, CallClass.OTHER) == 0
    assert counts.total is not None
    # Making and closing a socket pair, and what the interpreter does besides.
    assert 3 <= counts.total - sum(counts.by_name.values()) < 40


def test_the_descriptor_tells_the_side() -> None:
    with Child() as child:
        counts = counted(child, "calls 100", sides={OUT: Side.TAP, IN: Side.WIRE})
    tap_side, wire_side = counts.by_side[Side.TAP], counts.by_side[Side.WIRE]
    assert of_class(tap_side, CallClass.SEND) == 100
    assert of_class(wire_side, CallClass.SEND) == 0
    assert of_class(wire_side, CallClass.RECEIVE) == 100
    assert of_class(tap_side, CallClass.RECEIVE) == 0
    # And the socket pair, the commands and the answers.
    assert of_class(counts.by_name, CallClass.SEND) == 100 + 101
    assert of_class(counts.by_name, CallClass.RECEIVE) - 100 in about(100, commands=1)


def test_nothing_is_counted_before_the_start_and_after_the_stop() -> None:
    with Child() as child, SyscallCounters(child.pid) as counters:
        child.tell("calls 10")
        assert counters.read().total == 0
        counters.start()
        child.tell("calls 10")
        counters.stop()
        child.tell("calls 10")
        counts = counters.read()
        assert counts.by_name["sendto"] == 10
        counters.start()
        child.tell("calls 5")
        counters.stop()
        assert counters.read().by_name["sendto"] == 15


def test_counts_outlive_the_process() -> None:
    with Child() as child, SyscallCounters(child.pid) as counters:
        counters.start()
        child.tell("calls 10")
        child.end()
        assert counters.read().by_name["sendto"] == 10


def test_a_process_that_is_gone_is_told() -> None:
    with Child() as child:
        child.end()
    with pytest.raises(ProcessLookupError):
        SyscallCounters(child.pid)
    with pytest.raises(ProcessLookupError):
        SoftwareCounters(child.pid)


def test_software_counters_see_time_faults_and_switches() -> None:
    with Child() as child, SoftwareCounters(child.pid) as counters:
        counters.start()
        child.tell("burn 100")
        burnt = counters.read()
        child.tell("touch 500")
        touched = counters.read()
        child.tell("sleep 200")
        counters.stop()
        slept = counters.read()
    assert 100e6 <= burnt.task_clock_ns < 150e6
    # A huge page would be one fault for many pages; anonymous memory this small gets none.
    assert 500 <= touched.page_faults - burnt.page_faults < 700
    assert 200 <= slept.context_switches - touched.context_switches < 500


def test_what_works_here_is_said() -> None:
    found = probe_counters()
    assert found.syscalls
    assert found.software
    assert found.per_call_tracepoints == (not found.lacking)


def test_tracepoints_are_found_without_leaving_a_mount() -> None:
    before = Path("/proc/self/mountinfo").read_text()
    ids = perf.tracepoint_ids(["raw_syscalls:sys_enter", "syscalls:no_such_call"])
    assert (ids["raw_syscalls:sys_enter"] or 0) > 0
    assert ids["syscalls:no_such_call"] is None
    assert Path("/proc/self/mountinfo").read_text() == before


def test_no_descriptor_is_left_open() -> None:
    with Child() as child:
        before = len(os.listdir("/proc/self/fd"))
        counted(child, "calls 1")
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_nodes_descriptors_are_told_apart() -> None:
    with packet.open_packet_socket("lo") as wire:
        device, _ = tap.open_tap("tbt-sides")
        try:
            sides = descriptor_sides(os.getpid())
            assert sides[wire.fileno()] is Side.WIRE
            assert sides[device] is Side.TAP
            assert not {0, 1, 2} & sides.keys()
        finally:
            os.close(device)
    assert wire.fileno() not in descriptor_sides(os.getpid())


def test_every_class_is_one_a_report_knows() -> None:
    assert class_of("recvmmsg") is CallClass.RECEIVE
    assert class_of("io_uring_enter") is CallClass.RING
    assert class_of("futex") is CallClass.OTHER
    assert set(CLASSES.values()) == set(CallClass) - {CallClass.OTHER}


def test_perf_counts_the_same(tmp_path: Path) -> None:
    if shutil.which("perf") is None:
        pytest.skip("perf is not installed; it is only here to confirm the others")
    with Child() as child:
        events = "syscalls:sys_enter_sendto,syscalls:sys_enter_poll,raw_syscalls:sys_enter"
        with SyscallCounters(child.pid) as counters:
            told = tmp_path / "perf.txt"
            ready, said = os.pipe()
            asked, answer = os.pipe()
            watcher = subprocess.Popen(
                [
                    "perf", "stat", "-x,", "-e", events, "-p", str(child.pid), "-o", str(told),
                    "--control", f"fd:{asked},{said}", "--delay=-1",
                ],
                pass_fds=[asked, said],
            )  # fmt: skip
            os.write(answer, b"enable\n")
            assert os.read(ready, 4)
            counters.start()
            child.tell("calls 777")
            counters.stop()
            counts = counters.read()
            os.write(answer, b"disable\n")
            assert os.read(ready, 4)
            watcher.send_signal(2)
            watcher.wait()
            for descriptor in (ready, said, asked, answer):
                os.close(descriptor)
    theirs = {
        line.split(",")[2]: int(line.split(",")[0])
        for line in told.read_text().splitlines()
        if line and not line.startswith("#")
    }
    assert theirs["syscalls:sys_enter_sendto"] == counts.by_name["sendto"] == 777
    assert theirs["syscalls:sys_enter_poll"] == counts.by_name["poll"] == 777
    # perf was switched on a moment earlier and off a moment later; at either end the child may
    # just have gone to wait for its next command.
    assert counts.total is not None
    assert theirs["raw_syscalls:sys_enter"] - counts.total in (0, 1, 2)
