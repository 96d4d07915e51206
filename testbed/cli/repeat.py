"""The command lines that make a result again, as they would be typed here.

A result knows its scenario's file, its form and its seed; where it lies now, only whoever read it.
Must not know what a result says.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from testbed import shipped
from testbed.results import Result
from testbed.results.store import FILE_NAME

_USUAL_SEED = 1


def run_command(result: Result, place: str) -> str:
    """The `run` that made a result which was read from `place`, a file or its directory."""
    words = ["testbed", "run", _scenario(result)]
    if result.scenario.form == "quick":
        words.append("--quick")
    if result.seed != _USUAL_SEED:
        words += ["--seed", str(result.seed)]
    path = Path(place)
    if path.name == FILE_NAME:
        path = path.parent
    if path.suffix != ".json":
        words += ["--output", str(path)]
    return shlex.join(words)


def report_command(places: Sequence[str], form: str, output: str | None) -> str:
    """The `report` that makes this form of the results at these places."""
    return shlex.join(["testbed", "report", *places, "--format", form, *_to(output)])


def _to(output: str | None) -> Iterator[str]:
    if output is not None:
        yield from ("--output", output)


def _scenario(result: Result) -> str:
    """The file as it was given, or the bare name of a shipped scenario, wherever that lay."""
    source = result.scenario.source
    if source is None:
        return result.scenario.name
    path = Path(source)
    came_along = (
        path.is_absolute()
        and path.parent.name == "scenarios"
        and path.stem == result.scenario.name
        and shipped.find("scenarios", path.stem) is not None
    )
    return path.stem if came_along else source
