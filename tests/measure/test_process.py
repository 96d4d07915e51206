"""What /proc is read for agrees with what a process did."""

from __future__ import annotations

import os

import pytest
from worked_child import Child

from testbed.measure import cpu, procstat
from testbed.measure.counters import SoftwareCounters
from testbed.measure.memory import memory


def test_cpu_time_is_what_was_burnt_and_agrees_with_the_task_clock(root: None) -> None:
    with Child() as child, SoftwareCounters(child.pid) as counters:
        before = procstat.cpu_time(child.pid)
        counters.start()
        child.tell("burn 300")
        counters.stop()
        used = procstat.cpu_time(child.pid).since(before)
        assert 300e6 <= used.total_ns < 400e6
        # Time that a host takes away is in perf's count, and not in the scheduler's.
        assert used.total_ns * 0.98 <= counters.read().task_clock_ns < used.total_ns * 1.5
        assert used.user_ns + used.system_ns == pytest.approx(used.total_ns, abs=30e6)


def test_time_of_threads_that_ended_stays() -> None:
    with Child() as child:
        child.tell("thread 20000")
        after = procstat.cpu_time(child.pid)
        assert after.total_ns >= after.user_ns + after.system_ns - 20e6 > 0


def test_sleeping_is_switching_of_ones_own_accord() -> None:
    with Child() as child:
        before = procstat.switches(child.pid)
        child.tell("sleep 200")
        switched = procstat.switches(child.pid).since(before)
    assert 200 <= switched.voluntary < 260


def test_a_sample_has_everything() -> None:
    with Child() as child:
        before = procstat.sample(child.pid)
        child.tell("touch 300")
        child.tell("calls 100")
        after = procstat.sample(child.pid)
    assert after.start_ticks == before.start_ticks > 0
    assert after.threads == 1
    assert 300 <= after.minor_faults - before.minor_faults < 500
    assert after.io is not None
    assert before.io is not None
    # Each round writes and reads one byte on the pipe; sockets are not counted by send and recv.
    assert after.io.write_calls - before.io.write_calls == 100 + 2


def test_memory_grows_by_what_was_touched() -> None:
    with Child() as child:
        before = memory(child.pid)
        child.tell("touch 2000")
        after = memory(child.pid)
    grown = 2000 * os.sysconf("SC_PAGESIZE")
    assert after.pss_bytes is not None
    assert before.pss_bytes is not None
    # A page that several processes share counts in parts, and less when one more shares it.
    assert grown * 0.99 <= after.pss_bytes - before.pss_bytes < grown * 1.1
    assert after.rss_peak_bytes >= after.rss_bytes >= after.pss_bytes


def test_a_process_that_is_gone_is_told() -> None:
    with Child() as child:
        start = procstat.sample(child.pid).start_ticks
        assert procstat.is_alive(child.pid)
        assert procstat.is_alive(child.pid, start)
        assert not procstat.is_alive(child.pid, start + 1)
        child.end()
    assert not procstat.is_alive(child.pid)
    for look in (procstat.sample, procstat.cpu_time, memory):
        with pytest.raises(ProcessLookupError):
            look(child.pid)


def test_a_pinned_process_runs_where_it_may_and_makes_that_cpu_busy() -> None:
    (where, *_) = cpu.allowed_cpus()
    with Child() as child:
        assert cpu.pin(child.pid, [where]) == (where,)
        before = cpu.machine_cpus()
        child.tell("burn 400")
        used = cpu.machine_since(cpu.machine_cpus(), before)
    assert used[where].busy_ns >= 350e6
    share = used[where].busy_share()
    assert share is not None
    assert 0.5 < share <= 1


def test_no_time_has_no_share() -> None:
    now = cpu.machine_cpus()
    assert all(ticks.busy_share() is None for ticks in cpu.machine_since(now, now).values())
