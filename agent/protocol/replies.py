"""What a node wants sent, and where: on the wire or into its own TAP.

Must not know how it is sent. A reply is *flat* (one buffer, one frame) or in the older *nested*
form (several buffers that make up one frame); whoever sends accepts all four.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class WireFlat:
    """One frame for the radio, Ethernet header first."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class TapFlat:
    """One inner Ethernet frame for the node's own TAP."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class Wire:
    """One frame for the radio, in pieces."""

    buffers: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Tap:
    """One inner Ethernet frame for the node's own TAP, in pieces."""

    buffers: tuple[bytes, ...]


Reply: TypeAlias = WireFlat | TapFlat | Wire | Tap


def flatten(reply: Reply) -> WireFlat | TapFlat:
    """The same frame in one buffer; a flat reply comes back as it is."""
    match reply:
        case Wire(buffers):
            return WireFlat(b"".join(buffers))
        case Tap(buffers):
            return TapFlat(b"".join(buffers))
        case _:
            return reply


class Outgoing:
    """Frames to send, as raw bytes: `wire` for the radio, `tap` for the node's own TAP.

    Nodes append to the lists directly: an object per frame would cost more than its handling.
    """

    __slots__ = ("tap", "wire")

    def __init__(self) -> None:
        self.wire: list[bytes] = []
        self.tap: list[bytes] = []

    def add(self, reply: Reply) -> None:
        """Append the frame of `reply`, flattened; a reply without a byte is no frame."""
        flat = flatten(reply)
        if flat.frame:
            (self.wire if isinstance(flat, WireFlat) else self.tap).append(flat.frame)

    def extend(self, replies: Iterable[Reply]) -> None:
        """`add` each, in order."""
        for reply in replies:
            self.add(reply)

    def replies(self) -> list[Reply]:
        """The same frames as flat replies, those for the wire first."""
        return [*map(WireFlat, self.wire), *map(TapFlat, self.tap)]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Outgoing):
            return NotImplemented
        return self.wire == other.wire and self.tap == other.tap

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"Outgoing(wire={self.wire!r}, tap={self.tap!r})"
