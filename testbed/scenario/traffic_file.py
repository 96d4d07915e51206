"""What a scenario file says of the traffic: load levels, frame sizes, flows.

Must not know who sends it where.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from testbed.files.fields import JsonSchema, Whole, refuse
from testbed.files.validation import Strict
from testbed.scenario.markers import BURST, FRAME, NAME, PACED, RATE


class LoadBody(Strict):
    """One load level: a rate alone, or a rate and how it comes."""

    rate: Annotated[
        float | None, RATE, Field(description="Packets per second, or max.", examples=["50kpps"])
    ] = None
    steps: Annotated[
        list[Annotated[float, PACED]] | None,
        Field(
            description="Instead of a rate: rates that follow each other within a trial, for equal "
            "times. Latency is told for each.",
            examples=[["5kpps", "50kpps", "5kpps"]],
            json_schema_extra={"minItems": 2},
        ),
    ] = None
    burst: Annotated[
        int,
        BURST,
        Field(
            description="How many packets are due together, at the same mean rate; 1 is smooth.",
            json_schema_extra={"default": 1},
        ),
    ] = 1

    @model_validator(mode="before")
    @classmethod
    def _from_rate(cls, value: object) -> object:
        return value if isinstance(value, dict) else {"rate": value}

    @model_validator(mode="after")
    def _rate_or_steps(self) -> LoadBody:
        if (self.rate is None) == (self.steps is None):
            refuse("has a rate and steps" if self.steps else "has no rate", "rate or steps")
        if self.steps is not None and not 2 <= len(self.steps) <= 100:
            refuse("has too few or too many steps", "2 to 100 rates")
        return self

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchema:
        return {"anyOf": [RATE.schema(), handler.resolve_ref_schema(handler(schema))]}


class Traffic(Strict):
    """What the tester sends."""

    loads: Annotated[
        dict[Annotated[str, NAME], LoadBody],
        Field(
            description="Load levels by name; max is as fast as the tester can. A claim about low "
            "load is checked below 1 000 pps, medium up to 10 000 pps, high above.",
            examples=[{"low": "500pps", "high": {"rate": "50kpps", "burst": 16}, "max": "max"}],
            json_schema_extra={"minProperties": 1},
        ),
    ]
    frame_sizes: Annotated[
        list[Annotated[int | Literal["imix"], FRAME]],
        Field(
            description="Sizes in bytes of the inner Ethernet frames, without checksum; imix is "
            "60, 590 and 1450 bytes as 7 : 4 : 1.",
            default_factory=lambda: [256],
            json_schema_extra={"minItems": 1, "default": [256]},
        ),
    ]
    flows: Annotated[
        int, Whole(low=1, high=1000), Field(description="How many flows the packets belong to.")
    ] = 1
