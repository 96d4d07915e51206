"""Being asked to stop: once undoes what was begun, twice asks for patience, a third time gives up.

Must not know what there is to undo: whoever makes something undoes it when the exception passes.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

from testbed.interrupts import Terminated


class StopSignals:
    """SIGINT, SIGTERM and SIGHUP as exceptions, raised where the program happens to be."""

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
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def exit_code(stop: BaseException | None) -> int:
    """The status of a process that ended with this exception: 128 + the signal, as shells say."""
    return 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)
