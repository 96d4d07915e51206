"""Ends what nodes leave running: of one node that has ended, and of all when the launcher leaves.

What is killed may leave something itself, so it goes on until nothing is found, or for so long that
it never will be. Told when to look; never waits. Must not know how a node ends. Imported by the
launcher, whose every import each node carries in memory.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Final

from testbed.launch import strays
from testbed.launch.strays import Stray

STUBBORN_S: Final = 2.0
"""What a kill has not ended by then hangs in the kernel, or makes itself anew all the time."""
_LOOK_EVERY_S: Final = 0.05
"""Its end is told by a signal; this is for what is adopted a moment later."""
_EVERYBODY: Final = ""
"""No node is called so."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenUp:
    """What could not be ended: of the node `name`, empty for what belongs to none."""

    name: str
    strays: tuple[Stray, ...]

    def __str__(self) -> str:
        which = ", ".join(map(str, self.strays))
        return f"{self.name or 'nodes'} left what could not be ended: process {which}"


class Leftovers:
    """Whose leftovers are being ended now, each for `STUBBORN_S` at most."""

    def __init__(self) -> None:
        """Nobody's."""
        self._networks: dict[str, int | None] = {}
        self._until: dict[str, float] = {}
        self._look_at = 0.0
        self._everybody = False

    def end(self, name: str, network: int | None) -> None:
        """Those of a node that has ended, which was in this network namespace."""
        self._networks[name] = network
        self._until[name] = time.monotonic() + STUBBORN_S

    def end_all(self) -> None:
        """Those of everybody: no node is left, and none will come. More than once is fine."""
        if not self._everybody:
            self._everybody = True
            self.end(_EVERYBODY, None)

    @property
    def over(self) -> bool:
        """Whether those of everybody were to be ended, and no more can be done."""
        return self._everybody and not self.pending(_EVERYBODY)

    def forget(self, name: str) -> None:
        """What is still there of that node belongs to the next of that name."""
        self._networks.pop(name, None)
        self._until.pop(name, None)

    def pending(self, name: str) -> bool:
        """Whether some of these may still be there."""
        return name in self._until

    def due(self) -> float | None:
        """When to call `tend` at the latest (time.monotonic()); None if there is no need."""
        return self._look_at if self._until else None

    def tend(self, known: Container[int], networks: Iterable[int | None]) -> list[GivenUp]:
        """Look for them and kill them; those given up.

        Children in `known` are nodes. `networks` are those of all nodes: a stray in one of them
        belongs to it, one elsewhere to the node that its environment names.
        """
        if not self._until:
            return []
        own = {*networks, *self._networks.values()} - {None}
        now = time.monotonic()
        self._look_at = now + _LOOK_EVERY_S
        there = strays.find(known)
        given_up = []
        for name, until in list(self._until.items()):
            found = [stray for stray in there if self._belongs(stray, name, own)]
            for stray in found:
                stray.kill()
            if found and now >= until:
                given_up.append(GivenUp(name=name, strays=tuple(found)))
            if not found or now >= until:
                self.forget(name)
        return given_up

    def _belongs(self, stray: Stray, name: str, networks: Container[int | None]) -> bool:
        if name == _EVERYBODY:
            return True
        if stray.network in networks:
            return stray.network == self._networks[name]
        return stray.node == name
