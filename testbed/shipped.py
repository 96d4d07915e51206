"""The topologies and scenarios that come with the testbed, found by bare name.

They stand beside the packages in a source tree, and inside this package once it is installed.
Must not know what is in them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

Sort = Literal["topologies", "scenarios"]

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
