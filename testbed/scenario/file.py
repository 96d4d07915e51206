"""The scenario file as it is written: every key, what it may hold, and what it means.

Must not know where the file is, nor how its parts fit together: `testbed.scenario.loader` resolves
and cross-checks. The JSON Schema that editors use is made of these models.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from testbed import targets
from testbed.files.fields import Blank, Choice, JsonSchema, refuse
from testbed.files.validation import Strict
from testbed.scenario.checks_file import TOPOLOGY, ChecksBody
from testbed.scenario.markers import DURATION, FRAME, NAME, REPEATS, SENTENCE, SHARE, WARM_UP
from testbed.scenario.model import DIRECTIONS, KINDS, PASSES, PATHS
from testbed.scenario.search_file import Search
from testbed.scenario.traffic_file import Traffic
from testbed.topology.settings import Settings

_PATHS = tuple(dict.fromkeys(path for paths in PATHS.values() for path in paths))


class PointBody(Strict):
    """What is measured: one node and the way through it (`node`, `path`), or from node to node."""

    node: Annotated[
        str | None, NAME, Field(description="The node under test.", examples=["obu1"])
    ] = None
    path: Annotated[
        str | None,
        Choice(words=_PATHS),
        Field(
            description="The way of the packets. Through an OBU: relay (upstream, wire to wire), "
            "relay-down, tap-to-wire, wire-to-tap. Through an RSU: tap-to-wire, wire-to-tap, "
            "hairpin (from one OBU to another), group (from the TAP to every OBU)."
        ),
    ] = None
    tester: Annotated[
        str | None,
        NAME,
        Field(
            description="The neighbour whose place the tester takes. The first, if left out.",
            examples=["rsu1"],
        ),
    ] = None
    start: Annotated[
        str | None,
        NAME,
        Field(
            alias="from",
            description="Of a path: the node at whose TAP traffic goes in.",
            examples=["obu3"],
        ),
    ] = None
    to: Annotated[
        str | None,
        NAME,
        Field(description="Of a path: the node at whose TAP it comes out.", examples=["rsu1"]),
    ] = None
    direction: Annotated[
        str | None,
        Choice(words=DIRECTIONS),
        Field(
            description="Of a path: forth (as it says), back, or both at once.",
            json_schema_extra={"default": "forth"},
        ),
    ] = None
    nodes: Annotated[
        list[Annotated[str, NAME]] | None,
        Field(
            description="Of a path: the nodes that get the variants' settings and whose cost is "
            "counted. All, if left out."
        ),
    ] = None
    node_cpu: Annotated[
        float,
        SHARE,
        Field(
            description="How much of their CPU the nodes have: less makes them the limit where the "
            "tester would be, as a slower processor does.",
            examples=["25%"],
            json_schema_extra={"default": "100%"},
        ),
    ] = 1.0
    loads: Annotated[
        list[Annotated[str, NAME]] | None,
        Field(description="The loads that it is measured at. All, if left out."),
    ] = None


class Only(Strict):
    """Where a variant takes part."""

    passes: Annotated[
        list[Annotated[str, Choice(words=PASSES)]] | None,
        Field(description="In these passes. All, if left out."),
    ] = None
    loads: Annotated[
        list[Annotated[str, NAME]] | None,
        Field(description="At these loads. All, if left out."),
    ] = None


class VariantBody(Settings):
    """One of the things that are compared: node settings over those of the topology."""

    baseline: Annotated[
        bool, Field(description="Whether the others are compared with this one. Exactly one is.")
    ] = False
    like: Annotated[
        str | None, NAME, Field(description="The variant whose settings this one starts from.")
    ] = None
    sweep: Annotated[
        dict[str, list[Any]],
        Blank(empty=dict),
        Field(
            description="One variant for each value of a setting, or each combination of values.",
            examples=[{"batch": [1, 8, 16]}],
            default_factory=dict,
        ),
    ]
    only: Annotated[Only, Blank(empty=dict), Field(description="Where it takes part.")] = Only()


class Trials(Strict):
    """How long a timing trial lasts, at every load or by load."""

    everywhere: Annotated[float | None, DURATION] = None
    by_load: dict[Annotated[str, NAME], Annotated[float, DURATION]] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _wrap(cls, value: object) -> object:
        if value == {}:
            refuse("is empty", "a time, or a time for each load")
        return {"by_load": value} if isinstance(value, dict) else {"everywhere": value}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchema:
        duration = DURATION.schema()
        return {"anyOf": [duration, {"type": "object", "additionalProperties": duration}]}


class Counting(Strict):
    """The pass in which the kernel counts system calls."""

    trial: Annotated[
        float | None, DURATION, Field(description="Length of one stretch of counting.")
    ] = None
    repeats: Annotated[
        int | None, REPEATS, Field(description="Stretches for each variant and load.")
    ] = None
    loads: Annotated[
        list[Annotated[str, NAME]] | None,
        Field(description="The loads that it counts at. All, if left out."),
    ] = None
    measure: Annotated[
        list[Annotated[str, NAME]] | None,
        Field(description="The points that it counts at. All, if left out."),
    ] = None


class Extent(Strict):
    """How much is measured, and how long."""

    repeats: Annotated[
        int | None,
        REPEATS,
        Field(description="Pairs of trials for each load. Fewer than 5 give no verdict."),
    ] = None
    trial: Annotated[
        Trials | None,
        Field(description="Length of a timing trial, or one for each load."),
    ] = None
    warm_up: Annotated[
        float | None, WARM_UP, Field(description="Traffic before each trial that is not counted.")
    ] = None
    counting: Annotated[
        Counting | None, Field(description="The pass in which the kernel counts system calls.")
    ] = None
    search: Annotated[
        Search | None,
        Blank(empty=dict),
        Field(description="The pass in which lossless rates are searched."),
    ] = None


class Quick(Extent):
    """The quick form: what it does less of. What is left out is as in the full form."""

    measure: Annotated[
        list[Annotated[str, NAME]] | None, Field(description="The points that it measures.")
    ] = None
    loads: Annotated[
        list[Annotated[str, NAME]] | None, Field(description="The loads that it measures at.")
    ] = None
    frame_sizes: Annotated[
        list[Annotated[int | Literal["imix"], FRAME]] | None, Field(description="The frame sizes.")
    ] = None


class ScenarioFile(Extent):
    """A comparison of variants of a node, under traffic, against the documented claims."""

    name: Annotated[str, NAME, Field(description="Name of the scenario.")]
    description: Annotated[
        str, SENTENCE, Field(description="What it is for, in a sentence or two.")
    ] = ""
    topology: Annotated[
        str,
        TOPOLOGY,
        Field(
            description="A topology file (relative to this one), or the name of a shipped one.",
            examples=["pair"],
        ),
    ]
    kind: Annotated[
        str,
        Choice(words=KINDS),
        Field(
            description="node: one node between generator and sink (RFC 2544's device under "
            "test); path: from TAP to TAP, nodes all the way (its system under test); checks: "
            "nothing is timed, only checked, reachability and group traffic in this topology."
        ),
    ] = "node"
    measure: Annotated[
        dict[Annotated[str, NAME], PointBody],
        Field(
            description="What is measured. The first point of a node kind decides its claims.",
            examples=[{"obu-relay": {"node": "obu1", "path": "relay"}}],
            default_factory=dict,
        ),
    ]
    traffic: Annotated[
        Traffic | None, Field(description="What the tester sends, where anything is timed.")
    ] = None
    variants: Annotated[
        dict[Annotated[str, NAME], Annotated[VariantBody, Blank(empty=dict)]],
        Field(
            description="What is compared, by name.",
            json_schema_extra={"minProperties": 1},
        ),
    ]
    checks: Annotated[
        ChecksBody, Blank(empty=dict), Field(description="What every variant goes through first.")
    ] = ChecksBody()
    targets: Annotated[
        list[Annotated[str, Choice(words=("all", *targets.BY_KEY))]],
        Field(
            description="The documented claims to check.",
            default_factory=lambda: ["all"],
            json_schema_extra={"default": ["all"]},
        ),
    ]
    quick: Annotated[
        Quick, Blank(empty=dict), Field(description="What the quick form does less of.")
    ] = Quick()
