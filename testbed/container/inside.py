"""What a command inside a container needs to know of outside: its end, and what to record.

The engine closes standard input when its one client leaves, however it leaves. Must not know what
runs here, only that SIGTERM ends it in good order; nor any engine.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
from typing import Final

LIFELINE_VARIABLE: Final = "TESTBED_LIFELINE"
"""Set to `stdin` by whoever holds the other end."""
NOTES_VARIABLE: Final = "TESTBED_CONTAINER"
"""What this is a container of and what it had to do without, a line each."""


def notes() -> list[str]:
    """What a result should say about the container that it was measured in."""
    return os.environ.get(NOTES_VARIABLE, "").splitlines()


def hold() -> None:
    """If asked to by the environment, get SIGTERM as soon as standard input ends.

    The kernel sends it (fcntl(2), F_SETSIG), so that neither a thread nor a loop is at work beside
    a measurement. Processes that are started meanwhile are not asked again.
    """
    if os.environ.pop(LIFELINE_VARIABLE, None) != "stdin":
        return
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETSIG, signal.SIGTERM)
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    # What ended before it was asked for is not told any more.
    if select.select([0], [], [], 0)[0]:
        os.kill(os.getpid(), signal.SIGTERM)
