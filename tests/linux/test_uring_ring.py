"""A ring takes submissions in order and completes each once, whatever wraps or overflows."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.linux import uring, uring_abi, uring_calls
from agent.linux.uring import Ring
from agent.linux.uring_abi import Setup

NOP = 0
"""An operation that does nothing (IORING_OP_NOP)."""


@pytest.fixture
def ring() -> Iterator[Ring]:
    with Ring(8) as made:
        made.sqes["opcode"] = NOP
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


@pytest.mark.parametrize("tap", [True, False])
def test_the_probe_says_yes_here_and_leaves_nothing(tap: bool) -> None:
    before = _descriptors()
    assert uring.probe(tap=tap) == (True, "")
    assert _descriptors() == before
    assert "io_uring" not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize(("tap", "lacking"), [(True, {23}), (False, {26, 27})])
def test_the_probe_names_operations_that_are_missing(
    tap: bool, lacking: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = frozenset(int(operation) for operation in uring_abi.Op) - lacking
    monkeypatch.setattr(uring, "_supported", lambda ring: known)
    available, why_not = uring.probe(tap=tap)
    assert not available
    assert why_not.endswith("has no WRITE" if tap else "has no RECV, SEND")
    # What the other side needs is there.
    assert uring.probe(tap=not tap) == (True, "")


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([-errno.EOPNOTSUPP], "cannot read without waiting"),
        ([-errno.EAGAIN, -errno.EOPNOTSUPP], "cannot read a TAP without waiting"),
        ([3], "gave 3"),
    ],
)
def test_the_probe_says_what_reads_do_not_do(
    root: None, answers: list[int], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter(answers)
    monkeypatch.setattr(uring, "_read", lambda *arguments: next(left))
    before = _descriptors()
    available, why_not = uring.probe(tap=True)
    assert not available
    assert words in why_not
    assert _descriptors() == before


def test_without_a_tap_device_to_try_the_probe_goes_by_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(uring.taps, "TUN_DEVICE", "/nowhere/tun")
    assert uring.probe(tap=True) == (True, "")


def test_submissions_complete_in_order_over_many_wraps(ring: Ring) -> None:
    expected: list[int] = []
    seen: list[int] = []
    for turn in range(500):
        first = turn % ring.entries
        count = 1 + 3 * turn % (ring.entries - first)
        ring.queue(first, count)
        expected += range(first, first + count)
        assert ring.enter() == count
        seen += ring.reap()["user_data"].tolist()
    assert seen == expected


def test_more_than_there_is_room_for_is_refused_and_takes_nothing(ring: Ring) -> None:
    ring.queue(0, 5)
    assert ring.space == 3
    with pytest.raises(ValueError, match="room for 3"):
        ring.queue(0, 4)
    assert ring.enter() == 5
    assert ring.reap()["user_data"].tolist() == [0, 1, 2, 3, 4]
    assert ring.space == 8


def test_a_full_completion_ring_loses_nothing() -> None:
    with Ring(8, cq_entries=8) as ring:
        ring.sqes["opcode"] = NOP
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


def test_a_ring_is_made_as_well_as_the_kernel_can(monkeypatch: pytest.MonkeyPatch) -> None:
    with Ring(8) as best:
        assert Setup.DEFER_TASKRUN in best.flags
        assert best.why == ""
    monkeypatch.setattr(uring_calls, "_BEST", Setup(1 << 31))
    with Ring(8) as plain:
        assert Setup.DEFER_TASKRUN not in plain.flags
        assert "Linux 6.1" in plain.why
        plain.queue(0, 2)
        plain.enter()
        assert len(plain.reap()) == 2
    monkeypatch.setattr(uring_calls, "_COOPERATIVE", Setup(1 << 31))
    assert uring.probe(tap=False) == (False, "this kernel's io_uring is too old (Linux 5.19)")


def test_a_ring_belongs_to_the_process_that_made_it(ring: Ring) -> None:
    def use_the_parents() -> int:
        ring.queue(0, 1)
        try:
            ring.enter()
        except OSError as error:
            return 0 if error.errno == errno.EEXIST else 1
        return 2

    def use_its_own() -> int:
        with Ring(8) as own:
            own.queue(0, 2)
            own.enter()
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
    ring.enter()
    return 0 if len(ring.reap()) == 8 else 97


def test_a_ring_made_with_rights_goes_on_without_them(root: None) -> None:
    assert _as_nobody(0, True, _use) == 0


def test_a_ring_made_without_rights_counts_against_locked_memory(root: None) -> None:
    assert _as_nobody(0, False, _use) == errno.ENOMEM
    assert _as_nobody(1 << 20, False, _use) == 0


def test_registered_rings_are_given_back(ring: Ring) -> None:
    """A thread may register 16 of them: more than that in a row shows that none is kept."""
    for _ in range(20):
        with Ring(8) as another:
            another.register_ring()
            another.queue(0, 1)
            assert another.enter() == 1
