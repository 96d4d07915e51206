"""When a node that died is started again: soon, then later and later, and at last no more.

Pure: told how long the node lasted, it says how long to wait. Must not know processes or clocks.
"""

from __future__ import annotations

from typing import Final

FIRST_S: Final = 0.25
LONGEST_S: Final = 30.0
LIMIT: Final = 8
"""So many restarts in a row, over about a minute; then the node stays where it is."""
CALM_S: Final = 60.0
"""A node that lasted so long begins a new row."""


class Restarts:
    """The restarts of one node."""

    def __init__(self) -> None:
        """None yet."""
        self.total = 0
        self.row = 0

    def pause_s(self, lasted_s: float) -> float | None:
        """How long to wait before starting it again, after it lasted `lasted_s`; None: never."""
        if lasted_s >= CALM_S:
            self.row = 0
        if self.row == LIMIT:
            return None
        self.total += 1
        self.row += 1
        return min(FIRST_S * 2.0 ** (self.row - 1), LONGEST_S)
