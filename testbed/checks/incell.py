"""Integrity and failover in a cell that becomes a diamond: each needs what the other leaves.

First frames of every size cross the cell. Then the far OBU loses the RSU, and one of the others has
to relay for it; frames of every size go through that relay, which then falls silent too. Must not
know how a frame is checked, nor how nodes were brought up.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from testbed.checks import air
from testbed.checks.failover import FailedOver, Rewire, check_failover
from testbed.checks.ground import FAR, OBUS, RSU
from testbed.checks.integrity import check_way
from testbed.checks.site import Seen, Site
from testbed.results import CheckFailover, CheckSize

_ONE, _TWO, _ = OBUS
_IN_CELL: Final = ((_ONE, RSU), (RSU, _ONE), (_ONE, _TWO))
_BY_RELAY: Final = ((FAR, RSU), (RSU, FAR))
_DIAMOND: Final[Mapping[str, Collection[str]]] = {
    RSU: {_ONE, _TWO},
    _ONE: {RSU, _TWO, FAR},
    _TWO: {RSU, _ONE, FAR},
    FAR: {_ONE, _TWO},
}


class InCell:
    """What was found; `…_why` is what is wrong, None if nothing is."""

    def __init__(self, site: Site, rewire: Rewire, *, within_s: float) -> None:
        self._site = site
        self._rewire = rewire
        self._within_s = within_s
        self.sizes: list[CheckSize] = []
        self._aired: list[Seen] = []
        self.failovers: list[CheckFailover] = []
        self.integrity_s = 0.0
        self.failover_s = 0.0
        self._integrity: list[str] = []
        self._failover: list[str] = []

    @property
    def seen(self) -> list[str]:
        """What the air showed of the frames that did not arrive as they were sent."""
        return air.tails(self._aired)

    @property
    def integrity_why(self) -> str | None:
        return "; ".join(self._integrity) or None

    @property
    def failover_why(self) -> str | None:
        return "; ".join(self._failover) or None

    def go(self, sizes: Sequence[int], *, failover: bool) -> None:
        """Check frames of these sizes, and failover if it is wanted."""
        self._cross(_IN_CELL, sizes)
        lost_rsu = self._fail_over(_DIAMOND)
        relay = next((f.resumed_by for f in lost_rsu.failovers if f.direction == "up"), None)
        if relay is None or lost_rsu.why is not None:
            if sizes:
                self._integrity.append(f"no relay to send frames through: {lost_rsu.why}")
            return
        self._cross(_BY_RELAY, sizes)
        if failover:
            self._fail_over(
                {
                    name: set() if name == relay else set(peers) - {relay}
                    for name, peers in _DIAMOND.items()
                }
            )

    def _cross(self, ways: Sequence[tuple[str, str]], sizes: Sequence[int]) -> None:
        begun = time.monotonic()
        for source, destination in ways if sizes else ():
            found = check_way(self._site, source, destination, sizes)
            self.sizes += found.sizes
            self._aired += found.aired
            if found.why is not None:
                self._integrity.append(found.why)
        self.integrity_s += time.monotonic() - begun

    def _fail_over(self, silence: Mapping[str, Collection[str]]) -> FailedOver:
        begun = time.monotonic()
        found = check_failover(
            self._site, self._rewire, far=FAR, rsu=RSU, silence=silence, within_s=self._within_s
        )
        self.failovers += found.failovers
        if found.why is not None:
            self._failover.append(found.why)
        self.failover_s += time.monotonic() - begun
        return found
