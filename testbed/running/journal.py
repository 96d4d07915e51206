"""The journal of a testbed: one line for everything made, written before it is made.

Lines are only ever appended, each with one write, so that whatever dies leaves a journal that tells
what may be there. A line that was cut short by a crash announces something that was never begun.
Must not know how anything is made or removed.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from testbed.errors import TestbedError
from testbed.kernel.netns import namespace_name
from testbed.kernel.operations import MakeNamespace
from testbed.running.plan import Operation, operation_from_json, operation_to_json

FORMAT: Final = 1


class JournalError(TestbedError):
    """The journal cannot be read by this version, or not be written."""


class Damaged(JournalError):
    """Somebody has changed the journal: what it says cannot be relied on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """The first line: which testbed, since when, and the `nonce` that marks what is its own."""

    testbed: str
    nonce: str
    boot: str
    made_ns: int

    @property
    def of_this_boot(self) -> bool:
        """Whether anything of it can still be in the kernel."""
        return self.boot == boot_id()


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One operation that was begun: with `done` False it may have been cut short anywhere.

    `inode` is that of the namespace, where the operation makes one.
    """

    operation: Operation
    done: bool
    inode: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """What a journal says is there: entries by key, in the order in which they were made."""

    header: Header
    entries: Mapping[str, Entry]

    @property
    def operations(self) -> dict[str, Operation]:
        """The operations alone."""
        return {key: entry.operation for key, entry in self.entries.items()}

    @property
    def unfinished(self) -> set[str]:
        """The keys of what was begun and never said to be done."""
        return {key for key, entry in self.entries.items() if not entry.done}


def boot_id() -> str:
    """A text that is different after every boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Journal:
    """An open journal, to be written by the one command that holds the testbed's lock."""

    def __init__(self, path: Path) -> None:
        """Open the journal at `path` for more lines."""
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            # What a crash cut short must not run into the next line.
            os.write(self._descriptor, b"\n")

    @classmethod
    def begin_new(cls, path: Path, testbed: str) -> Journal:
        """A new journal with its header, and a nonce of its own in it."""
        header = Header(
            testbed=testbed,
            nonce=secrets.token_hex(8),
            boot=boot_id(),
            made_ns=time.time_ns(),
        )
        journal = cls(path)
        journal._write(
            {
                "format": FORMAT,
                "testbed": header.testbed,
                "nonce": header.nonce,
                "boot": header.boot,
                "made_ns": header.made_ns,
            }
        )
        return journal

    def _write(self, line: Mapping[str, Any]) -> None:
        text = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        try:
            written = os.write(self._descriptor, text)
        except OSError as error:
            raise JournalError(f"{self._path}: cannot write: {error.strerror}") from error
        if written < len(text):
            # The end of a disk: what is not wholly written down must not be made.
            raise JournalError(f"{self._path}: cannot write: {os.strerror(errno.ENOSPC)}")

    def begin(self, operation: Operation, *, inode: int | None = None) -> None:
        """The operation is going to be done now."""
        line: dict[str, Any] = {"begin": operation_to_json(operation)}
        if inode is not None:
            line["inode"] = inode
        self._write(line)

    def done(self, *keys: str) -> None:
        """What was begun under these keys is there."""
        self._write({"done": keys})

    def undone(self, *keys: str) -> None:
        """What was begun under these keys is gone."""
        self._write({"undone": keys})

    def close(self) -> None:
        """No more lines."""
        os.close(self._descriptor)


def read(path: Path) -> State | None:
    """What the journal says; None if there is none, or not even its header was written.

    :raises Damaged: lines that no version of this writes.
    :raises JournalError: another format.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    lines: list[dict[str, Any]] = []
    for number, text in enumerate(data.split(b"\n"), start=1):
        try:
            line = json.loads(text) if text else None
        except ValueError:
            continue  # cut short: see above
        except RecursionError:
            raise _damaged(f"{path}:{number}", "brackets without end") from None
        if line is not None:
            if not isinstance(line, dict):
                raise _damaged(f"{path}:{number}", "no line of a journal")
            lines.append(line)
    if not lines:
        return None
    known = lines[0].get("format")
    if not isinstance(known, int):
        raise _damaged(str(path), "its first line is not there")
    if known != FORMAT:
        raise JournalError(
            f"{path}: format {known}, this version reads {FORMAT}; "
            "take the testbed down with the version that made it"
        )
    try:
        return _replay(lines)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(str(path), f"no line that this version writes ({error!r})") from error


def _damaged(place: str, what: str) -> Damaged:
    return Damaged(f"{place}: {what}; `testbed down` removes what is there all the same")


def _replay(lines: list[dict[str, Any]]) -> State:
    header = Header(**{name: lines[0][name] for name in Header.__slots__})
    entries: dict[str, Entry] = {}
    for line in lines[1:]:
        if "begin" in line:
            operation = operation_from_json(line["begin"])
            if isinstance(operation, MakeNamespace):
                _require_own(operation.netns, header.testbed)
            before = entries.pop(operation.key, None)
            inode = line.get("inode", before.inode if before is not None else None)
            entries[operation.key] = Entry(operation=operation, done=False, inode=inode)
        for key in line.get("done", ()):
            entry = entries[key]
            entries[key] = Entry(operation=entry.operation, done=True, inode=entry.inode)
        for key in line.get("undone", ()):
            entries.pop(key, None)
    return State(header=header, entries=entries)


def _require_own(name: str, testbed: str) -> None:
    """A namespace of another name is none that this testbed can have made."""
    if not name.startswith(namespace_name(testbed, "")) or "/" in name:
        raise ValueError(f"not a namespace of {testbed}: {name}")
