"""The ledger of a trial: offered = delivered + every loss by place and cause, and what is left.

Pure arithmetic over counts that others have read. What no counter explains is `unexplained`; it is
printed, never spread over the other lines. Must not know how anything was counted or offered.

**No loss may be counted twice.** One frame that a veth end does not take shows in three places:
the sending program gets ENOBUFS, the sender's interface counts `tx_dropped`, the receiver's
`rx_dropped` (`testbed.measure.places.LinkCounts`). Here it is counted once:

- a frame that the generator was refused was never offered; so refusals are taken off the
  `tx_dropped` of the interface it sends on, and stand aside;
- `tx_dropped` is the line for all others;
- `rx_dropped` counts only beyond the `tx_dropped` of the other end: what arrived and nobody took;
- what a node itself counts as a send that failed is taken off, because its interface has it;
- the backlog of a CPU (softnet) is never a line: its drops are in `tx_dropped` already, or belong
  to somebody else on the machine. It is told aside;
- a frame that left as the tail of another one is counted by the node that sent it so, and by the
  sink, which sees no more of a tail than its buffer holds. The node's count is the line, where
  there is one, and the sink's stands aside.

A TAP is different: a full queue to the node is `tx_dropped` of the TAP and nobody is told, so the
frame counts as offered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from testbed.measure.places import LinkCounts, NamespaceCounts

NODE_PROTOCOL: Final = 0x3030

SEEN_BY_LINK: Final[frozenset[str]] = frozenset({"send_failed", "send-failed"})
"""Causes under which a node counts sends that the kernel refused, which the link counts too."""
NO_LOSS: Final[frozenset[str]] = frozenset({"overheard", "padding", "ignored"})
"""Causes under which a node counts what it rightly does not act upon: no frame of the trial."""

ON_A_TAIL: Final = "hanging on another frame's tail"
"""Cause under which a sink counts test frames that it found behind another one, in one frame."""
PUT_ON_A_TAIL: Final[frozenset[str]] = frozenset({"swallowed", "wire_swallowed", "tap_swallowed"})
"""Causes under which a node counts frames that it sent so."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """So many frames ended at this place for this cause."""

    place: str
    cause: str
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Ledger:
    """A ledger that is closed as far as it can be.

    `offered` and `delivered` are copies: one for each receiver that a frame was meant for. `aside`
    are counts that belong to the story and not to the sum. `node_told` is False as long as nobody
    has said what the node itself dropped.
    """

    offered: int
    delivered: int
    lines: tuple[Line, ...]
    aside: tuple[Line, ...] = ()
    node_told: bool = False

    @property
    def lost(self) -> int:
        """Copies offered and not delivered."""
        return self.offered - self.delivered

    @property
    def explained(self) -> int:
        """Copies that a line accounts for."""
        return sum(line.count for line in self.lines)

    @property
    def unexplained(self) -> int:
        """What is left; below zero if more was counted as lost than is missing."""
        return self.lost - self.explained

    def with_node(
        self, place: str, drops: Mapping[str, int], *, seen_by_link: Iterable[str] = SEEN_BY_LINK
    ) -> Ledger:
        """The same with what a node counted as dropped during the trial, by cause.

        Causes in `seen_by_link` are told aside: the link's counters have those frames. So are
        those in `NO_LOSS`, and what the sink found of the frames in `PUT_ON_A_TAIL`.
        """
        aside = {*seen_by_link, *NO_LOSS}
        told = [
            Line(place=place, cause=cause, count=count)
            for cause, count in sorted(drops.items())
            if count
        ]
        if any(line.cause in PUT_ON_A_TAIL for line in told):
            aside.add(ON_A_TAIL)
        lines = [*self.lines, *told]
        return replace(
            self,
            lines=tuple(line for line in lines if line.cause not in aside),
            aside=(*self.aside, *(line for line in lines if line.cause in aside)),
            node_told=True,
        )

    def to_json(self) -> dict[str, object]:
        """A value that JSON can hold."""
        return {
            "offered": self.offered,
            "delivered": self.delivered,
            "lost": self.lost,
            "lines": [_line_json(line) for line in self.lines],
            "aside": [_line_json(line) for line in self.aside],
            "node_told": self.node_told,
            "unexplained": self.unexplained,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class WireEnd:
    """A radio or port: its counters over the trial, and the far end's if that is known.

    `refused` sends there are not part of the ledger, because they were never offered.
    """

    place: str
    counts: LinkCounts
    far: LinkCounts | None = None
    refused: int = 0
    socket_drops: int = 0
    """Frames that did not fit the buffer of the node's socket here."""


def wire_lines(end: WireEnd) -> list[Line]:
    """What was lost at a wire end: not taken by the far end, wanted by nobody here, no buffer."""
    sent_by_far = 0 if end.far is None else end.far.tx_dropped
    return _lines(
        end.place,
        {
            "not taken by the other end": max(0, end.counts.tx_dropped - end.refused),
            "nobody listening": max(0, end.counts.rx_dropped - sent_by_far),
            "error": end.counts.rx_errors + end.counts.tx_errors,
            "socket buffer full": end.socket_drops,
        },
    )


def tap_lines(place: str, counts: LinkCounts, *, refused: int = 0) -> list[Line]:
    """What was lost at a TAP; `refused` sends there had found its queue full already.

    Where a sender bypasses the queueing discipline the full queue is told to it as well; it is in
    `tx_dropped` either way and counted once.
    """
    return _lines(
        place,
        {
            "queue to the node full": max(counts.tx_dropped, refused),
            "not taken by the stack": counts.rx_dropped,
            "error": counts.rx_errors + counts.tx_errors,
        },
    )


def times(lines: Sequence[Line], copies: int) -> list[Line]:
    """The same losses where every frame stands for `copies` deliveries."""
    return [replace(line, count=line.count * copies) for line in lines]


def link_change(now: NamespaceCounts, before: NamespaceCounts, ifname: str) -> LinkCounts:
    """What an interface counted in between; all of it if it was not there before.

    :raises KeyError: it is not there now.
    """
    earlier = before.links.get(ifname)
    return now.links[ifname] if earlier is None else now.links[ifname].since(earlier)


def lines_of(place: str, counts: Mapping[str, int]) -> tuple[Line, ...]:
    """Lines for counts by cause, without those that are zero."""
    return tuple(_lines(place, counts))


def _lines(place: str, counts: Mapping[str, int]) -> list[Line]:
    return [Line(place=place, cause=cause, count=count) for cause, count in counts.items() if count]


def _line_json(line: Line) -> dict[str, object]:
    return {"place": line.place, "cause": line.cause, "count": line.count}
