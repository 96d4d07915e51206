"""A worker process: ``python -m testbed.traffic.workermain JOB DESCRIPTOR [CPU,…]``.

Apart from `testbed.traffic.worker`, so that both ends know what they send each other by one name.
Must not know what the job does.
"""

from __future__ import annotations

import ctypes
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any, Final

from testbed.measure import cpu
from testbed.traffic.worker import serve

_PR_SET_TIMERSLACK: Final = 29


def become_worker() -> None:
    """Leave Ctrl-C to the parent, and sleep as exactly as asked.

    When the parent dies its end of the socket closes, and the worker ends by that. The signal that
    Linux would send for it (PR_SET_PDEATHSIG) comes when the *thread* ends that started us.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def main(arguments: list[str]) -> int:
    """Run one job: name, descriptor of the socket, and optionally CPUs."""
    become_worker()
    name, descriptor, *cpus = arguments
    if cpus:
        cpu.pin(0, map(int, cpus[0].split(",")))
    from testbed.traffic.jobs import make_job

    connection: Connection[Any, Any] = Connection(int(descriptor))
    serve(make_job(name), connection)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
