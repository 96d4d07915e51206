"""Whoever shares a CPU with the rival has the share of it that it leaves."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from testbed.experiment.pinning import pinned
from testbed.traffic.rival import Rival, RivalSpec
from testbed.traffic.worker import Worker

pytestmark = pytest.mark.usefixtures("root")


@contextmanager
def rival_on(cpu: int, share: float) -> Iterator[Worker]:
    worker = Worker("rival")
    try:
        worker.call("open", RivalSpec(cpus=(cpu,), share=share))
        yield worker
    finally:
        worker.close()


def share_of_cpu(seconds: float) -> float:
    """How much of the time this thread has while it wants all of it."""
    begun, used = time.monotonic(), time.thread_time()
    while (elapsed := time.monotonic() - begun) < seconds:
        pass
    return (time.thread_time() - used) / elapsed


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_the_node_has_its_share(share: float) -> None:
    cpu = max(os.sched_getaffinity(0))
    with rival_on(cpu, share), pinned([cpu]):
        assert share_of_cpu(0.5) == pytest.approx(share, rel=0.15)


def test_afterwards_it_has_all() -> None:
    cpu = max(os.sched_getaffinity(0))
    with rival_on(cpu, 0.2):
        pass
    with pinned([cpu]):
        assert share_of_cpu(0.3) > 0.6


@pytest.mark.parametrize(("cpus", "share"), [((0,), 0.05), ((0,), 1.5), ((), 0.5)])
def test_what_it_cannot_leave_is_refused(cpus: tuple[int, ...], share: float) -> None:
    with pytest.raises(ValueError, match="not a share of one CPU"):
        Rival(RivalSpec(cpus=cpus, share=share))
