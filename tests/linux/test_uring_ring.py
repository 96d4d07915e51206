"""A ring takes submissions in order and completes each once, whatever wraps or overflows."""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.linux import uring
from agent.linux.uring import Op, Ring, Setup


@pytest.fixture
def ring() -> Iterator[Ring]:
    with Ring(8) as made:
        made.sqes["opcode"] = Op.NOP
        made.sqes["user_data"] = np.arange(made.entries)
        yield made


def _descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def in_child(work: Callable[[], int]) -> int:
    """Exit status of `work` in a forked child; 99 if it raised."""
    pid = os.fork()
    if not pid:
        status = 99
        try:
            status = work()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_the_probe_says_yes_here_and_leaves_nothing() -> None:
    before = _descriptors()
    assert uring.probe() == (True, "")
    assert _descriptors() == before
    assert "io_uring" not in Path("/proc/self/maps").read_text()


def test_submissions_complete_in_order_over_many_wraps(ring: Ring) -> None:
    expected: list[int] = []
    seen: list[int] = []
    for turn in range(500):
        count = 1 + turn % ring.entries
        slots = ((np.arange(count) * 3 + turn) % ring.entries).astype(np.uint32)
        ring.queue_slots(slots)
        expected += slots.tolist()
        assert ring.enter(count) == count
        seen += ring.reap()["user_data"].tolist()
    assert seen == expected


def test_completions_can_be_taken_one_by_one(ring: Ring) -> None:
    assert ring.reap_one() is None
    ring.queue(2, 3)
    ring.enter(3)
    assert ring.ready == 3
    assert [ring.reap_one() for _ in range(4)] == [(2, 0, 0), (3, 0, 0), (4, 0, 0), None]


def test_more_than_there_is_room_for_is_refused_and_takes_nothing(ring: Ring) -> None:
    ring.queue(0, 5)
    assert ring.space == 3
    with pytest.raises(ValueError, match="room for 3"):
        ring.queue(0, 4)
    assert ring.enter(5) == 5
    assert ring.reap()["user_data"].tolist() == [0, 1, 2, 3, 4]
    assert ring.space == 8


def test_a_full_completion_ring_loses_nothing() -> None:
    with Ring(8, cq_entries=8) as ring:
        ring.sqes["opcode"] = Op.NOP
        sent, seen = 0, []
        for _ in range(4):
            ring.sqes["user_data"] = np.arange(sent, sent + 8)
            ring.queue(0, 8)
            sent += ring.enter()
        assert ring.ready == 8
        while ring.ready:
            seen += ring.reap()["user_data"].tolist()
            ring.enter()
        assert seen == list(range(sent)) == list(range(32))
        assert ring.lost == 0


def test_a_wait_ends_at_its_timeout(ring: Ring) -> None:
    began = time.monotonic()
    assert ring.enter(1, timeout_us=20_000) == 0
    assert 0.02 <= time.monotonic() - began < 2
    assert ring.ready == 0


def test_a_minimum_wait_gathers_what_comes_until_it_has_passed(ring: Ring) -> None:
    ring.queue(0, 3)
    began = time.monotonic()
    assert ring.enter(8, min_wait_us=30_000, timeout_us=5_000_000) == 3
    waited = time.monotonic() - began
    assert 0.03 <= waited < 2
    assert len(ring.reap()) == 3


def test_a_minimum_wait_ends_early_when_the_batch_is_full(ring: Ring) -> None:
    ring.queue(0, 8)
    began = time.monotonic()
    ring.enter(8, min_wait_us=2_000_000, timeout_us=4_000_000)
    assert time.monotonic() - began < 1
    assert len(ring.reap()) == 8


def test_after_the_minimum_wait_the_first_completion_ends_the_wait(ring: Ring) -> None:
    readable, writable = os.pipe()
    try:
        buffer = np.zeros(8, np.uint8)
        ring.sqes[0]["opcode"] = Op.READ
        ring.sqes[0]["fd"] = readable
        ring.sqes[0]["addr"] = buffer.ctypes.data
        ring.sqes[0]["len"] = 8
        ring.queue(0, 1)
        pid = os.fork()
        if not pid:
            time.sleep(0.1)
            os.write(writable, b"late")
            os._exit(0)
        began = time.monotonic()
        ring.enter(8, min_wait_us=1_000, timeout_us=10_000_000)
        waited = time.monotonic() - began
        os.waitpid(pid, 0)
        assert 0.05 < waited < 5
        assert ring.reap()["res"].tolist() == [4]
        assert buffer[:4].tobytes() == b"late"
    finally:
        os.close(readable)
        os.close(writable)


def test_a_signal_ends_a_wait_and_its_handler_runs(ring: Ring) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: heard.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        ring.enter(1, timeout_us=10_000_000)
        assert heard == [signal.SIGALRM]
    finally:
        signal.signal(signal.SIGALRM, before)


def _post_pipe_read(ring: Ring, fd: int, buffer: np.ndarray) -> None:
    sqe = ring.sqes[0:1]
    sqe["opcode"], sqe["fd"] = Op.READ, fd
    sqe["addr"], sqe["len"] = buffer.ctypes.data, buffer.nbytes
    ring.queue(0, 1)
    ring.enter()


@pytest.mark.parametrize("through", ["eventfd", "ring"])
def test_an_epoll_loop_is_woken_for_completions(through: str) -> None:
    """By an eventfd always; by the ring's own descriptor only without deferred work."""
    readable, writable = os.pipe()
    buffer = np.zeros(8, np.uint8)
    flags = None if through == "eventfd" else Setup.CQSIZE | Setup.COOP_TASKRUN
    with Ring(8, flags=flags) as ring, select.epoll() as epoll:
        watched = ring.fileno()
        if through == "eventfd":
            watched = os.eventfd(0, os.EFD_NONBLOCK)
            ring.register_eventfd(watched)
        epoll.register(watched, select.EPOLLIN)
        _post_pipe_read(ring, readable, buffer)
        assert epoll.poll(0) == []
        os.write(writable, b"abc")
        assert epoll.poll(5) == [(watched, select.EPOLLIN)]
        ring.enter()
        assert ring.reap()["res"].tolist() == [3]
        if through == "eventfd":
            os.close(watched)
    os.close(readable)
    os.close(writable)


def test_the_rings_own_descriptor_shows_deferred_work_to_whoever_asks(ring: Ring) -> None:
    readable, writable = os.pipe()
    buffer = np.zeros(8, np.uint8)
    _post_pipe_read(ring, readable, buffer)
    assert select.select([ring], [], [], 0)[0] == []
    os.write(writable, b"abc")
    assert select.select([ring], [], [], 0)[0] == [ring]
    os.close(readable)
    os.close(writable)


def test_registered_descriptors_buffers_and_ring_are_used(tmp_path: Path, ring: Ring) -> None:
    path = tmp_path / "tbt-out"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    memory = np.frombuffer(bytearray(b"0123456789"), np.uint8)
    ring.register_ring()
    ring.register_files([fd])
    os.close(fd)  # the ring keeps its own
    ring.register_buffers([memory])
    sqe = ring.sqes[0:1]
    sqe["opcode"], sqe["flags"], sqe["fd"] = Op.WRITE_FIXED, 1, 0
    sqe["addr"], sqe["len"], sqe["buf_index"] = memory.ctypes.data + 3, 4, 0
    ring.queue(0, 1)
    ring.enter(1)
    assert ring.reap()["res"].tolist() == [4]
    assert path.read_bytes() == b"3456"


def test_closing_leaves_no_descriptor_and_no_mapping_and_views_read_zeros() -> None:
    before = _descriptors()
    ring = Ring(8)
    ring.sqes["user_data"] = 5
    slots = ring.sqes
    ring.close()
    ring.close()
    assert _descriptors() == before
    assert "io_uring" not in Path("/proc/self/maps").read_text()
    assert not slots["user_data"].any()


def test_a_ring_says_how_it_was_made() -> None:
    with Ring(8) as best:
        assert Setup.DEFER_TASKRUN in best.flags
        assert best.why == ""
    with Ring(8, flags=Setup.CQSIZE | Setup.COOP_TASKRUN) as plain:
        assert Setup.DEFER_TASKRUN not in plain.flags
        plain.queue(0, 2)
        plain.enter(2)
        assert len(plain.reap()) == 2
    with pytest.raises(ValueError, match="index array"):
        Ring(8, flags=Setup.CQSIZE | Setup.NO_SQARRAY)


def test_a_ring_belongs_to_the_process_that_made_it(ring: Ring) -> None:
    def use_the_parents() -> int:
        ring.queue(0, 1)
        try:
            ring.enter(1)
        except OSError as error:
            return 0 if error.errno == errno.EEXIST else 1
        return 2

    def use_its_own() -> int:
        with Ring(8) as own:
            own.queue(0, 2)
            own.enter(2)
            return 0 if len(own.reap()) == 2 else 1

    assert in_child(use_the_parents) == 0
    assert in_child(use_its_own) == 0


def _become_nobody() -> None:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    assert "CapEff:\t0000000000000000" in Path("/proc/self/status").read_text()


def _as_nobody(allowed_bytes: int, made_before: bool, use: Callable[[Ring], int]) -> int:
    def work() -> int:
        ring = Ring(64) if made_before else None
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (allowed_bytes, allowed_bytes))
        _become_nobody()
        try:
            with ring or Ring(64) as used:
                return use(used)
        except OSError as error:
            return error.errno or 98

    return in_child(work)


def _use(ring: Ring) -> int:
    ring.register_ring()
    ring.queue(0, 8)
    ring.enter(8)
    return 0 if len(ring.reap()) == 8 else 97


def _register(ring: Ring) -> int:
    ring.register_buffers([np.zeros(1 << 20, np.uint8)])
    return 0


@pytest.mark.parametrize("use", [_use, _register])
def test_a_ring_made_with_rights_goes_on_without_them(
    root: None, use: Callable[[Ring], int]
) -> None:
    assert _as_nobody(0, True, use) == 0


def test_a_ring_made_without_rights_counts_against_locked_memory(root: None) -> None:
    assert _as_nobody(0, False, _use) == errno.ENOMEM
    assert _as_nobody(1 << 20, False, _use) == 0
    assert _as_nobody(1 << 20, False, _register) == errno.ENOMEM
    assert _as_nobody(2 << 20, False, _register) == 0


def test_registered_rings_are_given_back(ring: Ring) -> None:
    """A thread may register 16 of them: more than that in a row shows that none is kept."""
    for _ in range(20):
        with Ring(8) as another:
            another.register_ring()
            another.queue(0, 1)
            assert another.enter(1) == 1
