"""A document checked against a pydantic model; what is wrong becomes errors with file and line.

Must not know any particular file: it serves topologies, scenarios, whatever comes. The first
error of a file (from its top) is reported, with the number of the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from testbed.errors import InputError
from testbed.files.document import Document, Place, dotted, kind_of
from testbed.files.fields import did_you_mean


class Strict(BaseModel):
    """A mapping in a file: unknown keys are refused, what was read does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, hide_input_in_errors=True)


Model = TypeVar("Model", bound=BaseModel)

_NOTHING: Mapping[str, str] = MappingProxyType({})

_EXPECTED = {
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
}


class FileError(InputError):
    """One or more errors in one file. Shows as the first; `problems` has all, by line."""

    def __init__(self, problems: Sequence[InputError]) -> None:
        ordered = sorted(problems, key=lambda problem: problem.line or 0)
        first = ordered[0]
        super().__init__(
            first.message,
            file=first.file,
            line=first.line,
            value=first.value,
            expected=first.expected,
        )
        self.problems: tuple[InputError, ...] = tuple(ordered)

    def __str__(self) -> str:
        more = len(self.problems) - 1
        if not more:
            return super().__str__()
        return f"{super().__str__()}; and {more} more error{'s' if more > 1 else ''} in this file"


def check(
    model: type[Model], document: Document, *, unsupported: Mapping[str, str] = _NOTHING
) -> Model:
    """The document as that model; `FileError` with everything that is wrong with it.

    `unsupported` has keys that other tools have, with what is said where one of them is found.
    """
    try:
        return model.model_validate(document.value)
    except ValidationError as error:
        found = error.errors(include_url=False)
        # A misspelt key comes before the one that is missing for that.
        found.sort(key=lambda details: details["type"] != "extra_forbidden")
        raise FileError(
            [_problem(model, document, details, unsupported) for details in found]
        ) from None


def _problem(
    model: type[BaseModel],
    document: Document,
    details: ErrorDetails,
    unsupported: Mapping[str, str],
) -> InputError:
    place = _place(document.value, details["loc"])
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        if (told := unsupported.get(str(place[-1]))) is not None:
            return document.error(place, f"{dotted(place)}: not supported: {told}")
        return _unknown_key(model, document, place)
    if kind == "missing":
        where = f"{dotted(place)}: " if place else ""
        return document.error(place, f"{where}the key {str(details['loc'][-1])!r} is missing")
    value = details["input"]
    problem, expected = context.get("problem"), context.get("expected")
    if problem is None:
        problem = f"is {kind_of(value)}" if kind in _EXPECTED else details["msg"].lower()
        expected = _EXPECTED.get(kind)
    return document.error(
        place,
        f"{dotted(place)}: {problem}",
        value=_shown(value),
        expected=None if expected is None else str(expected),
    )


def _shown(value: object) -> object:
    """The value as far as it says something in one line; a mapping has its own lines."""
    if isinstance(value, list) and not any(isinstance(part, dict | list) for part in value):
        return value
    return None if isinstance(value, dict | list) else value


def _place(value: Any, loc: Sequence[str | int]) -> Place:
    """Where in the file that is: pydantic's own steps (of unions, of keys) are left out."""
    place: Place = ()
    for step in loc:
        inner = (isinstance(value, dict) and step in value) or (
            isinstance(value, list) and isinstance(step, int) and step < len(value)
        )
        if inner:
            value = value[step]
            place = (*place, step)
    return place


def _unknown_key(model: type[BaseModel], document: Document, place: Place) -> InputError:
    key, parent = str(place[-1]), place[:-1]
    schema = model.model_json_schema()
    here = _resolve(schema, schema)
    for step in parent:
        here = [inner for one in here for inner in _step(schema, one, step)]
    known = sorted({name for one in here for name in one.get("properties", {})})
    hint = did_you_mean(key, known)
    if not hint:
        for name in known:
            inside = [one for at in here for one in _step(schema, at, name)]
            if any(key in one.get("properties", {}) for one in inside):
                hint = f", it belongs in {name!r}"
    where = f"{dotted(parent)}: " if parent else ""
    # Who is told the right key needs no list of all others.
    expected = None if hint else "one of " + ", ".join(known)
    return document.error(place, f"{where}unknown key {key!r}{hint}", expected=expected)


def _step(schema: dict[str, Any], here: dict[str, Any], step: str | int) -> Iterator[Any]:
    """What the schema says of the values one step further in."""
    if isinstance(step, int):
        inner = here.get("items")
    else:
        inner = here.get("properties", {}).get(step, here.get("additionalProperties"))
    if isinstance(inner, dict):
        yield from _resolve(schema, inner)


def _resolve(schema: dict[str, Any], here: dict[str, Any]) -> list[dict[str, Any]]:
    """That part of the schema with references followed and alternatives side by side."""
    if "$ref" in here:
        here = schema["$defs"][here["$ref"].rsplit("/", 1)[1]]
    alternatives = [*here.get("anyOf", ()), *here.get("oneOf", ())]
    return [here, *(part for one in alternatives for part in _resolve(schema, one))]
