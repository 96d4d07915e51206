"""How a file says that a program runs as a node: its command line, and how it is dealt with.

Kinds of values for `testbed.topology.settings`. Must not know how a program is started.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema, core_schema

from testbed.files import units
from testbed.files.document import kind_of
from testbed.files.fields import Choice, JsonSchema, Quantity, Text, did_you_mean, refuse
from testbed.files.validation import Strict
from testbed.topology import model
from testbed.topology.placeholders import MEANINGS, PlaceholderError, names_in

AGENT = "agent"
"""In place of a command line: our own agent."""
RESERVED = ("TESTBED_MARK", "TESTBED_NODE")
"""The variables by which processes of a testbed, and of one node, are found."""

VARIABLE_NAME = Text(
    pattern=r"[A-Za-z_][A-Za-z0-9_]*",
    expected="the name of a variable: letters, digits and '_', no digit first",
    longest=256,
)
USER = Text(
    pattern=r"[a-z_][a-z0-9_-]*\$?|[0-9]{1,9}",
    expected="the name of a user, or its number in quotes",
    longest=32,
)


@dataclass(frozen=True, kw_only=True)
class Template(Text):
    """Text in which placeholders stand for what is known of a node."""

    pattern: str = r"[^\0]*"
    expected: str = "text, with placeholders such as {ip}"
    longest: int = 4096

    def check(self, value: object) -> str:
        if isinstance(value, dict) and value and set(value) <= set(MEANINGS):
            # What YAML makes of {ip} without quotes.
            name = next(iter(value))
            refuse(f"is a mapping, put {{{name}}} in quotes", f'"{{{name}}}"')
        text = super().check(value)
        try:
            names_in(text)
        except PlaceholderError as error:
            hint = "" if error.unknown is None else did_you_mean(error.unknown, list(MEANINGS))
            refuse(f"{error.problem}{hint}", error.expected)
        return text

    def schema(self) -> JsonSchema:
        return {"type": "string", "maxLength": self.longest}


@dataclass(frozen=True, kw_only=True)
class CommandLine:
    """Goes with a list of templates; the word `agent` is an empty one, which must not be given."""

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_command_line, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchema:
        words: JsonSchema = {"type": "array", "items": Template().schema(), "minItems": 1}
        return {"anyOf": [{"const": AGENT}, words]}


def _command_line(value: object) -> object:
    expected = f'a program and its arguments as a list such as ["node", "{{kind}}"], or {AGENT}'
    if value == AGENT:
        return []
    if isinstance(value, str):
        refuse("is text, and no shell would take it apart", expected)
    if not isinstance(value, list):
        refuse(f"is {kind_of(value)}", expected)
    if not value or value[0] == "":
        refuse("has no program", expected)
    return value


@dataclass(frozen=True, kw_only=True)
class Pattern(Text):
    """A regular expression."""

    pattern: str = r"[^\0\n]+"
    expected: str = "a regular expression for one line, such as 'listening on .*'"
    longest: int = 1024

    def check(self, value: object) -> str:
        text = super().check(value)
        try:
            re.compile(text)
        except re.error as error:
            refuse(f"no regular expression ({error})", self.expected)
        return text

    def schema(self) -> JsonSchema:
        return {"type": "string", "minLength": 1, "maxLength": self.longest}


class ReadyBody(Strict):
    """What tells that a program is ready. A word alone is `how`."""

    how: Annotated[
        str | None,
        Choice(words=("tap", "started")),
        Field(
            description="tap: its TAP is there, up and with a carrier. started: it runs, and "
            "nothing more is asked of it.",
            json_schema_extra={"default": "tap"},
        ),
    ] = None
    log: Annotated[
        str | None,
        Pattern(),
        Field(
            description="A regular expression that a line of what it prints matches somewhere, "
            "once it is ready; its TAP must be there then.",
            examples=["listening on .*"],
        ),
    ] = None
    within: Annotated[
        int | None,
        Quantity(
            parse=units.duration_ms,
            units=units.DURATION_UNITS,
            expected="a time from 10ms to 10min in whole milliseconds, such as 20s",
            low=10,
            high=600_000,
        ),
        Field(
            description="How long that may take. A program that is not ready by then has failed, "
            "and is stopped.",
            json_schema_extra={"default": "10s"},
        ),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, value: object) -> object:
        if isinstance(value, str):
            return {"how": value}
        if not isinstance(value, dict):
            refuse(f"is {kind_of(value)}", "tap, started, or a mapping such as {log: …}")
        if "how" in value and "log" in value:
            refuse("has both how and log", "one of the two")
        return value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchema:
        word = Choice(words=("tap", "started")).schema()
        return {"anyOf": [*word["anyOf"], handler.resolve_ref_schema(handler(schema))]}

    def value(self) -> model.Ready | None:
        """What it says, None where it says nothing but a time."""
        if self.log is not None:
            return model.Ready(how="log", pattern=self.log)
        if self.how is not None:
            return model.Ready(how="started" if self.how == "started" else "tap")
        return None


def refuse_reserved(value: dict[str, Any]) -> dict[str, Any]:
    """The variables of an environment, without those that are ours."""
    for name in RESERVED:
        if name in value:
            refuse(f"{name} is set by the testbed", "other variables")
    return value
