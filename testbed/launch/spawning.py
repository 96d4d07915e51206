"""Starts the launcher of a testbed, with the environment that its nodes are to have.

Must not know what is asked of a launcher.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Final

from testbed.kernel import processes
from testbed.launch.client import Launcher, LauncherGone
from testbed.rundir import RunDir, last_line


class Spawned:
    """A launcher that is on its way. Close it, whether or not it was waited for."""

    def __init__(self, run: RunDir, first: subprocess.Popen[bytes], ready: int) -> None:
        """Take over the process that becomes it and the descriptor on which it says so."""
        self._run = run
        self._first = first
        self._ready = ready

    def connect(
        self, timeout_s: float = 20.0, *, check: Callable[[], None] | None = None
    ) -> Launcher:
        """Wait until it listens, and connect. `check` is called often, and may end it by raising.

        :raises LauncherGone: it ended before, or took too long; with what its log says.
        """
        poll = select.poll()
        poll.register(self._ready, select.POLLIN)
        deadline = time.monotonic() + timeout_s
        said = None
        while said is None and time.monotonic() < deadline:
            if check is not None:
                check()
            if poll.poll(100):
                said = os.read(self._ready, 16)
        if not said:
            line = last_line(self._run.launcher_log)
            raise LauncherGone(
                f"testbed {self._run.name}: its launcher "
                + (
                    "ended before it was ready"
                    if said == b""
                    else f"was not ready in {timeout_s:g} s"
                )
                + (f": {line}" if line else "")
            )
        return Launcher.connect(self._run)

    def close(self) -> None:
        """Forget it; it goes on by itself."""
        if self._ready >= 0:
            os.close(self._ready)
            self._ready = -1
            self._first.wait()  # it has forked and ended long ago, or was killed


PASSED_ON: Final = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR"),
        *("LD_LIBRARY_PATH", "VIRTUAL_ENV"),
    }
)
PASSED_ON_PREFIXES: Final = ("LC_", "PYTHON", "TESTBED_")
"""What a launcher and its nodes get of the environment of whoever starts them: what a program needs
to run at all, and what is meant for the testbed. No node behaves otherwise because somebody's shell
has other variables, and none of them gets to know what is in there."""


def passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """What of it a launcher gets; what is set for one node alone is for no other."""
    return {
        name: value
        for name, value in environment.items()
        if (name in PASSED_ON or name.startswith(PASSED_ON_PREFIXES))
        and name != processes.NODE_VARIABLE
    }


def spawn(run: RunDir, nonce: str) -> Spawned:
    """Start the launcher of a testbed; returns at once.

    It becomes nobody's child and outlives this process. Every process that it starts carries the
    testbed's mark, and has of this environment what is `PASSED_ON`.
    """
    environment = {
        **passed_on(os.environ),
        processes.MARK_VARIABLE: processes.mark(run.path, nonce),
        # An agent has one thread; a pool of threads would not survive the fork.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
    ready, ready_end = os.pipe2(os.O_CLOEXEC)
    try:
        with run.launcher_log.open("ab") as log:
            first = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "testbed.launch.launcher",
                    str(run.path),
                    str(ready_end),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd="/",
                pass_fds=(ready_end,),
                start_new_session=True,
            )
    except BaseException:
        os.close(ready)
        raise
    finally:
        os.close(ready_end)
    return Spawned(run, first, ready)
