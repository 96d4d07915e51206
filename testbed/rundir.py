"""Where a testbed keeps what must outlive the command that made it: one directory of root's each.

Holds the journal, the topology as it was resolved, the launcher's socket and log, a log and a
directory for every node. Must not know what the files say. The base is /run/testbed, or
$TESTBED_RUN_DIR.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from testbed.errors import InputError, TestbedError
from testbed.printable import printable

DEFAULT_BASE: Final = Path("/run/testbed")
BASE_VARIABLE: Final = "TESTBED_RUN_DIR"

_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,31}")
_MADE: Final = ".made"
"""In a base that we made ourselves, so that only such a one is removed with its last testbed."""
_HOLDER: Final = "{:<16}"
"""The process that holds the lock: always as long, so that it takes no more room than before."""
_REMOVING_ROUNDS: Final = 20
"""How often a directory is emptied into which somebody still writes."""
_LONGEST_SOCKET_PATH: Final = 107
"""sockaddr_un holds 108 bytes with the closing zero (unix(7))."""


class Busy(TestbedError):
    """Another command is working on the testbed of that name at this moment."""


@dataclass(frozen=True, slots=True)
class RunDir:
    """The paths of one testbed."""

    path: Path

    @property
    def name(self) -> str:
        """The testbed's name."""
        return self.path.name

    @property
    def journal(self) -> Path:
        """What was made, a line each, written before it was."""
        return self.path / "journal.jsonl"

    @property
    def lock(self) -> Path:
        """Held by the one command that may change the testbed."""
        return self.path / "lock"

    @property
    def topology(self) -> Path:
        """The topology as resolved, JSON."""
        return self.path / "topology.json"

    @property
    def topology_draft(self) -> Path:
        """The topology while it is being written."""
        return self.path / "topology.json.new"

    @property
    def launcher_socket(self) -> Path:
        """Where the launcher listens."""
        return self.path / "launcher.sock"

    @property
    def launcher_log(self) -> Path:
        """What the launcher has to say."""
        return self.path / "launcher.log"

    @property
    def nodes(self) -> Path:
        """A directory for every node is in here."""
        return self.path / "nodes"

    @property
    def logs(self) -> Path:
        """What every node printed is in here."""
        return self.path / "logs"

    def node(self, name: str) -> Path:
        """The node's own directory, in which it starts."""
        return self.nodes / name

    def node_log(self, name: str) -> Path:
        """What the node printed."""
        return self.logs / name

    def control_socket(self, name: str) -> Path:
        """Where the node's agent answers."""
        return self.node(name) / "agent.sock"

    def stats(self, name: str) -> Path:
        """What the node's agent counted, written when it left."""
        return self.node(name) / "stats.json"

    def exists(self) -> bool:
        """Whether there is such a testbed, or what a crashed command left of one."""
        return self.path.is_dir()

    def last_log_line(self, name: str) -> str | None:
        """The last line that the node printed; None if it printed nothing."""
        return last_line(self.node_log(name))


def last_words(line: str | None, *, whose: str = "its log") -> str:
    """How an error goes on with the last line of a log; empty without one."""
    return f"; {whose} ends with: {line}" if line else ""


def last_line(path: Path) -> str | None:
    """The last line of a text file that is not blank, printable; None without one."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return None
    return next((printable(line.strip()) for line in reversed(lines) if line.strip()), None)


def base() -> Path:
    """The directory that holds all run directories.

    :raises InputError: $TESTBED_RUN_DIR is no absolute path, or so long that no socket fits in.
    """
    chosen = os.environ.get(BASE_VARIABLE)
    if not chosen:
        return DEFAULT_BASE
    path = Path(chosen)
    if not path.is_absolute():
        raise InputError(BASE_VARIABLE, value=chosen, expected="an absolute path")
    return Path(os.path.normpath(path))


def run_dir(name: str) -> RunDir:
    """The run directory of the testbed `name`, whether it is there or not.

    :raises InputError: no testbed can have that name, or its paths would be too long.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            "testbed name",
            value=name,
            expected="a letter or digit, then up to 31 letters, digits, - and _",
        )
    found = RunDir(base() / name)
    if len(os.fsencode(found.launcher_socket)) > _LONGEST_SOCKET_PATH:
        raise InputError(
            f"{BASE_VARIABLE} is too long for the sockets in it",
            value=str(found.path.parent),
            expected=f"paths of at most {_LONGEST_SOCKET_PATH} bytes",
        )
    return found


def all_run_dirs() -> list[RunDir]:
    """Every run directory in the base, by name; also those that a crashed command left."""
    try:
        entries = sorted(base().iterdir())
    except FileNotFoundError:
        return []
    return [
        RunDir(entry)
        for entry in entries
        if entry.is_dir() and not entry.is_symlink() and _NAME.fullmatch(entry.name)
    ]


def _require_ours(run: RunDir) -> None:
    """Nobody else can have put there what we are going to believe.

    :raises InputError: others may write to the directory or to the base, or it is a link.
    :raises FileNotFoundError: one of the two is not there.
    """
    # In a base such as /tmp everybody may write, but only the owner of an entry may replace it.
    for path, status, shared in (
        (run.path.parent, run.path.parent.stat(), stat.S_ISVTX),
        (run.path, run.path.lstat(), 0),
    ):
        writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & shared
        ours = status.st_uid in (0, os.geteuid())
        if writable or not ours or not stat.S_ISDIR(status.st_mode):
            raise InputError(
                "others could have made what is in there",
                file=str(path),
                value=f"{stat.filemode(status.st_mode)} of user {status.st_uid}",
                expected="a directory of root's that nobody else may write to",
            )


def _make_base(path: Path) -> None:
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        raise InputError(
            BASE_VARIABLE, value=str(path), expected="a directory, or a new name in one"
        ) from None
    (path / _MADE).touch()


@contextmanager
def locked(run: RunDir, *, create: bool = False) -> Iterator[bool]:
    """Be the only command that works on this testbed while the body runs.

    Gives False, and locks nothing, if the directory is not there and is not to be created.

    :raises Busy: another command is at it.
    """
    descriptor = _lock(run, create=create)
    if descriptor is None:
        yield False
        return
    try:
        yield True
    finally:
        os.close(descriptor)


def _lock(run: RunDir, *, create: bool) -> int | None:
    while True:
        if create:
            _make_base(run.path.parent)
            with suppress(FileNotFoundError):  # the base went away just now: again
                run.path.mkdir(mode=0o700, exist_ok=True)
        try:
            _require_ours(run)
            descriptor = os.open(run.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            if create:
                continue
            return None
        except OSError:
            if create:  # no room for a file: what was made for it goes again
                with suppress(OSError):
                    run.path.rmdir()
                tidy_base(run.path.parent)
            raise
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever removed the testbed removed this file while it held the lock.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(run.lock)):
                    # For others to read; a full disk must not keep a testbed from being removed.
                    with suppress(OSError):
                        os.pwrite(descriptor, _HOLDER.format(os.getpid()).encode(), 0)
                    return descriptor
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip()
            os.close(descriptor)
            raise Busy(
                f"testbed {run.name}: another command is working on it"
                + (f" (process {holder})" if holder else "")
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def remove(run: RunDir) -> list[str]:
    """Remove our files and then the directory, and its base if it is empty and was made by us.

    Call it while holding the lock. What others put there stays, and is returned by path.

    :raises OSError: something of ours could not be removed; the journal is still there.
    """
    for directory in (run.nodes, run.logs):
        if directory.is_dir() and not directory.is_symlink():
            _remove_tree(directory)
    # The journal nearly last: as long as anything is there, it tells whose.
    for path in (
        run.topology,
        run.topology_draft,
        run.launcher_socket,
        run.launcher_log,
        run.journal,
        run.lock,
    ):
        path.unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        left = [str(entry) for entry in run.path.iterdir()]
        if left:
            return left
        run.path.rmdir()
    tidy_base(run.path.parent)
    return []


def _remove_tree(directory: Path) -> None:
    for rest in reversed(range(_REMOVING_ROUNDS)):
        try:
            shutil.rmtree(directory)
        except FileNotFoundError:
            return
        except OSError as error:
            # Of a directory that is removed by descriptor the error names the last part alone.
            if rest == 0:
                raise OSError(error.errno, error.strerror, str(directory)) from error
        else:
            return


def tidy_base(path: Path) -> None:
    """Remove the base if no testbed is left in it and we made it."""
    with suppress(FileNotFoundError):
        made = path / _MADE
        if {entry.name for entry in path.iterdir()} <= {_MADE} and (
            path == DEFAULT_BASE or made.exists()
        ):
            made.unlink(missing_ok=True)
            with suppress(OSError):  # a testbed is just coming up in there
                path.rmdir()
