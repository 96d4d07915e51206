"""A node of several threads and processes is counted whole, also what ran before counting began."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest
from worked_child import Child

from testbed.experiment.callcounting import CallCounting
from testbed.experiment.nodewatch import NodeWatch
from testbed.measure import family, memory
from testbed.running.agent_control import Told

pytestmark = pytest.mark.usefixtures("root")


def helper_of(child: Child) -> int:
    """The process that the child keeps."""
    own, *others = family.members(child.pid)
    assert own == child.pid
    assert len(others) == 1
    return others[0]


def test_threads_and_processes_that_were_there_before_are_counted() -> None:
    with Child() as child:
        child.tell("keep")
        with (
            CallCounting() as counting,
            NodeWatch(
                "child",
                child.pid,
                Told,
                count_calls=counting,
                clock=time.monotonic_ns,
            ) as watch,
        ):
            watch.start()
            child.tell("in-thread 1000")
            child.tell("in-child 200")
            child.tell("calls 30")
            child.tell("fork 4")
            watch.end()
            watch.finish()
            counts = watch.counts()
    assert counts.syscalls is not None
    assert counts.syscalls.kernel is not None
    # What each made by itself; `write` and `read` also carry the orders.
    for name in ("sendto", "recvfrom", "poll"):
        assert counts.syscalls.kernel[name] == 1000 + 200 + 30 + 4, name
    assert counts.syscalls.complete
    assert counts.syscalls.node is None


def test_time_switches_and_memory_of_what_it_started_are_its_own() -> None:
    with Child() as child:
        child.tell("keep")
        helper = helper_of(child)
        before = family.sample(family.members(child.pid))
        child.tell("burn 50")
        child.tell("in-child 2000")
        after = family.sample(family.members(child.pid))
        used = family.cpu_since(after, before)
        alone = after[child.pid].cpu.since(before[child.pid].cpu)
        assert used.total_ns > alone.total_ns
        assert used.total_ns == sum(after[pid].cpu.since(before[pid].cpu).total_ns for pid in after)
        switched = family.switches_since(after, before)
        assert (
            switched.voluntary
            > after[child.pid].switches.since(before[child.pid].switches).voluntary
        )
        together, own = family.memory((child.pid, helper)), memory.memory(child.pid)
        assert together.pss_bytes is not None
        assert own.pss_bytes is not None
        assert together.pss_bytes > own.pss_bytes


def test_one_that_ends_meanwhile_is_left_out_and_the_node_itself_may_not(
    wait_until: Callable[..., None],
) -> None:
    with Child() as child:
        child.tell("keep")
        helper = helper_of(child)
        before = family.sample(family.members(child.pid))
        child.tell("in-child 2000")
        os.kill(helper, signal.SIGKILL)
        wait_until(lambda: family.members(child.pid) == (child.pid,))
        # As long as nobody has asked how it ended, the kernel has what it used.
        ended = family.sample((child.pid, helper))
        shares = {
            pid: ended[pid].cpu.since(before[pid].cpu).total_ns for pid in (child.pid, helper)
        }
        assert shares[helper] > 0
        assert family.cpu_since(ended, before).total_ns == sum(shares.values())
        child.tell("reap")
        after = family.sample((child.pid, helper))
        assert set(after) == {child.pid}
        # Then it has no part in the sum, neither as usage nor as something taken back.
        alone = after[child.pid].cpu.since(before[child.pid].cpu)
        assert family.cpu_since(after, before) == alone
    with pytest.raises(ProcessLookupError):
        family.members(child.pid)
    with pytest.raises(ProcessLookupError):
        family.sample((child.pid,))
    with pytest.raises(ProcessLookupError):
        family.memory((child.pid,))
