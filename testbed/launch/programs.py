"""One program that is a node, watched from outside: when it is ready, and when it has joined.

An agent says such things by itself; at a program they are looked for, often while it starts and
never once it is ready and has joined, so that a measurement is not disturbed. Must not know other
nodes, nor how a program is started or ended.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from testbed.errors import TestbedError
from testbed.launch.answering import Answering
from testbed.launch.messages import Program
from testbed.launch.readiness import Readiness

_LOOK_EVERY_S: Final = 0.02
_ANSWER_S: Final = 60.0
"""A program that has answered no heartbeat by then is left alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What is new: it is `ready`, or has `failed` to be for that reason; it has `answered`.

    `notes` are for its log.
    """

    ready: bool = False
    failed: str | None = None
    answered: bool = False
    notes: tuple[str, ...] = ()


class ProgramWatch:
    """Watches one program from before its start to its end. Close it.

    Registers a callable without arguments with `selector`, as the launcher's loop expects it.
    """

    def __init__(
        self, program: Program, inside: str, log: Path, selector: selectors.BaseSelector
    ) -> None:
        """`inside` is its namespace, `log` the file that it will print to."""
        self._program = program
        self._selector = selector
        self._begun = time.monotonic()
        self._running = False
        self._look_at = self._begun
        self._news = False
        self.answered: Mapping[str, Any] | None = None
        self._answering: Answering | None = None
        self._readiness: Readiness | None = Readiness(program, inside, log)
        if program.answers_on is not None:
            with suppress(OSError):  # without a radio there is nothing to be heard
                self._answering = Answering(inside, program.answers_on)
                selector.register(self._answering, selectors.EVENT_READ, self._listen)

    def started(self) -> None:
        """The program has taken the place of what started it."""
        self._running = True

    def due(self) -> float | None:
        """When to look next at the latest (time.monotonic()); None if there is no need."""
        if self._running and self._readiness is not None:
            return self._look_at
        return None if self._answering is None else self._begun + _ANSWER_S

    def look(self) -> Seen:
        """What is new."""
        now = time.monotonic()
        if self._answering is not None and now - self._begun > _ANSWER_S:
            self._stop_listening()
        news, self._news = self._news, False
        seen = Seen()
        if self._running and now >= self._look_at:
            self._look_at = now + _LOOK_EVERY_S
            seen = self._look_whether_ready(now)
        return replace(seen, answered=news)

    def close(self) -> None:
        """Watch no longer; twice is fine."""
        if self._readiness is not None:
            self._readiness.close()
            self._readiness = None
        self._stop_listening()

    def _look_whether_ready(self, now: float) -> Seen:
        if self._readiness is None:
            return Seen()
        try:
            missing = self._readiness.missing()
            if missing is None:
                notes = self._readiness.complete_addresses()
                self._readiness.close()
                self._readiness = None
                return Seen(ready=True, notes=tuple(notes))
        except (OSError, TestbedError) as error:
            # A log or a namespace that was removed, or no thread to go there: it may come back.
            missing = f"it cannot be seen: {error}"
        limit_s = self._program.ready_within_s
        if now - self._begun < limit_s:
            return Seen()
        self.close()
        return Seen(failed=f"not ready within {limit_s:g} s: {missing}")

    def _listen(self) -> None:
        if self._answering is not None:
            self.answered = self._answering.look()
            if self.answered is not None:
                self._news = True
                self._stop_listening()

    def _stop_listening(self) -> None:
        if self._answering is not None:
            self._selector.unregister(self._answering)
            self._answering.close()
            self._answering = None
