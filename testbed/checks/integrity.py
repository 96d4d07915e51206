"""Whether frames of every size arrive as they were sent, on every way through a cell.

Frames go in bursts, so that a node that works in batches has batches before it. Must not know how
the nodes came to be there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from testbed.checks import numbered
from testbed.checks.site import Seen, Site
from testbed.results import CheckSize

_BURST: Final = 8
_PATIENCE_S: Final = 0.12
_MORE_PATIENCE_S: Final = 0.4
"""What is sent again has time enough on a busy machine too."""
_HOPELESS: Final = 3
"""After so many bursts of which something was damaged or lost, the other sizes are not tried."""
_WORDS: Final = ("tailed", "truncated", "damaged")


@dataclass(slots=True)
class _Fate:
    """What became of the frames of one size."""

    sent: int = 0
    delivered: int = 0
    wrong: Counter[str] = field(default_factory=Counter)

    @property
    def good(self) -> bool:
        return bool(self.sent) and self.delivered == self.sent and not self.wrong


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrived:
    """What became of frames by size, what is wrong (None: nothing), and the air of that."""

    sizes: list[CheckSize]
    why: str | None
    aired: list[Seen]


def sizes_of(mtu: int, *, quick: bool) -> tuple[int, ...]:
    """Inner frame sizes from 60 bytes to the longest that a TAP of that MTU takes.

    Every one; or, quick, the ends and what lies around multiples of 128.
    """
    last = mtu + numbered.ETHERNET_BYTES
    every = range(numbered.SHORTEST, last + 1)
    if not quick:
        return tuple(every)
    near_ends = {*range(every[0], every[0] + 8), *range(last - 7, last + 1)}
    return tuple(size for size in every if size in near_ends or (size + 1) % 128 <= 2)


def check_way(site: Site, source: str, destination: str, sizes: Sequence[int]) -> Arrived:
    """Send a frame of every size from one node's TAP to another's.

    A burst of which something is missing is sent once more: an OBU may change its upstream. What
    arrived damaged stays damaged.
    """
    # The destination speaks first, so that the RSU knows where it is.
    number, frame = site.frame(destination, source, numbered.SHORTEST)
    site.exchange([(destination, frame)], [(source, number)], patience_s=_PATIENCE_S)
    fates = {size: _Fate() for size in sizes}
    hopeless = 0
    aired: list[Seen] = []
    for burst in _bursts(sizes):
        said = _burst(site, source, destination, burst, fates, patience_s=_PATIENCE_S)
        if said is not None and not any(fates[size].wrong for size in burst):
            for size in burst:
                fates[size] = _Fate()
            said = _burst(site, source, destination, burst, fates, patience_s=_MORE_PATIENCE_S)
        if said is not None:
            aired += said
            hopeless += 1
            if hopeless == _HOPELESS:
                break
    way = f"{source} → {destination}"
    return Arrived(
        sizes=list(_merged(way, fates)),
        why=_why(way, fates),
        aired=aired,
    )


def _burst(
    site: Site,
    source: str,
    destination: str,
    burst: Sequence[int],
    fates: dict[int, _Fate],
    *,
    patience_s: float,
) -> list[Seen] | None:
    """Send one burst; None if all of it arrived as it was sent, else what the air showed."""
    sizes: dict[int, int] = {}
    sends = []
    for size in burst:
        number, frame = site.frame(source, destination, size)
        sizes[number] = size
        sends.append((source, frame))
        fates[size].sent += 1
    heard = site.exchange(sends, [(destination, number) for number in sizes], patience_s=patience_s)
    got: set[int] = set()
    for arrival in heard.arrived:
        number = numbered.number_of(arrival.frame)
        if arrival.node != destination or number not in sizes:
            continue
        wrong = numbered.damage(arrival.frame)
        if wrong is not None:
            fates[sizes[number]].wrong[wrong] += 1
        elif number not in got:
            got.add(number)
            fates[sizes[number]].delivered += 1
    if all(fates[size].good for size in burst):
        return None
    return heard.aired


def _bursts(sizes: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(sizes), _BURST):
        yield sizes[start : start + _BURST]


def _merged(way: str, fates: dict[int, _Fate]) -> Iterator[CheckSize]:
    """Sizes that were tried, neighbours of which all arrived as they were sent in one entry."""
    run: list[int] = []
    for size, fate in fates.items():
        if fate.good:
            run.append(size)
            continue
        yield from _run(way, run)
        run = []
        if fate.sent:
            yield CheckSize(
                way=way,
                frame_bytes=size,
                last_bytes=size,
                sent=fate.sent,
                delivered=fate.delivered,
                tailed=fate.wrong["tailed"],
                truncated=fate.wrong["truncated"],
                damaged=fate.wrong["damaged"],
            )
    yield from _run(way, run)


def _run(way: str, run: Sequence[int]) -> Iterator[CheckSize]:
    if run:
        yield CheckSize(
            way=way, frame_bytes=run[0], last_bytes=run[-1], sent=len(run), delivered=len(run)
        )


def _why(way: str, fates: dict[int, _Fate]) -> str | None:
    tried = {size: fate for size, fate in fates.items() if fate.sent}
    bad = [size for size, fate in tried.items() if not fate.good]
    if not bad:
        return None
    wrong = sum((fate.wrong for fate in tried.values()), Counter[str]())
    lost = sum(fate.sent - fate.delivered for fate in tried.values())
    said = [f"{wrong[word]} arrived {word}" for word in _WORDS if wrong[word]]
    if lost:
        said.append(f"{lost} did not arrive whole")
    untried = f", {left} more not tried" if (left := len(fates) - len(tried)) else ""
    return f"{way}: {' and '.join(said)} of {len(tried)} sizes{untried}"
