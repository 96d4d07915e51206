"""The part of a scenario file that says what every variant goes through first, as it is written.

Must not know the rest of the file, nor what a check does.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from testbed.files import units
from testbed.files.fields import Choice, Quantity, Text
from testbed.files.validation import Strict
from testbed.scenario.model import CHECKS
from testbed.topology.model import KINDS

TOPOLOGY = Text(
    pattern=r"[^\0]+", expected="a file, or the name of a shipped topology", longest=4096
)
_RESUME = Quantity(
    parse=units.duration_s,
    units=units.DURATION_UNITS,
    expected="a time from 100ms to 60s, such as 3s",
    low=0.1,
    high=60,
)


class ChecksBody(Strict):
    """What every variant goes through before it is measured."""

    which: Annotated[
        list[Annotated[str, Choice(words=CHECKS)]] | None,
        Field(
            description="Which checks: who reaches whom (reachability), group traffic from an RSU "
            "(group), frames of every size (integrity), a neighbour that falls silent (failover). "
            "All, if left out; none, if empty.",
            json_schema_extra={"default": list(CHECKS)},
        ),
    ] = None
    kinds: Annotated[
        list[Annotated[str, Choice(words=KINDS)]] | None,
        Field(
            description="The kinds of nodes that a variant plays. If left out, those of the nodes "
            "under test; both, where nothing is timed.",
            examples=[["obu"]],
        ),
    ] = None
    topology: Annotated[
        str | None,
        TOPOLOGY,
        Field(
            description="Where reachability and group traffic are checked: a topology as above. A "
            "cell of an RSU and three OBUs, if left out, where all else always is.",
            examples=["cell"],
        ),
    ] = None
    resume_within: Annotated[
        float | None,
        _RESUME,
        Field(
            description="How long traffic may pause in a failover. Heartbeats come every 100 ms.",
            json_schema_extra={"default": "3s"},
        ),
    ] = None
