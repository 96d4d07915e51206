"""Result files: written whole or not at all, read with a clear word on what is wrong with them.

Must not know what a result means. Older schemas are brought up to date here, one step at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from testbed.errors import InputError
from testbed.files.document import dotted
from testbed.results import FORMAT, SCHEMA, Result
from testbed.wholefile import replacing

FILE_NAME: Final = "result.json"
MAX_BYTES: Final = 1 << 30


def _from_1(values: dict[str, Any]) -> dict[str, Any]:
    """Schema 2 has more keys and changes none."""
    return {**values, "schema": 2}


UPDATES: Final[Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]]] = {1: _from_1}
"""What makes a file of schema N one of schema N + 1; an entry for every schema ever released."""


def load_result(path: str | Path) -> Result:
    """The result in that file, or in `result.json` of that directory.

    Raises InputError for a missing file, one that is no result, a damaged one, and one that a newer
    version has written.
    """
    where = Path(path)
    if where.is_dir():
        where = where / FILE_NAME
    try:
        if where.stat().st_size > MAX_BYTES:
            raise InputError("the file is too large for a result", file=str(where))
        text = where.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError("there is no such file", file=str(where), expected="a result") from None
    except UnicodeDecodeError:
        raise InputError("the file is not UTF-8", file=str(where), expected="a result") from None
    except OSError as error:
        raise InputError(f"the file cannot be read: {error.strerror}", file=str(where)) from None
    return parse_result(text, file=str(where))


def parse_result(text: str, *, file: str) -> Result:
    """The result in that text; `file` is what messages call it."""
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"the file is damaged: {error.msg.lower()}",
            file=file,
            line=error.lineno,
            expected="a whole result",
        ) from None
    except RecursionError:
        raise InputError("the file is nested too deeply", file=file, expected="a result") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise InputError("this is no result of a run", file=file, expected=f'"format": "{FORMAT}"')
    schema = values.get("schema")
    if isinstance(schema, bool) or not isinstance(schema, int) or schema < 1:
        raise InputError(
            "the file does not say which schema it has", file=file, value=schema,
            expected=f"a whole number from 1 to {SCHEMA}",
        )  # fmt: skip
    if schema > SCHEMA:
        raise InputError(
            "a newer version has written this file", file=file, value=f"schema {schema}",
            expected=f"schema {SCHEMA} or older; update this program to read it",
        )  # fmt: skip
    for step in range(schema, SCHEMA):
        values = UPDATES[step](values)
    try:
        result = Result.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        more = error.error_count() - 1
        raise InputError(
            f"the file is damaged: {dotted(first['loc'])}: {first['msg'].lower()}"
            + (f", and {more} more error{'s' if more > 1 else ''}" if more else ""),
            file=file,
            expected=f"a result of schema {SCHEMA}",
        ) from None
    _check_names(result, file)
    return result


def _check_names(result: Result, file: str) -> None:
    """Trials, searches and checks belong to points, loads and variants that the file describes."""
    known = {
        "point": {point.name for point in result.scenario.points},
        "load": {load.name for load in result.scenario.loads},
        "variant": {variant.name for variant in result.scenario.variants},
    }
    if sum(variant.baseline for variant in result.scenario.variants) != 1:
        raise InputError(
            "the file is damaged: scenario.variants", file=file, expected="one baseline"
        )
    parts: list[tuple[str, object]] = [
        *((f"trial {trial.id}", trial) for trial in result.trials),
        *((f"search {search.id}", search) for search in result.searches),
        *((f"check {number}", check) for number, check in enumerate(result.checks)),
    ]
    for called, part in parts:
        for what, names in known.items():
            name = getattr(part, what, None)
            if name is not None and name not in names:
                raise InputError(
                    f"the file is damaged: {called} has an unknown {what}",
                    file=file,
                    value=name,
                    expected="one of " + ", ".join(sorted(names)),
                )


def dump_result(result: Result) -> str:
    """The text of a result file: a line for each trial, search and check, to be found and compared.

    Ends with a newline. `parse_result` reads it back to an equal result.
    """
    values = result.model_dump(mode="json", by_alias=True)
    parts = []
    for key, value in values.items():
        if value and key in ("checks", "trials", "searches"):
            lines = ",\n  ".join(_line(one) for one in value)
            parts.append(f"{json.dumps(key)}: [\n  {lines}\n ]")
        else:
            parts.append(f"{json.dumps(key)}: {_line(value)}")
    return "{\n " + ",\n ".join(parts) + "\n}\n"


def save_result(result: Result, directory: str | Path) -> Path:
    """Writes `result.json` into the directory, made if need be; the file is whole or untouched."""
    where = Path(directory)
    where.mkdir(parents=True, exist_ok=True)
    return write_atomically(where / FILE_NAME, dump_result(result))


def write_atomically(path: Path, text: str) -> Path:
    """Writes a text file so that no reader ever sees half of it, not even after a crash."""
    with replacing(path) as file:
        file.write(text.encode())
    return path


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
