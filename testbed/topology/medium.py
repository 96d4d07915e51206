"""Who hears whom, as interfaces: which nodes share a plain cable, which are ports of the medium.

Two nodes that hear only each other are a veth pair, so that nothing stands between them that a
measurement would pay for. Every other node has a port in the medium's namespace, where each frame
is mirrored to exactly the ports of its neighbours. Pure. Must not know the kernel or agents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Medium:
    """Where each node's radio goes: `cables` between two, `ports` with the names that hear them.

    Both in the order of the nodes; the listeners of a port sorted by name.
    """

    cables: tuple[tuple[str, str], ...]
    ports: Mapping[str, tuple[str, ...]]


def arrange(neighbours: Mapping[str, frozenset[str]], *, cables: bool = True) -> Medium:
    """The medium for that adjacency, which is symmetric: a hears b when b hears a.

    With `cables` False every node is a port, so that anybody's hearing can change while running.
    """
    pairs: list[tuple[str, str]] = []
    ports: dict[str, tuple[str, ...]] = {}
    for name, heard_by in neighbours.items():
        if cables and len(heard_by) == 1:
            (other,) = heard_by
            if neighbours[other] == {name}:
                if (other, name) not in pairs:
                    pairs.append((name, other))
                continue
        ports[name] = tuple(sorted(heard_by))
    return Medium(cables=tuple(pairs), ports=ports)


def number_ports(names: tuple[str, ...], kept: Mapping[str, int]) -> dict[str, int]:
    """A port number for each name: the one it has in `kept`, else the lowest that is free.

    A port that stays keeps its number, whoever comes or goes beside it.
    """
    numbers = {name: kept[name] for name in names if name in kept}
    taken = set(numbers.values())
    free = 0
    for name in names:
        if name in numbers:
            continue
        while free in taken:
            free += 1
        numbers[name] = free
        taken.add(free)
    return {name: numbers[name] for name in names}
