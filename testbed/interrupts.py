"""Ctrl-C, SIGTERM and SIGHUP, put off to moments at which everything made is written down.

Must not know what is being done meanwhile.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP came: what was being made is undone, as after Ctrl-C."""


class Interrupts:
    """While this is entered, SIGINT, SIGTERM and SIGHUP take effect only in `check` and at its end.

    Does nothing outside the main thread, where no signal handler can be set; nor does it change a
    signal that is ignored.
    """

    def __init__(self) -> None:
        """Nothing is caught before it is entered."""
        self._caught: int | None = None
        self._before: dict[int, Any] = {}
        self._ignoring = False

    def __enter__(self) -> Interrupts:
        """Put signals off from now on."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                before = signal.getsignal(number)
                # None: set by something that is not Python, which could not be set again.
                if before not in (None, signal.SIG_IGN):
                    self._before[number] = before
                    signal.signal(number, self._catch)
        return self

    def _catch(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._caught = number

    def ignore(self) -> None:
        """From now on `check` raises nothing: what is being undone is undone to its end."""
        self._ignoring = True

    def check(self) -> None:
        """Raise KeyboardInterrupt or Terminated if the signal came."""
        if self._ignoring:
            return
        caught, self._caught = self._caught, None
        if caught == signal.SIGINT:
            raise KeyboardInterrupt
        if caught is not None:
            raise Terminated

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Back to how it was; a signal that came last is raised now, unless an error already is."""
        for number, before in self._before.items():
            signal.signal(number, before)
        if kind is None:
            self.check()
