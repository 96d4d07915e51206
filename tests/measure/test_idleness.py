"""Processes are waited for until they have done their work, whatever keeps them from it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from testbed.measure.idleness import wait_idle

PATIENCE_S = 20.0

WORKER = """\
import os, sys, time
for line in sys.stdin:
    end = time.monotonic() + int(line) / 1000
    while time.monotonic() < end: pass
    os.write(1, b"done\\n")
"""

HOG = """\
import os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
os.write(1, b"on\\n")
end = time.monotonic() + 0.3
while time.monotonic() < end: pass
"""


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[str]]:
    """A process that spins for as many milliseconds as each line tells it, and then says so."""
    with subprocess.Popen(
        [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        work(process, 1)
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
        yield process
        process.send_signal(signal.SIGCONT)
        assert process.stdin is not None
        process.stdin.close()


def work(process: subprocess.Popen[str], milliseconds: int) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{milliseconds}\n")
    process.stdin.flush()


def is_done(process: subprocess.Popen[str]) -> bool:
    assert process.stdout is not None
    return bool(select.select([process.stdout], [], [], 0)[0])


def test_one_that_works_is_waited_for(worker: subprocess.Popen[str]) -> None:
    work(worker, 200)
    assert wait_idle([worker.pid], limit_s=PATIENCE_S)
    assert is_done(worker)


def test_one_that_does_not_get_its_cpu_is_waited_for(
    root: None, worker: subprocess.Popen[str]
) -> None:
    cpu = min(os.sched_getaffinity(0))
    os.sched_setaffinity(worker.pid, {cpu})
    with subprocess.Popen(
        [sys.executable, "-c", HOG, str(cpu)], stdout=subprocess.PIPE, text=True
    ) as hog:
        assert hog.stdout is not None
        assert hog.stdout.readline() == "on\n"
        work(worker, 1)
        assert wait_idle([worker.pid], limit_s=PATIENCE_S)
        assert is_done(worker)


def test_one_that_is_stopped_has_its_work_before_it(
    worker: subprocess.Popen[str], wait_until: Callable[..., None]
) -> None:
    worker.send_signal(signal.SIGSTOP)
    work(worker, 1)
    wait_until(lambda: not wait_idle([worker.pid], limit_s=0.1), timeout=PATIENCE_S)
    assert not is_done(worker)
    worker.send_signal(signal.SIGCONT)
    assert wait_idle([worker.pid], limit_s=PATIENCE_S)
    assert is_done(worker)


def test_one_that_is_gone_is_at_rest(worker: subprocess.Popen[str]) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert wait_idle([gone.pid], limit_s=PATIENCE_S)
    work(worker, 100)
    assert wait_idle([gone.pid, worker.pid], limit_s=PATIENCE_S)
    assert is_done(worker)
