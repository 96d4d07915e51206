"""What the launcher notes, in its own log and in those of its nodes: it must never end it.

A disk may be full, a log gone, and a node may do again and again what is noted: nothing is raised
here, and the launcher's log does not grow without end. Must not know what is noted. Imported by the
launcher, whose every import each node carries in memory.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from testbed.printable import printable

_LOG: Final = 2
"""Standard error. Not by way of Python's stream, which keeps what it could not write: it would be
written by every node that is forked meanwhile."""
LONGEST_LOG: Final = 4 << 20
_LONGEST_NOTE: Final = 8192


def note(text: str) -> None:
    """Say something in the launcher's log, if there is room."""
    with suppress(OSError):
        if os.fstat(_LOG).st_size < LONGEST_LOG:
            os.write(_LOG, _encoded(text))


def note_in(log: Path, text: str) -> None:
    """Say something in a node's own log, where whoever wonders about it looks."""
    with suppress(OSError):
        # Not made anew: one that was removed is nobody's to read.
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.write(descriptor, _encoded(text))
        finally:
            os.close(descriptor)


def _encoded(text: str) -> bytes:
    return printable(text[:_LONGEST_NOTE]).encode(errors="backslashreplace") + b"\n"
