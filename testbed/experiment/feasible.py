"""Whether a run can work here at all: what it needs is tried out before anything is made.

Asks the doctor for what any run needs, and for what the engines and passes of this one do. Must not
know how anything is tried out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from testbed import doctor
from testbed.errors import Lacking
from testbed.scenario.model import Scenario

_ENGINE_NEEDS: Final[Mapping[str, str]] = {
    "mmsg": "mmsg",
    "writev": "writev",
    "aggregate": "writev",
    "uring": "io-uring",
    "ring": "packet-ring",
    "xsk": "af-xdp",
    "xsk-tx": "af-xdp-sending",
}
"""What the doctor calls that which an engine cannot do without."""

_COUNTING: Final = "syscall-counters"
_SHARING: Final = "real-time"


def needs(scenario: Scenario, *, quick: bool) -> frozenset[str]:
    """The keys of the doctor's checks that a run of the scenario depends on."""
    wanted = {check.key for check in doctor.checks() if "run" in check.needed_by}
    extent = scenario.extent(quick=quick)
    if extent.counting is None:
        wanted.discard(_COUNTING)
    if any(point.node_cpu < 1 for point in scenario.points if point.name in extent.points):
        wanted.add(_SHARING)
    engines = {
        word
        for variant in scenario.variants
        for node in scenario.topology.nodes
        for word in (variant.settings(node).engine_wire, variant.settings(node).engine_tap)
    }
    return frozenset(wanted | {_ENGINE_NEEDS[word] for word in engines if word in _ENGINE_NEEDS})


def require_feasible(scenario: Scenario, *, quick: bool) -> None:
    """Nothing that the run needs is lacking.

    :raises Lacking: names what is, and how to get it.
    """
    wanted = needs(scenario, quick=quick)
    checks = [check for check in doctor.checks() if check.key in wanted]
    absent = [finding for finding in doctor.examine(checks) if not finding.available]
    if absent:
        raise Lacking(
            f"{scenario.name} cannot be run here: "
            + "; ".join(
                f"no {finding.title} ({finding.why_not}): {finding.how_to_get}"
                for finding in absent
            )
        )
