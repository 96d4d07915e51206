"""What a command inside a container needs to know of outside: its end, what to record, what to say.

The engine closes standard input when its one client leaves, however it leaves; before that, the
client may write there that it shall end. Must not know what
runs here, only that SIGTERM ends it in good order; nor any engine.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
from pathlib import Path
from typing import Final

LIFELINE_VARIABLE: Final = "TESTBED_LIFELINE"
"""Set to `stdin` by whoever holds the other end."""
NOTES_VARIABLE: Final = "TESTBED_CONTAINER"
"""What this is a container of and what it had to do without, a line each."""
RESULTS: Final = "/testbed-results"
"""The directory of the results inside: of no image, so that only what was written comes out."""
SHOWN_VARIABLE: Final = "TESTBED_SHOWN"
"""What that directory is called for whoever asked for it."""


def notes() -> list[str]:
    """What a result should say about the container that it was measured in."""
    return os.environ.get(NOTES_VARIABLE, "").splitlines()


def is_contained() -> bool:
    """Whether this is a container that somebody outside waits for, and takes away afterwards."""
    return NOTES_VARIABLE in os.environ


def shown(directory: Path) -> Path:
    """How a message calls the directory of the results: as it is called where they end up."""
    called = os.environ.get(SHOWN_VARIABLE)
    return Path(called) if called and directory == Path(RESULTS) else directory


def hold() -> None:
    """If asked to by the environment, get SIGTERM as soon as standard input ends or says anything.

    The kernel sends it (fcntl(2), F_SETSIG), so that neither a thread nor a loop is at work beside
    a measurement. Processes that are started meanwhile are not asked again.
    """
    if os.environ.pop(LIFELINE_VARIABLE, None) != "stdin":
        return
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETSIG, signal.SIGTERM)
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    # What came before it was asked for is not told any more.
    if select.select([0], [], [], 0)[0]:
        os.kill(os.getpid(), signal.SIGTERM)
