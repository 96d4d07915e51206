"""How exactly this thread's timers fire, and how often it slept.

Sources: prctl(2), PR_SET_TIMERSLACK; getrusage(2). Must not know what is waited for.
"""

from __future__ import annotations

import ctypes
import os
import resource
from typing import Final

_PR_SET_TIMERSLACK: Final = 29
_PR_GET_TIMERSLACK: Final = 30

_libc = ctypes.CDLL(None, use_errno=True)


def set_slack_ns(slack_ns: int) -> None:
    """Let the kernel put off this thread's timers by no more than that; 50 µs is usual.

    Needs no right. Has no effect on a thread in real-time scheduling, whose timers have none.

    :raises OSError: the kernel refused. :raises ValueError: 0 would mean the usual slack.
    """
    if slack_ns < 1:
        raise ValueError("the least slack is 1 ns")
    if _libc.prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(slack_ns), 0, 0, 0) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"PR_SET_TIMERSLACK: {os.strerror(number)}")


def slack_ns() -> int:
    """The slack of this thread's timers."""
    return int(_libc.prctl(_PR_GET_TIMERSLACK, 0, 0, 0, 0))


def blocked() -> int:
    """How often this thread has given up the CPU to wait for something."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
