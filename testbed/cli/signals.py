"""Being asked to stop: once undoes what was begun, twice asks for patience, a third time gives up.

Must not know what there is to undo: whoever makes something undoes it when the exception passes.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType


class Stopped(KeyboardInterrupt):
    """The process was asked to end; `exit_code` is 128 + the signal's number, as shells have it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class StopSignals:
    """Turns SIGINT, SIGTERM and SIGHUP into `Stopped`, raised where the program happens to be."""

    def __init__(self) -> None:
        self._asked = 0

    def install(self) -> None:
        """For this process; programs that it starts get their own behaviour back at exec."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # nohup and shells without job control ignore signals on purpose.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._asked += 1
        if self._asked == 2:
            sys.stderr.write("still undoing; once more to leave everything as it is\n")
            return
        raise Stopped(number)
