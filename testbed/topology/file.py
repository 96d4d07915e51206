"""The topology file as it is written: every key, what it may hold, and what it means.

Must not know where the file is, nor fill in what it leaves out: None means "not said here", and
`testbed.topology.resolve` decides. The JSON Schema that editors use is made of these models.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Annotated

from pydantic import Discriminator, Field, GetJsonSchemaHandler, Tag, model_validator
from pydantic_core import CoreSchema

from testbed.files.document import kind_of
from testbed.files.fields import Address, Blank, JsonSchema, Point, Prefix, Text, counted, refuse
from testbed.files.validation import Strict
from testbed.topology import model
from testbed.topology.settings import KindedSettings, Settings

NODE_NAME = r"[a-zA-Z0-9][a-zA-Z0-9._-]*"
TESTBED_NAME = r"[a-zA-Z0-9][a-zA-Z0-9_-]*"
LONGEST_NAME = 32
UNSUPPORTED = dict.fromkeys(
    ("delay", "jitter", "loss", "rate", "corruption", "duplicate", "reorder"),
    "the radio is only who hears whom, which loses, delays and limits nothing",
)
"""What links have elsewhere."""

_NODE_NAME = Text(
    pattern=NODE_NAME,
    expected="letters, digits, '.', '_' and '-', a letter or digit first",
    longest=LONGEST_NAME,
)
_NAMED: JsonSchema = {"propertyNames": _NODE_NAME.schema()}
_ENDPOINT = Text(
    pattern=rf"{NODE_NAME}(:[^\s:]+)?",
    expected=f"a node, such as rsu1 or rsu1:{model.RADIO_INTERFACE}",
    longest=2 * LONGEST_NAME,
)


class Kinds(Strict):
    """Settings for all nodes of a kind."""

    obu: Annotated[Settings, Blank(empty=dict), Field(description="For all OBUs.")] = Settings()
    rsu: Annotated[Settings, Blank(empty=dict), Field(description="For all RSUs.")] = Settings()


class NodeBody(KindedSettings):
    """One OBU or RSU. May be left blank."""

    group: Annotated[
        str | None, _NODE_NAME, Field(description="The group that this node takes settings from.")
    ] = None
    ipv4: Annotated[
        tuple[IPv4Address, int | None] | None,
        Address(family=IPv4Address),
        Field(
            description="The TAP's IPv4 address. Assigned from the prefix where it is left out.",
            examples=["10.77.0.9", "10.77.0.9/16"],
        ),
    ] = None
    ipv6: Annotated[
        tuple[IPv6Address, int | None] | None,
        Address(family=IPv6Address),
        Field(
            description="The TAP's IPv6 address. Assigned from the prefix where it is left out.",
            examples=["fd77:7465:7374::9"],
        ),
    ] = None
    position: Annotated[
        tuple[float, float] | None,
        Point(),
        Field(description="Where the node stands: x and y in metres.", examples=[[120, 4]]),
    ] = None


class LinkBody(Strict):
    """Two nodes that hear each other. May be written as the list of the two alone."""

    endpoints: Annotated[
        list[Annotated[str, _ENDPOINT]],
        Field(
            description="The two nodes.",
            examples=[["rsu1", "obu1"], ["rsu1:radio0", "obu1:radio0"]],
            json_schema_extra={"minItems": 2, "maxItems": 2},
        ),
    ]

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: object) -> object:
        value = {"endpoints": value} if isinstance(value, list) else value
        expected = "two nodes, such as [rsu1, obu1]"
        if not isinstance(value, dict):
            refuse(f"is {kind_of(value)}", expected)
        ends = value.get("endpoints")
        if isinstance(ends, list) and len(ends) != 2:
            refuse(f"has {counted(len(ends), 'endpoint')}", expected)
        return value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchema:
        body = handler.resolve_ref_schema(handler(schema))
        return {"anyOf": [body["properties"]["endpoints"], body]}


class SegmentBody(Strict):
    """Nodes that all hear each other. May be written as the list of its members alone."""

    name: Annotated[
        str | None,
        _NODE_NAME,
        Field(description="The segment's name, where segments stand in a list."),
    ] = None
    members: Annotated[
        list[Annotated[str, _ENDPOINT]],
        Field(
            description="The nodes. One alone hears nobody, and is meant to.",
            examples=[["rsu1", "obu1", "obu2"]],
            json_schema_extra={"minItems": 1},
        ),
    ]

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: object) -> object:
        value = {"members": value} if isinstance(value, list) else value
        if not isinstance(value, dict):
            refuse(f"is {kind_of(value)}", "a list of nodes, such as [rsu1, obu1, obu2]")
        if value.get("members", [None]) in ([], None):
            refuse("has no members", "at least one node")
        return value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchema:
        body = handler.resolve_ref_schema(handler(schema))
        return {"anyOf": [body["properties"]["members"], body]}


class Addressing(Strict):
    """The prefixes that the TAPs' addresses come from."""

    ipv4: Annotated[
        IPv4Network | None,
        Prefix(family=IPv4Network),
        Field(
            description="IPv4 prefix of all TAPs.",
            json_schema_extra={"default": "10.77.0.0/16", "examples": ["10.77.0.0/16"]},
        ),
    ] = None
    ipv6: Annotated[
        IPv6Network | None,
        Prefix(family=IPv6Network),
        Field(
            description="IPv6 prefix of all TAPs.",
            json_schema_extra={
                "default": "fd77:7465:7374::/64",
                "examples": ["fd77:7465:7374::/64"],
            },
        ),
    ] = None


def _shape(value: object) -> str:
    return "(list)" if isinstance(value, list) else "(mapping)"


Segments = Annotated[
    Annotated[dict[Annotated[str, _NODE_NAME], SegmentBody], Tag("(mapping)")]
    | Annotated[list[SegmentBody], Tag("(list)")],
    Discriminator(_shape),
]


class Body(Strict):
    """The nodes, and who hears whom."""

    defaults: Annotated[
        KindedSettings, Blank(empty=dict), Field(description="Settings for every node.")
    ] = KindedSettings()
    kinds: Annotated[
        Kinds, Blank(empty=dict), Field(description="Settings by kind; they win over defaults.")
    ] = Kinds()
    groups: Annotated[
        dict[Annotated[str, _NODE_NAME], Annotated[KindedSettings, Blank(empty=dict)]],
        Blank(empty=dict),
        Field(
            description="Settings for the nodes that name the group; they win over kinds.",
            default_factory=dict,
            json_schema_extra=_NAMED,
        ),
    ]
    nodes: Annotated[
        dict[Annotated[str, _NODE_NAME], Annotated[NodeBody, Blank(empty=dict)]],
        Blank(empty=dict),
        Field(
            description="The nodes by name, in the order in which they get addresses.",
            examples=[{"rsu1": {"kind": "rsu"}, "obu1": {"kind": "obu"}}],
            json_schema_extra=_NAMED,
        ),
    ]
    links: Annotated[
        list[LinkBody],
        Blank(empty=list),
        Field(description="Pairs of nodes that hear each other.", default_factory=list),
    ]
    segments: Annotated[
        Segments,
        Blank(empty=dict),
        Field(description="Groups of nodes that all hear each other.", default_factory=dict),
    ]
    addressing: Annotated[
        Addressing, Blank(empty=dict), Field(description="Prefixes of the TAPs' addresses.")
    ] = Addressing()


class TopologyFile(Strict):
    """A testbed of on-board units (OBUs) and roadside units (RSUs), and who hears whom."""

    name: Annotated[
        str,
        Text(
            pattern=TESTBED_NAME,
            expected="letters, digits, '_' and '-', a letter or digit first",
            longest=LONGEST_NAME,
        ),
        Field(
            description="Name of the testbed; namespaces are called tb.<name>.<node>.",
            examples=["highway"],
        ),
    ]
    topology: Annotated[Body, Field(description="The nodes, and who hears whom.")]
