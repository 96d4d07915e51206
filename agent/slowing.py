"""Slows an agent down on purpose, so that whatever measures agents can be tested with a known loss.

For tests alone: never on unless the environment says so, and then the agent says so in its log.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

from agent.config import SLOW_VARIABLE
from agent.errors import ConfigError

MOST_US: Final = 100_000


def slow_ns() -> int:
    """The time in ns that the environment wants wasted for each received frame; 0 is none.

    :raises ConfigError: the variable holds no such time.
    """
    text = os.environ.get(SLOW_VARIABLE, "0")
    try:
        wasted_us = int(text)
    except ValueError:
        wasted_us = -1
    if not 0 <= wasted_us <= MOST_US:
        raise ConfigError(
            f"{SLOW_VARIABLE}: got {text!r}; expected a number of microseconds up to {MOST_US}"
        )
    return wasted_us * 1000


def slowed(take: Callable[[int], int], wasted_ns: int) -> Callable[[int], int]:
    """`take`, which says how many frames it took, followed by so much work for each that is none.

    The CPU is kept busy, as it is by code that is slower than it was; a sleep would cost nothing.
    """

    def take_slowly(now_ns: int) -> int:
        frames = take(now_ns)
        until_ns = time.perf_counter_ns() + frames * wasted_ns
        while time.perf_counter_ns() < until_ns:
            pass
        return frames

    return take_slowly
