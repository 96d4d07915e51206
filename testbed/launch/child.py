"""A node's process until it is a node: the fork, its namespace, its descriptors, its end with us.

Runs in the launcher (`preload`, `prepare`, `fork`) and in its children (`_become`). Must not know
clients or other nodes.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NoReturn

from agent.linux import mounttree
from testbed.kernel import netns
from testbed.kernel.processes import NODE_VARIABLE
from testbed.launch import user
from testbed.launch.messages import NodeSpec, Program

EVENTS_FD: Final = 3
_LIFELINE_FD: Final = 4
_ROOT_FD: Final = 5
_PR_SET_PDEATHSIG: Final = 1
_EXIT_NOT_STARTED: Final = 70
"""EX_SOFTWARE of sysexits.h: the node never came to be."""

_F_SETSIG: Final = 10

_libc = ctypes.CDLL(None, use_errno=True)


def preload() -> None:
    """Load what an agent needs, once for all."""
    import agent.runtime  # noqa: F401


def prepare(spec: NodeSpec, directory: Path, log: Path) -> None:
    """The node's own directory, owned by whom it runs as, without what the node before left.

    The log is there from the start, and goes on where that of the node before ended. It is not in
    that directory, where a node could put a link to another file in its place.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    log.parent.mkdir(mode=0o700, exist_ok=True)
    log.touch(mode=0o600)
    if spec.program is not None and spec.program.user is not None:
        with suppress(LookupError):  # the child says so
            found = user.find(spec.program.user)
            os.chown(directory, found.uid, found.gid)
    if spec.config is not None:
        if spec.config.run_as is not None:
            os.chown(directory, *spec.config.run_as)
        for name in (spec.config.control_path, spec.config.stats_path):
            if name is not None:
                (directory / name).unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Forked:
    """A child: `pidfd` and `events`, where it says how it is, are the launcher's to close."""

    pid: int
    pidfd: int
    events: int


def copy_root() -> int | None:
    """A root for all agents to share, or None: each then tries to have its own, and says why not.

    A copy has an entry for each mount, also for the one by which each node's namespace is named. If
    every agent made its own, that would grow with the square of the nodes.
    """
    try:
        return mounttree.copy()
    except OSError:
        return None


def fork(spec: NodeSpec, directory: Path, log: Path, *, lifeline: int, root: int | None) -> Forked:
    """A child that becomes the node. OSError where there is none; nothing is left of it then."""
    own_pid = os.getpid()
    events, events_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        # No signal may meet the child while it still has our handlers.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        try:
            pid = os.fork()
            if pid == 0:
                _become(
                    lambda: _run(
                        spec,
                        directory,
                        log,
                        events=events_end,
                        lifeline=lifeline,
                        root=root,
                        launcher=own_pid,
                    )
                )
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:  # no descriptor left: nobody could watch it
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
    except BaseException:
        os.close(events)
        raise
    finally:
        os.close(events_end)
    return Forked(pid=pid, pidfd=pidfd, events=events)


def _become(run: Callable[[], int]) -> NoReturn:
    """Turn this just forked child into what `run` is; never returns, whatever happens."""
    status = _EXIT_NOT_STARTED
    try:
        status = run()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _run(
    spec: NodeSpec,
    directory: Path,
    log: Path,
    *,
    events: int,
    lifeline: int,
    root: int | None,
    launcher: int,
) -> int:
    os.setsid()
    said = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    kept = {0: null, 1: said, 2: said, EVENTS_FD: events, _LIFELINE_FD: lifeline}
    if spec.config is not None and root is not None:
        kept[_ROOT_FD] = root
    _keep(kept)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    netns.enter(spec.netns)
    os.chdir(directory)
    if spec.cpus is not None:
        os.sched_setaffinity(0, spec.cpus)
    follow(_LIFELINE_FD, launcher)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    if spec.program is not None:
        return _execute(spec.name, spec.program, launcher)
    assert spec.config is not None
    from agent.runtime import run_agent

    root_fd = None if root is None else _ROOT_FD
    return run_agent(replace(spec.config, event_fd=EVENTS_FD, root_fd=root_fd))


def _keep(wanted: dict[int, int]) -> None:
    """Leave open exactly these descriptors, under the numbers that are the keys."""
    first_free = max(wanted) + 1
    # Out of the way first: a number that is wanted may be the one of another that is.
    aside = {
        number: fcntl.fcntl(descriptor, fcntl.F_DUPFD, first_free)
        for number, descriptor in wanted.items()
    }
    for number, descriptor in aside.items():
        os.dup2(descriptor, number, inheritable=number <= 2)
    os.closerange(first_free, os.sysconf("SC_OPEN_MAX"))


def follow(lifeline: int, launcher: int) -> None:
    """Get SIGTERM when the launcher dies, whatever it dies of.

    The kernel's own parent-death signal is forgotten when a process changes its user (prctl(2)), as
    an agent does. So the end of a pipe that only the launcher holds tells it a second time, by
    signal (F_SETSIG, fcntl(2)); its descriptor must be one of our own, because its owner is a
    property of what was opened.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    own = os.open(f"/proc/self/fd/{lifeline}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.dup2(own, lifeline, inheritable=False)
    os.close(own)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, _F_SETSIG, int(signal.SIGTERM))
    fcntl.fcntl(lifeline, fcntl.F_SETFL, os.O_RDONLY | os.O_NONBLOCK | os.O_ASYNC)
    if os.getppid() != launcher:
        raise SystemExit(_EXIT_NOT_STARTED)


def _execute(name: str, program: Program, launcher: int) -> int:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, programs expect it
    environment = {**os.environ, **program.env, NODE_VARIABLE: name}
    try:
        if program.user is not None:
            user.become(user.find(program.user))
        # Forgotten with a change of user; and the program ends at a signal of its own.
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal.Signals[program.stop]), 0, 0, 0)
        if os.getppid() != launcher:
            return _EXIT_NOT_STARTED
        os.execvpe(program.argv[0], program.argv, environment)
    except (LookupError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        message = f"{program.argv[0]}: {why}"
        print(message, file=sys.stderr)
        os.write(EVENTS_FD, json.dumps({"event": "failed", "error": message}).encode() + b"\n")
        return 127 if isinstance(error, FileNotFoundError) else 126
