"""The four rings of an AF_XDP socket: counts and elements shared with the kernel.

A ring has one producer and one consumer, each with a count that only it writes. Knows nothing of
what the elements mean. Source: Documentation/networking/af_xdp.rst.
"""

from __future__ import annotations

import numpy as np

from agent.linux.mapping import Mapping


class SharedRing:
    """One of the four rings: `entries` elements between a producer and a consumer count."""

    def __init__(
        self,
        fd: int,
        page_offset: int,
        offsets: np.void,
        dtype: np.dtype[np.void],
        entries: int,
    ) -> None:
        start = int(offsets["desc"])
        self.mapping = Mapping(start + dtype.itemsize * entries, fd=fd, offset=page_offset)
        self.elements = self.mapping.array(dtype, entries, start)
        self.producer = self.mapping.word(int(offsets["producer"]))
        self.consumer = self.mapping.word(int(offsets["consumer"]))
        self.entries = entries
        self.mask = entries - 1

    @property
    def used(self) -> int:
        return (self.producer[0] - self.consumer[0]) & 0xFFFFFFFF

    def publish(self, count: int) -> None:
        self.producer[0] = (self.producer[0] + count) & 0xFFFFFFFF

    def pending(self, count: int) -> tuple[slice, slice]:
        """Where the next `count` elements to consume lie; the second part after the wrap."""
        return self._span(self.consumer[0], count)

    def consume(self, count: int) -> None:
        self.consumer[0] = (self.consumer[0] + count) & 0xFFFFFFFF

    def _span(self, position: int, count: int) -> tuple[slice, slice]:
        start = position & self.mask
        end = start + count
        if end <= self.entries:
            return slice(start, end), slice(0, 0)
        return slice(start, self.entries), slice(0, end - self.entries)
