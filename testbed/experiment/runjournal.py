"""The journal of a run: what was measured, a line for each part as soon as it has ended.

A part is a check, a trial or a search. A run that was killed goes on from its journal, and no part
that is in there is made again. Lines are only ever appended, each with one write that reaches the
disk before the next part begins; one that was cut short is of a part that has not ended. Must not
know how parts are made, nor in which order.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from testbed.errors import InputError
from testbed.experiment.identity import Header
from testbed.results import Check, Device, Search, Trial

FILE_NAME: Final = "journal.jsonl"
FORMAT: Final = "testbed-run"
VERSION: Final = 1

_RUNNING: Final = "a run is at work in this directory"


@dataclass(kw_only=True, slots=True)
class Past:
    """What a journal tells: the run, its parts in order, and what was noted on the way.

    Trials and searches are by their number in the plan. `testbeds` may still be up.
    """

    header: Header
    checks: list[Check] = field(default_factory=list)
    trials: dict[int, Trial] = field(default_factory=dict)
    searches: dict[int, Search] = field(default_factory=dict)
    testbeds: list[str] = field(default_factory=list)
    devices: list[Device] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    elapsed_s: float = 0.0


class RunJournal:
    """An open journal; no other process has it open."""

    def __init__(self, directory: str | Path) -> None:
        """Open the one in that directory, or begin one there.

        :raises InputError: another run is at work there.
        """
        folder = Path(directory)
        self._made = [one for one in (folder, *folder.parents) if not one.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE_NAME
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(self.path, flags, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise InputError(_RUNNING, file=str(self.path), expected="that it ends first") from None

    def require_new(self) -> None:
        """:raises InputError: there is a run already, which has not come to its end."""
        if os.fstat(self._descriptor).st_size:
            self.close()
            raise InputError(
                "this directory holds a run that has not come to its end",
                file=str(self.path),
                expected="--resume to go on with it, or another directory",
            )

    def begin(self, header: Header) -> None:
        """The first line.

        :raises InputError: there is a run already, which has not come to its end.
        """
        self.require_new()
        self._write({"format": FORMAT, "version": VERSION, **header.to_json()})
        _sync_directory(self.path.parent)

    def resume(self) -> Past:
        """What there is already. What a crash cut short is cut off.

        :raises InputError: there is nothing to go on with, or it is damaged.
        """
        size = os.fstat(self._descriptor).st_size
        data = os.pread(self._descriptor, size, 0)
        whole = data.rfind(b"\n") + 1
        if not whole:
            self.discard()
            raise _nothing(self.path.parent)
        past = _read(data[:whole].splitlines(), str(self.path))
        os.ftruncate(self._descriptor, whole)
        return past

    def ended(self, part: Check | Trial | Search, *, elapsed_s: float) -> None:
        """This part has ended, that long after the beginning of the run."""
        kind = type(part).__name__.lower()
        self._write({"elapsed_s": elapsed_s, kind: part.model_dump(mode="json", by_alias=True)})

    def testbed(self, name: str) -> None:
        """A testbed of that name is going to be made."""
        self._write({"testbed": name})

    def devices(self, devices: Iterable[Device]) -> None:
        """The devices that were seen in it."""
        self._write({"devices": [device.model_dump(mode="json") for device in devices]})

    def note(self, text: str) -> None:
        """Something that could not be done as planned."""
        self._write({"note": text})

    def close(self) -> None:
        """No more lines for now; twice is fine."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def discard(self) -> None:
        """It is not needed any more: the result is written, or there is none."""
        self.path.unlink(missing_ok=True)
        self.close()
        for folder in self._made:
            try:
                folder.rmdir()
            except OSError:
                return

    def is_replaced(self) -> bool:
        """Whether another file is where it was opened."""
        try:
            return not os.path.samestat(os.fstat(self._descriptor), os.stat(self.path))
        except FileNotFoundError:
            return False

    def _write(self, line: Mapping[str, Any]) -> None:
        text = json.dumps(line, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        data = text.encode() + b"\n"
        try:
            if os.write(self._descriptor, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._descriptor)
        except OSError as error:
            error.filename = str(self.path)  # calls on a descriptor do not tell
            raise


@contextmanager
def reserved(directory: str | Path) -> Iterator[None]:
    """The directory is taken by a run that keeps its journal elsewhere until it has ended.

    A journal that is put there meanwhile, since that run could not write a result, stays.

    :raises InputError: another run is at work there, or has not come to its end.
    """
    journal = RunJournal(directory)
    try:
        journal.require_new()
        try:
            yield
        finally:
            if not journal.is_replaced():
                journal.discard()
    finally:
        journal.close()


def past_of(directory: str | Path) -> Past:
    """What the journal in that directory tells, whoever is writing it.

    :raises InputError: there is none, or it is damaged.
    """
    path = Path(directory) / FILE_NAME
    try:
        data = path.read_bytes()
    except OSError:
        raise _nothing(path.parent) from None
    lines = data[: data.rfind(b"\n") + 1].splitlines()
    if not lines:
        raise _nothing(path.parent)
    return _read(lines, str(path))


def _read(lines: list[bytes], file: str) -> Past:
    past: Past | None = None
    for number, text in enumerate(lines, start=1):
        try:
            line = json.loads(text)
            if past is None:
                past = Past(header=_header(line, file))
            elif not _take(past, line):
                raise ValueError("no line of a run")
        except (KeyError, TypeError, ValueError) as error:
            said = " ".join(str(error).split()[:12])
            raise InputError(
                f"the journal is damaged: {said}", file=file, line=number, expected="a whole line"
            ) from None
    assert past is not None
    return past


def _header(line: Mapping[str, Any], file: str) -> Header:
    if line.get("format") != FORMAT:
        raise ValueError("no journal of a run")
    if line.get("version") != VERSION:
        raise InputError(
            "another version has written this journal",
            file=file,
            value=line.get("version"),
            expected=f"{VERSION}, or a new run",
        )
    return Header.from_json(line)


def _take(past: Past, line: Mapping[str, Any]) -> bool:
    """Adds what a line says; False if it says nothing that this version knows."""
    past.elapsed_s = float(line.get("elapsed_s", past.elapsed_s))
    if "trial" in line:
        trial = Trial.model_validate(line["trial"])
        if trial.id in past.trials:
            raise ValueError(f"trial {trial.id} is there twice")
        past.trials[trial.id] = trial
    elif "search" in line:
        search = Search.model_validate(line["search"])
        if search.id in past.searches:
            raise ValueError(f"search {search.id} is there twice")
        past.searches[search.id] = search
    elif "check" in line:
        past.checks.append(Check.model_validate(line["check"]))
    elif "testbed" in line:
        past.testbeds.append(str(line["testbed"]))
    elif "devices" in line:
        past.devices += [Device.model_validate(device) for device in line["devices"]]
    elif "note" in line:
        past.notes.append(str(line["note"]))
    else:
        return False
    return True


def _nothing(folder: Path) -> InputError:
    return InputError(
        "there is no run to go on with",
        file=str(folder),
        expected=f"a directory with the {FILE_NAME} of a run that was interrupted",
    )


def _sync_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
