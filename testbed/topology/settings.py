"""Settings of a node as files write them: the same keys wherever nodes are told what to do.

Must not know the file around them, nor fill in what is left out: None means "not said here".
`merge` puts layers of them together, and the defaults of `NodeSettings` underneath.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from agent.config import MAX_BATCH, MAX_WAIT_US, batch_sizes, metrics_address
from agent.errors import ConfigError
from testbed.files import units
from testbed.files.document import kind_of
from testbed.files.fields import Blank, Choice, JsonSchema, OffOr, Quantity, Whole, refuse
from testbed.files.validation import Strict
from testbed.topology import model
from testbed.topology.program import (
    USER,
    VARIABLE_NAME,
    CommandLine,
    ReadyBody,
    Template,
    refuse_reserved,
)


def _of_agent(read: Callable[[str], object]) -> Callable[[str], object]:
    def reading(text: str) -> object:
        try:
            return read(text)
        except ConfigError as error:
            raise ValueError(str(error)) from error

    return reading


class Hello(Strict):
    """Heartbeats."""

    period: Annotated[
        int | None,
        Quantity(
            parse=units.duration_ms,
            units=units.DURATION_UNITS,
            expected="a time from 10ms to 60min in whole milliseconds, such as 1s",
            low=10,
            high=3_600_000,
        ),
        Field(
            description="Time between two heartbeats of an RSU. An OBU learns it from them.",
            json_schema_extra={"default": "5s", "examples": ["1s", "500ms"]},
        ),
    ] = None
    history: Annotated[
        int | None,
        Whole(low=1, high=1000),
        Field(
            description="Heartbeats that a node remembers of each RSU. A neighbour that was "
            "silent for so many periods is no upstream any more.",
            json_schema_extra={"default": 10},
        ),
    ] = None


class Engine(Strict):
    """How a node does its I/O. A word alone is for the wire, and for the TAP where it can be."""

    wire: Annotated[
        str | None,
        Choice(words=model.WIRE_ENGINES),
        Field(description="On the radio interface.", json_schema_extra={"default": "auto"}),
    ] = None
    tap: Annotated[
        str | None,
        Choice(words=model.TAP_ENGINES),
        Field(
            description="On the TAP, which knows no calls for several frames (mmsg).",
            json_schema_extra={"default": "auto"},
        ),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, value: object) -> object:
        if isinstance(value, str):
            return {"wire": value, "tap": value if value in model.TAP_ENGINES else "auto"}
        if not isinstance(value, dict):
            refuse(f"is {kind_of(value)}", "a word such as mmsg, or a mapping of wire and tap")
        return value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchema:
        word = Choice(words=model.WIRE_ENGINES).schema()
        return {"anyOf": [*word["anyOf"], handler.resolve_ref_schema(handler(schema))]}


class Settings(Strict):
    """What a node is told to do. The same keys serve in defaults, kinds, groups and nodes."""

    hello: Annotated[
        Hello, Blank(empty=dict), Field(description="Heartbeats: how often, how many remembered.")
    ] = Hello()
    cached_candidates: Annotated[
        int | None,
        Whole(low=1, high=64),
        Field(
            description="Upstreams that an OBU keeps ready for failover, best first.",
            json_schema_extra={"default": 3},
        ),
    ] = None
    mtu: Annotated[
        int | None,
        Quantity(
            parse=units.size_bytes,
            units=tuple(units.SIZE_BYTES),
            expected=f"{model.MTU_MIN} to {model.MTU_MAX} bytes: IPv6 needs {model.MTU_MIN}, and "
            f"a radio MTU of {model.RADIO_MTU} leaves {model.MTU_MAX} to the inner packet",
            low=model.MTU_MIN,
            high=model.MTU_MAX,
            bare=True,
        ),
        Field(
            description="Largest IP packet on the TAP, in bytes.",
            json_schema_extra={"default": 1436, "examples": [1436, 1280]},
        ),
    ] = None
    engine: Annotated[
        Engine, Blank(empty=dict), Field(description="How a node reads and writes frames.")
    ] = Engine()
    handler: Annotated[
        str | None,
        Choice(words=model.HANDLERS),
        Field(
            description="How a node handles frames: one at a time or a batch at once. "
            "auto batches where the wire's engine does.",
            json_schema_extra={"default": "auto"},
        ),
    ] = None
    batch: Annotated[
        int | None,
        Whole(low=1, high=MAX_BATCH),
        Field(
            description="Frames that a node takes or gives in one go, at most.",
            json_schema_extra={"default": 32},
        ),
    ] = None
    adaptive_batch: Annotated[
        str | None,
        OffOr(
            read=_of_agent(batch_sizes),
            pattern=r"[0-9]{1,3}\.\.[0-9]{1,3}",
            expected=f"off, or two sizes from 1 to {MAX_BATCH} such as 8..128",
        ),
        Field(
            description="Sizes between which batches follow the load, in place of batch, which is "
            "then the first of them: doubled while they are full, halved while mostly empty.",
            json_schema_extra={"default": "off", "examples": ["off", "8..128"]},
        ),
    ] = None
    coalesce: Annotated[
        str | None,
        Choice(words=model.COALESCE),
        Field(
            description="Whether frames wait for others: never, after each wake-up (fixed), or "
            "where that saves wake-ups (adaptive). fixed where there is only a max_wait.",
            json_schema_extra={"default": "off"},
        ),
    ] = None
    max_wait: Annotated[
        int | None,
        Quantity(
            parse=units.duration_us,
            units=units.DURATION_UNITS,
            expected=f"a time from 0us to {MAX_WAIT_US // 1000}ms in whole microseconds, "
            "such as 200us",
            high=MAX_WAIT_US,
        ),
        Field(
            description="How long a frame may wait for others, at most (see coalesce). "
            "It saves wake-ups and costs that much latency.",
            json_schema_extra={"default": "0us", "examples": ["0us", "200us", "1ms"]},
        ),
    ] = None
    group_copies: Annotated[
        str | None,
        Choice(words=model.GROUP_COPIES),
        Field(
            description="What an RSU writes as destination into copies of group traffic: the "
            "group (reference), or the OBU where it is more than one hop away (addressed), so "
            "that OBUs behind other OBUs receive it.",
            json_schema_extra={"default": "reference"},
        ),
    ] = None
    metrics: Annotated[
        str | None,
        OffOr(
            read=_of_agent(metrics_address),
            pattern=r"[^ ]*:[0-9]{1,5}",
            expected="off, or an address and a port such as 127.0.0.1:9100, [::1]:9100 or :9100",
        ),
        Field(
            description="Where HTTP serves what the node counts, inside its own namespace.",
            json_schema_extra={"default": "off", "examples": ["off", ":9100"]},
        ),
    ] = None
    command: Annotated[
        list[Annotated[str, Template()]] | None,
        CommandLine(),
        Field(
            description="The program that runs as the node, and its arguments, with placeholders "
            "such as {ip}; or agent, our own. Never goes through a shell.",
            json_schema_extra={"default": "agent"},
            examples=[["node", "{kind}", "--bind", "{iface}", "--tap-name", "{tap}"]],
        ),
    ] = None
    env: Annotated[
        dict[Annotated[str, VARIABLE_NAME], Annotated[str, Template()]] | None,
        AfterValidator(refuse_reserved),
        Field(
            description="Variables added to the environment of the program, with placeholders too.",
            examples=[{"RUST_LOG": "info"}],
        ),
    ] = None
    ready: Annotated[
        ReadyBody, Blank(empty=dict), Field(description="What tells that the program is ready.")
    ] = ReadyBody()
    stop: Annotated[
        str | None,
        Choice(words=model.STOP_SIGNALS),
        Field(
            description="The signal at which the program ends.",
            json_schema_extra={"default": "SIGTERM"},
        ),
    ] = None
    user: Annotated[
        str | None,
        USER,
        Field(
            description="Whom the program runs as, with the rights CAP_NET_ADMIN and CAP_NET_RAW "
            "and no others. Root with all rights, if left out."
        ),
    ] = None


class KindedSettings(Settings):
    """Settings, and the kind of the nodes that they are for."""

    kind: Annotated[
        str | None, Choice(words=model.KINDS), Field(description="On-board or roadside unit.")
    ] = None


def merge(layers: Sequence[Settings]) -> model.NodeSettings:
    """The settings that hold: for each key the first layer that has it, else the default."""
    return model.NodeSettings(**said(layers))


def said(layers: Sequence[Settings]) -> dict[str, Any]:
    """What the layers say of the fields of `NodeSettings`: the first that says it wins."""
    found: dict[str, Any] = {}
    for layer in layers:
        for name, value in _flat(layer).items():
            if value is not None:
                found.setdefault(name, value)
    return found


def _flat(layer: Settings) -> dict[str, Any]:
    return {
        "hello_periodicity_ms": layer.hello.period,
        "hello_history": layer.hello.history,
        "cached_candidates": layer.cached_candidates,
        "mtu": layer.mtu,
        "engine_wire": layer.engine.wire,
        "engine_tap": layer.engine.tap,
        "handler": layer.handler,
        "batch": layer.batch,
        "adaptive_batch": layer.adaptive_batch,
        "coalesce": layer.coalesce,
        "max_wait_us": layer.max_wait,
        "group_copies": layer.group_copies,
        "metrics": layer.metrics,
        "command": None if layer.command is None else tuple(layer.command),
        "env": None if layer.env is None else tuple(layer.env.items()),
        "ready": layer.ready.value(),
        "ready_within_ms": layer.ready.within,
        "stop": layer.stop,
        "user": layer.user,
    }
