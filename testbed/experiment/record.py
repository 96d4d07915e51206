"""What a run has made so far: its checks, trials and searches, and what was noted on the way.

Whatever is added is in the journal before it counts here, so a run that is killed loses only the
part at work. Must not know how parts are made, nor in which order.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Self

from testbed.experiment.identity import Header, require_same
from testbed.experiment.runjournal import Past, RunJournal
from testbed.results import Check, Device, Result, Search, Trial


class Record:
    """The record of one run; nothing in it is ever changed or taken out.

    Trials and searches are by their number in the plan, in the order in which they were made.
    `stale` are the testbeds that a run before this one may have left up.
    """

    def __init__(self, journal: RunJournal, past: Past, notes: Iterable[str]) -> None:
        """For `begin` and `take_up`."""
        self._journal = journal
        self._header = past.header
        self._notes = dict.fromkeys([*notes, *past.notes])
        self._devices = {(device.node, device.name): device for device in past.devices}
        self._began = time.monotonic() - past.elapsed_s
        self.checks = list(past.checks)
        self.trials = dict(past.trials)
        self.searches = dict(past.searches)
        self.stale: Sequence[str] = tuple(past.testbeds)

    @classmethod
    def begin(cls, journal: RunJournal, header: Header, *, notes: Iterable[str]) -> Self:
        """That of a new run; the notes need no place in the journal.

        :raises InputError: the journal is that of a run already.
        """
        journal.begin(header)
        return cls(journal, Past(header=header), notes)

    @classmethod
    def take_up(cls, journal: RunJournal, header: Header, *, notes: Iterable[str]) -> Self:
        """That of the run in the journal, which has to be the same as the one of the header.

        :raises InputError: it is not, or there is none.
        """
        past = journal.resume()
        require_same(header, past.header, file=str(journal.path))
        return cls(journal, past, notes)

    @property
    def measured(self) -> bool:
        """Whether there is anything measured."""
        return bool(self.trials or self.searches)

    @property
    def elapsed_s(self) -> float:
        """How long the run has taken; not the time between an interruption and its end."""
        return time.monotonic() - self._began

    def add(self, part: Check | Trial | Search) -> None:
        """This part has ended."""
        self._journal.ended(part, elapsed_s=round(self.elapsed_s, 3))
        match part:
            case Check():
                self.checks.append(part)
            case Trial():
                self.trials[part.id] = part
            case Search():
                self.searches[part.id] = part

    def testbed(self, name: str) -> None:
        """A testbed of that name is going to be made."""
        self._journal.testbed(name)

    def devices(self, found: Iterable[Device]) -> None:
        """These were seen; what was seen of a device first stays."""
        seen = list(found)
        for device in seen:
            self._devices.setdefault((device.node, device.name), device)
        self._journal.devices(seen)

    def note(self, text: str) -> None:
        """Something that could not be done as planned; once is enough."""
        if text not in self._notes:
            self._notes[text] = None
            self._journal.note(text)

    def result(self, *, ended_by: BaseException | None = None) -> Result:
        """What there is so far; `ended_by` is what ended the run before its time."""
        notes = dict(self._notes)
        if isinstance(ended_by, Exception):
            notes[f"the run ended early: {' '.join(str(ended_by).split()[:40])}"] = None
        header = self._header
        devices = list(self._devices.values())
        return Result(
            started=header.started,
            finished=None if ended_by else now(),
            elapsed_s=round(self.elapsed_s, 3),
            interrupted=ended_by is not None,
            seed=header.seed,
            scenario=header.scenario,
            topology=dict(header.topology),
            environment=header.environment.model_copy(update={"devices": devices}),
            checks=self.checks,
            trials=list(self.trials.values()),
            searches=list(self.searches.values()),
            notes=list(notes),
        )


def now() -> str:
    """The time of day as results give it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
