"""What is compared: engines by name, the C floor and the kernel, and the order of their trials.

Pure. An entry is one engine on the relay way, where no TAP takes part, and a pair of engines
(wire/TAP) on the two ways through a TAP. Must not know how a trial is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from testbed.topology.model import NodeSettings, TapEngine, WireEngine
from testbed.traffic.paths import Path

FLOOR: Final = "floor (C)"
KERNEL: Final = "kernel (XDP)"
SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
REFERENCE: Final = 32
"""What has no batch is compared with the floor at this size, or at the next smaller one."""

_SINGLY: Final = "per-packet"
_WIRE: Final = (_SINGLY, "writev", "aggregate", "mmsg", "uring", "ring", "xsk", "xsk-tx")
_PAIRS: Final = (
    (_SINGLY, _SINGLY),
    ("writev", "writev"),
    ("aggregate", "uring"),
    ("mmsg", _SINGLY),
    ("mmsg", "uring"),
    ("uring", "uring"),
    ("ring", "uring"),
    ("xsk", "uring"),
    ("xsk-tx", "uring"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One agent to be measured, or (`wire` None) the floor or the kernel."""

    name: str
    wire: str | None = None
    tap: str = _SINGLY

    @property
    def singly(self) -> bool:
        """Whether it handles frame by frame, so that there is one batch size for it: 1."""
        return self.name == _SINGLY or self.name == f"{_SINGLY}/{_SINGLY}"

    def settings(self, batch: int) -> NodeSettings:
        """The settings of its agent."""
        assert self.wire is not None
        return NodeSettings(
            engine_wire=cast(WireEngine, self.wire),
            engine_tap=cast(TapEngine, self.tap),
            handler="per-packet" if self.singly else "batched",
            batch=batch,
        )


def entries_for(way: Path) -> tuple[Entry, ...]:
    """Every agent that is measured on that way."""
    if way is Path.RELAY:
        return tuple(Entry(name=wire, wire=wire) for wire in _WIRE)
    return tuple(Entry(name=f"{wire}/{tap}", wire=wire, tap=tap) for wire, tap in _PAIRS)


NAMES: Final = (*_WIRE, *(f"{wire}/{tap}" for wire, tap in _PAIRS))
"""Every name that an entry can have."""


def chosen(entries: Sequence[Entry], names: Sequence[str]) -> tuple[Entry, ...]:
    """Those of that name or with that engine on the wire; all where no name is given."""
    return tuple(one for one in entries if not names or one.name in names or one.wire in names)


def unavailable(entry: Entry, found: Mapping[tuple[str, str], str | None]) -> str | None:
    """Why that entry cannot be measured here, by what the agent says of its engines; or None."""
    for side, engine in (("wire", entry.wire), ("tap", entry.tap)):
        why = found.get((engine or "", side), "the agent does not know it")
        if why is not None:
            return f"{engine} on the {side}: {why}"
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """One trial. `pair` is the number of the floor's trial that it is compared with."""

    number: int
    round: int
    way: Path
    entry: Entry
    batch: int | None
    pair: int | None


def plan(
    ways: Mapping[Path, Sequence[Entry]],
    *,
    sizes: Sequence[int],
    rounds: int,
    floor: bool,
    kernel: bool,
) -> tuple[Planned, ...]:
    """All trials in order.

    Two entries and between them the floor at the same batch size, A F B, so that both have it
    next to them and drift of the machine cancels; the other way round in every second round.
    """
    made: list[Planned] = []
    for number in range(rounds):
        turn = -1 if number % 2 else 1
        for way, entries in ways.items():
            for size, row in _by_size(entries, sizes, kernel=kernel)[::turn]:
                ordered = row[::turn]
                for first in range(0, len(ordered), 2):
                    couple = ordered[first : first + 2]
                    trials = [couple[0], Entry(name=FLOOR), *couple[1:]] if floor else couple
                    pair = len(made) + 1 if floor else None
                    made += [
                        Planned(
                            number=len(made) + place,
                            round=number,
                            way=way,
                            entry=one,
                            batch=None if one.name == KERNEL else size,
                            pair=None if one.name == FLOOR else pair,
                        )
                        for place, one in enumerate(trials)
                    ]
    return tuple(made)


def _by_size(
    entries: Sequence[Entry], sizes: Sequence[int], *, kernel: bool
) -> list[tuple[int, list[Entry]]]:
    """What is measured at each batch size, sizes in ascending order."""
    rows = {size: [one for one in entries if not one.singly] for size in sizes}
    rows[1] = [one for one in entries if one.singly] + rows.get(1, [])
    if kernel:
        rows[max((size for size in sizes if size <= REFERENCE), default=min(sizes))].append(
            Entry(name=KERNEL)
        )
    return sorted((size, row) for size, row in rows.items() if row)
