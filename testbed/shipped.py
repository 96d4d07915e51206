"""The topologies and scenarios that come with the testbed, found by bare name.

They stand beside the packages in a source tree, and inside this package once it is installed.
Must not know what is in them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final, Literal

from testbed.errors import InputError
from testbed.files import yamlfile
from testbed.files.fields import did_you_mean

Sort = Literal["topologies", "scenarios"]

_ONE: Final[dict[Sort, str]] = {"topologies": "topology", "scenarios": "scenario"}

_COMMAND: Final[dict[Sort, str]] = {"topologies": "up", "scenarios": "run"}

_BARE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_PACKAGE = Path(__file__).resolve().parent


def is_bare_name(text: str) -> bool:
    """Whether that is a name such as `pair`, and no path or file name."""
    return _BARE_NAME.fullmatch(text) is not None


def folder(sort: Sort, *, package: Path = _PACKAGE) -> Path | None:
    """The folder that they are in, None where none came along. `package` is testbed's own."""
    installed = package / "share" / sort
    if installed.is_dir():
        return installed
    source = package.parent
    if (source / "pyproject.toml").is_file() and (source / sort).is_dir():
        return source / sort
    return None


def names(sort: Sort, *, package: Path = _PACKAGE) -> list[str]:
    """The bare names of all of them, sorted."""
    where = folder(sort, package=package)
    return [] if where is None else sorted(path.stem for path in where.glob("*.yaml"))


def find(sort: Sort, name: str, *, package: Path = _PACKAGE) -> Path | None:
    """The file of that bare name, None where there is none."""
    where = folder(sort, package=package)
    if where is None or not is_bare_name(name):
        return None
    path = where / f"{name}.yaml"
    return path if path.is_file() else None


def is_shipped(path: str | Path) -> bool:
    """Whether that is the very file that some bare name stands for."""
    stem = Path(path).stem
    return any(find(sort, stem) == Path(path) for sort in _ONE)


def locate(sort: Sort, given: str | Path) -> str | Path:
    """The file that a user means: itself where there is one, else the shipped one of that name.

    What is no bare name, or standard input, is given back as it is. Raises `InputError`.
    """
    text = str(given)
    if text == yamlfile.STDIN or os.path.isfile(given) or not is_bare_name(text):
        return given
    found = find(sort, text)
    if found is not None:
        return found
    other: Sort = "scenarios" if sort == "topologies" else "topologies"
    if find(other, text) is not None:
        raise InputError(f"{text} is a {_ONE[other]}: `testbed {_COMMAND[other]} {text}`")
    told, expected = unknown(text, sort)
    raise InputError(told, file=text, expected=f"a file, - for standard input, or {expected}")


def unknown(text: str, *sorts: Sort) -> tuple[str, str]:
    """The words for a name that is neither a file's nor a shipped one's, and which there are."""
    kinds = " or ".join(_ONE[sort] for sort in sorts)
    known = sorted({name for sort in sorts for name in names(sort)})
    return (
        f"there is no such file, and no shipped {kinds} of that name{did_you_mean(text, known)}",
        "one of " + ", ".join(known),
    )
