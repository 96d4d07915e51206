"""What a scenario file says of the search for lossless rates (NDR, PDR).

Must not know how one is done: `testbed.scenario.model.Searching` says what each value means.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from testbed.files.fields import Choice
from testbed.files.validation import Strict
from testbed.scenario.markers import DURATION, LOSS, NAME, PACED, REPEATS, WIDTH
from testbed.scenario.model import GOALS


class Search(Strict):
    """The pass in which the highest rates without loss, or with little, are searched."""

    goals: Annotated[
        dict[Annotated[str, Choice(words=tuple(GOALS))], Annotated[float, LOSS]] | None,
        Field(
            description="What may be lost: ndr nothing, pdr next to nothing.",
            examples=[{"ndr": "0%", "pdr": "0.5%"}],
            json_schema_extra={"minProperties": 1},
        ),
    ] = None
    trial: Annotated[
        float | None, DURATION, Field(description="Length of the trials that decide.")
    ] = None
    first_trial: Annotated[
        float | None,
        DURATION,
        Field(description="Length of the first trials, far from the rate. As trial, if left out."),
    ] = None
    bound: Annotated[
        float | None,
        DURATION,
        Field(description="How much time of trials stands behind each bound, at least."),
    ] = None
    exceed: Annotated[
        float | None,
        LOSS,
        Field(description="Share of that time in which more may be lost; RFC 2544 allows none."),
    ] = None
    width: Annotated[
        float | None, WIDTH, Field(description="How far the bounds may lie apart.")
    ] = None
    lowest: Annotated[float | None, PACED, Field(description="Where nothing slower is tried.")] = (
        None
    )
    highest: Annotated[float | None, PACED, Field(description="Where nothing faster is tried.")] = (
        None
    )
    longest: Annotated[
        float | None, DURATION, Field(description="When one search ends unfinished.")
    ] = None
    repeats: Annotated[int | None, REPEATS, Field(description="Pairs of searches.")] = None
    measure: Annotated[
        list[Annotated[str, NAME]] | None,
        Field(description="The points that are searched at. All, if left out."),
    ] = None
