"""How large a batch to ask for, by how full the last ones were.

Pure: numbers in, a number out. Must not know engines, clocks or what a batch holds.
"""

from __future__ import annotations

from typing import Final

ALPHA: Final = 0.1
"""Weight of the newest batch in the moving average."""
GROW_ABOVE: Final = 0.8
SHRINK_BELOW: Final = 0.3


class AdaptiveBatchSize:
    """A batch size that doubles while batches are full and halves while they are mostly empty.

    `size` is how many frames to ask for, `minimum` … `maximum`. `fill` is the exponential moving
    average (α = 0.1) of frames found, as a share of `size`: above 0.8 the size doubles, below 0.3
    it halves. It starts between the two, at `start` frames or else at the minimum.

    A change of size changes what the average is a share of, so it is converted: what was 0.8 of 16
    is 0.4 of 32. Without that one change would bring the next, whatever the traffic. For the same
    reason there is no traffic between the bounds for which the size swings: a size that was
    doubled is at 0.4 or more, one that was halved below 0.6.
    """

    __slots__ = ("fill", "maximum", "minimum", "size")

    def __init__(self, *, minimum: int, maximum: int, start: int | None = None) -> None:
        """ValueError unless 1 ≤ minimum ≤ maximum; `start` is brought within them."""
        if not 1 <= minimum <= maximum:
            raise ValueError(f"batch sizes from {minimum} to {maximum}")
        self.minimum = minimum
        self.maximum = maximum
        self.size = min(max(minimum if start is None else start, minimum), maximum)
        self.fill = (GROW_ABOVE + SHRINK_BELOW) / 2

    def observe(self, frames: int) -> int:
        """A batch held `frames` frames (0 … `size`); the size to ask for next."""
        size = self.size
        fill = self.fill + ALPHA * (frames / size - self.fill)
        if fill > GROW_ABOVE and size < self.maximum:
            self.size = min(2 * size, self.maximum)
            fill *= size / self.size
        elif fill < SHRINK_BELOW and size > self.minimum:
            self.size = max(size // 2, self.minimum)
            fill *= size / self.size
        self.fill = fill
        return self.size
