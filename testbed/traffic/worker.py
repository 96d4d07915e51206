"""The tester's processes: each is a fresh interpreter that does one job and is told what to do.

A generator or a sink must have its CPU, its garbage collector and its scheduling class to itself,
so neither can be a thread. They speak over a socket pair in pickled values, parent and child being
the same program. A worker ends when its parent does. Must not know what the jobs do.

The child's end is `testbed.traffic.workermain`.
"""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final, Protocol

from testbed.traffic.errors import TrafficError, WorkerDied

_PROGRAM: Final = "testbed.traffic.workermain"
_CLOSE_S: Final = 2.0


class Job(Protocol):
    """What a worker does. `command` may take its time; `idle` is called in between."""

    def command(self, name: str, argument: Any, wanted: Callable[[], bool]) -> Any:
        """Carry out a command; `wanted()` turns False when the parent gave up on it."""
        ...

    def idle(self) -> float | None:
        """Do what is due; how many seconds until the next time, None for never."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


@dataclass(frozen=True, slots=True)
class _Failure:
    kind: str
    message: str
    trace: str
    number: int | None


class Worker:
    """The parent's end of one worker process."""

    def __init__(self, job: str, *, cpus: tuple[int, ...] | None = None) -> None:
        """Start it. `cpus` are where it may run; it moves there itself, first of all."""
        ours, theirs = socket.socketpair()
        self.job = job
        arguments = [sys.executable, "-P", "-m", _PROGRAM, job, str(theirs.fileno())]
        if cpus is not None:
            arguments.append(",".join(map(str, cpus)))
        try:
            self._process = subprocess.Popen(
                arguments,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                # Ctrl-C is for the parent to handle: it wants the worker's last results.
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._connection: Connection[Any, Any] = Connection(ours.detach())
        self._waiting = False

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def call(self, name: str, argument: object = None, *, timeout_s: float = 10.0) -> Any:
        """Have a command carried out and return what it returned."""
        self.begin(name, argument)
        return self.finish(timeout_s=timeout_s)

    def begin(self, name: str, argument: object = None) -> None:
        """Send a command; `finish` waits for its end."""
        if self._waiting:
            raise TrafficError(f"the {self.job} is still busy")
        try:
            self._connection.send((name, argument))
        except OSError as error:
            raise self._died() from error
        self._waiting = True

    def finish(self, *, timeout_s: float) -> Any:
        """What the command returned.

        :raises WorkerDied: the process ended.
        :raises TrafficError: the command failed, or did not end within `timeout_s`.
        :raises OSError: the command failed so.
        """
        try:
            if not self._connection.poll(timeout_s):
                raise TrafficError(f"the {self.job} did not answer within {timeout_s:g} s")
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._died() from error
        self._waiting = False
        if isinstance(answer, _Failure):
            message = f"{self.job}: {answer.message}"
            if answer.kind == "OSError" and answer.number is not None:
                raise OSError(answer.number, message)
            if answer.kind == "TrafficError":
                raise TrafficError(message)
            raise TrafficError(f"{message}\n{answer.trace}")
        return answer

    def give_up(self) -> None:
        """Ask a command that runs to end early; its result is still to be fetched."""
        if self._waiting:
            self._connection.send(("give up", None))

    def drop_answer(self, *, timeout_s: float) -> None:
        """Fetch the answer that is still to come, if one is, and forget it."""
        if self._waiting:
            self.finish(timeout_s=timeout_s)

    def close(self) -> None:
        """End the process; twice is fine."""
        self._connection.close()
        try:
            self._process.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _died(self) -> WorkerDied:
        try:
            status = self._process.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            status = None
        return WorkerDied(f"the {self.job} (process {self.pid}) ended early, status {status}")


def serve(job: Job, connection: Connection[Any, Any]) -> None:
    """Carry out commands until the parent hangs up."""

    # One poll object for good: Connection.poll makes a new one for every call.
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN)

    def wanted() -> bool:
        return not poller.poll(0)

    try:
        while True:
            pause = job.idle()
            if not poller.poll(None if pause is None else pause * 1e3):
                continue
            name, argument = connection.recv()
            if name == "give up":  # came after the command had ended by itself
                continue
            try:
                answer = job.command(name, argument, wanted)
            except Exception as error:
                number = error.errno if isinstance(error, OSError) else None
                kind = next(
                    (base.__name__ for base in (OSError, TrafficError) if isinstance(error, base)),
                    type(error).__name__,
                )
                text = str(error) or type(error).__name__
                answer = _Failure(kind, text, traceback.format_exc(), number)
            connection.send(answer)
    except (EOFError, OSError):
        pass
    finally:
        job.close()


def wait_until_ns(time_ns: int) -> None:
    """Sleep until that time of CLOCK_MONOTONIC."""
    while (left := time_ns - time.monotonic_ns()) > 0:
        time.sleep(left * 1e-9)
