"""JSON Schema (draft 2020-12) of our files, for editors that complete and check while one types.

The models of the files are the one source; must not know anything of a file that they do not. A
value with a `${VAR}` is right wherever a value can stand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from testbed.errors import InputError
from testbed.files.fields import did_you_mean

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def _topology() -> type[BaseModel]:
    from testbed.topology.file import TopologyFile

    return TopologyFile


def _scenario() -> type[BaseModel]:
    from testbed.scenario.file import ScenarioFile

    return ScenarioFile


MODELS: Mapping[str, Callable[[], type[BaseModel]]] = {
    "topology": _topology,
    "scenario": _scenario,
}
"""The files that have a schema. A new sort of file enters its model here."""


def schema_for(what: str) -> dict[str, Any]:
    """The schema of that sort of file as plain values; `InputError` where there is none."""
    model = MODELS.get(what)
    if model is None:
        raise InputError(
            f"there is no schema for that{did_you_mean(what, list(MODELS))}",
            value=what,
            expected=" or ".join(MODELS),
        )
    schema = model().model_json_schema()
    return {"$schema": DIALECT, "title": f"testbed {what}", **_tidy(schema, top=True)}


def _tidy(part: Any, *, top: bool = False) -> Any:
    """The schema without what says nothing to its reader: made-up titles, defaults of None."""
    if isinstance(part, list):
        return [_tidy(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    tidy = {}
    for key, value in part.items():
        if key == "title" and isinstance(value, str):
            continue
        # An empty default is nothing that a user could mean; the keys inside have their own.
        if key == "default" and (value is None or isinstance(value, dict | list)):
            continue
        if key in ("properties", "$defs"):
            tidy[key] = {name: _tidy(inner) for name, inner in value.items()}
        elif key in ("examples", "enum", "const", "default"):
            tidy[key] = value
        else:
            tidy[key] = _tidy(value)
    return tidy
