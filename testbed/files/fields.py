"""Kinds of values in our files, for the pydantic models that describe them.

Each is a marker in `Annotated[...]`: it checks the value as the file has it, says what was
expected, and describes itself in JSON Schema. Must not know which file or key it stands in.

None never passes: a key that is there must have a value. What may be left out has a default.
Numbers may come as text too, since `"${VAR}"` in quotes is text.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, NoReturn

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from testbed.files import units
from testbed.files.document import kind_of

JsonSchema = dict[str, Any]

OFF = "off"
VARIABLE: JsonSchema = {"type": "string", "pattern": r"\$\{.+\}"}
"""A value that is yet to be expanded; an editor must not call it wrong."""


def refuse(problem: str, expected: str) -> NoReturn:
    """Raises what `testbed.files.validation` turns into an error with its place."""
    # The text goes in as context, so that braces in it are not taken for a template.
    raise PydanticCustomError("refused", "{problem}", {"problem": problem, "expected": expected})


def did_you_mean(given: str, known: Sequence[str]) -> str:
    """`, did you mean 'x'?` for the nearest of the known words, else nothing."""
    folded = {word.lower(): word for word in known}
    near = difflib.get_close_matches(given.lower(), folded, n=1, cutoff=0.6)
    return f", did you mean {folded[near[0]]!r}?" if near else ""


def counted(number: int, noun: str) -> str:
    """`1 node`, `2 nodes`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


class _Marker:
    """What all markers share: `check` is the validator, `schema` the description."""

    def check(self, value: object) -> object:
        raise NotImplementedError

    def schema(self) -> JsonSchema:
        raise NotImplementedError

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchema:
        return self.schema()


@dataclass(frozen=True, kw_only=True)
class Blank:
    """Goes with a mapping or list that may be left blank, which counts as an empty one."""

    empty: type[dict[str, Any]] | type[list[Any]]

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            lambda value: self.empty() if value is None else value, handler(source)
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchema:
        return {"anyOf": [handler(schema), {"type": "null"}]}


@dataclass(frozen=True, kw_only=True)
class Quantity(_Marker):
    """A number with a unit, read by `parse` (of `files.units`); bounds are in what that returns."""

    parse: Callable[[object], float]
    units: Sequence[str]
    expected: str
    low: float = 0
    high: float = math.inf
    bare: bool = False
    """Whether a number without a unit is right."""

    def check(self, value: object) -> float:
        if value is None or isinstance(value, dict | list):
            refuse(f"is {kind_of(value)}", self.expected)
        try:
            number = self.parse(value)
        except units.UnitError as error:
            refuse(error.problem, self.expected)
        if number < self.low:
            refuse("too small", self.expected)
        if number > self.high:
            refuse("too large", self.expected)
        return number

    def schema(self) -> JsonSchema:
        names = "|".join(re.escape(unit) for unit in self.units)
        unit = f"({names}){'?' if self.bare else ''}"
        number = rf"[0-9]+(\.[0-9]+)?\s*{unit}{'|0' if self.low == 0 else ''}"
        text: JsonSchema = {"type": "string", "pattern": rf"^\s*({number}|.*\$\{{.+\}}.*)\s*$"}
        if self.bare:
            bounds = {"minimum": self.low} | (
                {} if math.isinf(self.high) else {"maximum": self.high}
            )
            return {"anyOf": [{"type": "integer", **bounds}, text]}
        return {"anyOf": [text, {"const": 0}]} if self.low == 0 else text


@dataclass(frozen=True, kw_only=True)
class Whole(_Marker):
    """A whole number from `low` to `high`."""

    low: int
    high: int

    def check(self, value: object) -> int:
        expected = f"a whole number from {self.low} to {self.high}"
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value, re.ASCII):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            structure = value is None or isinstance(value, dict | list)
            refuse(f"is {kind_of(value)}" if structure else "no whole number", expected)
        if not self.low <= value <= self.high:
            refuse("too small" if value < self.low else "too large", expected)
        return value

    def schema(self) -> JsonSchema:
        whole = {"type": "integer", "minimum": self.low, "maximum": self.high}
        return {"anyOf": [whole, VARIABLE]}


@dataclass(frozen=True, kw_only=True)
class Choice(_Marker):
    """One of some words."""

    words: Sequence[str]
    also: JsonSchema = field(default_factory=dict)

    def check(self, value: object) -> str:
        expected = " or ".join(repr(word) for word in self.words)
        if not isinstance(value, str):
            refuse(f"is {kind_of(value)}", expected)
        if value not in self.words:
            refuse(f"unknown value{did_you_mean(value, self.words)}", expected)
        return value

    def schema(self) -> JsonSchema:
        return {"anyOf": [{"enum": list(self.words)}, VARIABLE]}


@dataclass(frozen=True, kw_only=True)
class Text(_Marker):
    """Text that matches a pattern in whole, of at most `longest` characters."""

    pattern: str
    expected: str
    longest: int

    def check(self, value: object) -> str:
        if not isinstance(value, str):
            hint = ", put it in quotes" if isinstance(value, bool | int | float) else ""
            refuse(f"is {kind_of(value)}{hint}", self.expected)
        if len(value) > self.longest:
            refuse("too long", f"at most {self.longest} characters")
        if not re.fullmatch(self.pattern, value, re.ASCII):
            refuse("not allowed", self.expected)
        return value

    def schema(self) -> JsonSchema:
        plain = {"type": "string", "pattern": f"^{self.pattern}$", "maxLength": self.longest}
        return {"anyOf": [plain, VARIABLE]}


@dataclass(frozen=True, kw_only=True)
class OffOr(_Marker):
    """The word `off`, or text of a form that `read` understands; either stays text."""

    read: Callable[[str], object]
    """Raises ValueError for another form."""
    pattern: str
    expected: str

    def check(self, value: object) -> str:
        if not isinstance(value, str):
            hint = ", put it in quotes" if isinstance(value, bool | int | float) else ""
            refuse(f"is {kind_of(value)}{hint}", self.expected)
        if value != OFF:
            try:
                self.read(value)
            except ValueError:
                refuse("not allowed", self.expected)
        return value

    def schema(self) -> JsonSchema:
        plain = {"type": "string", "pattern": f"^({OFF}|{self.pattern})$"}
        return {"anyOf": [plain, VARIABLE]}


@dataclass(frozen=True, kw_only=True)
class Address(_Marker):
    """An address of that family, with or without the length of its prefix.

    The value is `(address, length)`, the length None where the file gives none.
    """

    family: type[IPv4Address] | type[IPv6Address]

    def check(self, value: object) -> tuple[IPv4Address | IPv6Address, int | None]:
        v4 = self.family is IPv4Address
        expected = "an IPv4 address such as 10.77.0.9" if v4 else "an IPv6 address such as fd00::9"
        if not isinstance(value, str):
            refuse(f"is {kind_of(value)}", expected)
        text, slash, length = value.partition("/")
        try:
            address = self.family(text)
        except ValueError:
            refuse(f"not an {'IPv4' if v4 else 'IPv6'} address", expected)
        if "%" in text:
            refuse("an address with a scope", expected)
        if not slash:
            return address, None
        if not re.fullmatch("[0-9]{1,3}", length, re.ASCII) or int(length) > address.max_prefixlen:
            refuse("not a prefix length", f"/0 to /{address.max_prefixlen} behind the address")
        return address, int(length)

    def schema(self) -> JsonSchema:
        pattern = (
            r"^([0-9]+\.){3}[0-9]+(/[0-9]{1,2})?$"
            if self.family is IPv4Address
            else r"^[0-9a-fA-F:.]*:[0-9a-fA-F:.]*(/[0-9]{1,3})?$"
        )
        return {"anyOf": [{"type": "string", "pattern": pattern}, VARIABLE]}


@dataclass(frozen=True, kw_only=True)
class Prefix(_Marker):
    """A network of that family, with its length and no host bits set."""

    family: type[IPv4Network] | type[IPv6Network]

    def check(self, value: object) -> IPv4Network | IPv6Network:
        v4 = self.family is IPv4Network
        expected = (
            "an IPv4 prefix such as 10.77.0.0/16" if v4 else "an IPv6 prefix such as fd77::/64"
        )
        if not isinstance(value, str):
            refuse(f"is {kind_of(value)}", expected)
        if "/" not in value:
            refuse("the length of the prefix is missing", expected)
        try:
            loose = self.family(value, strict=False)
        except ValueError:
            refuse(f"not an {'IPv4' if v4 else 'IPv6'} prefix", expected)
        address, _, _ = value.partition("/")
        if loose.network_address != type(loose.network_address)(address):
            refuse("an address, not a prefix", f"{loose}")
        return loose

    def schema(self) -> JsonSchema:
        pattern = (
            r"^([0-9]+\.){3}[0-9]+/[0-9]{1,2}$"
            if self.family is IPv4Network
            else r"^[0-9a-fA-F:.]*:[0-9a-fA-F:.]*/[0-9]{1,3}$"
        )
        return {"anyOf": [{"type": "string", "pattern": pattern}, VARIABLE]}


@dataclass(frozen=True, kw_only=True)
class Point(_Marker):
    """A pair of finite numbers, in metres."""

    def check(self, value: object) -> tuple[float, float]:
        expected = "two numbers in metres, such as [120, 4]"
        if not isinstance(value, list):
            refuse(f"is {kind_of(value)}", expected)
        if len(value) != 2:
            refuse(f"has {counted(len(value), 'number')}", expected)
        x, y = (self._number(part, expected) for part in value)
        return x, y

    @staticmethod
    def _number(part: object, expected: str) -> float:
        if isinstance(part, str):
            try:
                part = float(part)
            except ValueError:
                refuse("has a part that is no number", expected)
        if isinstance(part, bool) or not isinstance(part, int | float):
            refuse("has a part that is no number", expected)
        if math.isnan(part):
            refuse("has a part that is no number", expected)
        if abs(part) > 1e9:
            refuse("too far away", "at most 1e9 metres")
        return float(part)

    def schema(self) -> JsonSchema:
        number = {"anyOf": [{"type": "number", "minimum": -1e9, "maximum": 1e9}, VARIABLE]}
        return {"type": "array", "items": number, "minItems": 2, "maxItems": 2}
