"""What goes into a container and comes out of it: a scenario with the files that it names; results.

Inside, everything has the path that it has here, so that a message about a file is true on both
sides. Must not know any engine, nor what a file means.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from testbed.errors import InputError, TestbedError
from testbed.files import variables, yamlfile

_YAML = {".yaml", ".yml"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Parcel:
    """Files to copy in, by absolute path, and the variables that they refer to."""

    files: tuple[Path, ...] = ()
    environment: Mapping[str, str]


def pack(scenario: str, *, env: Mapping[str, str]) -> Parcel:
    """The scenario's file and every file that it names, looked for where the loader would.

    A shipped one needs no file: the image has its own.

    :raises InputError: it comes from standard input, or a file cannot be read.
    """
    if scenario == yamlfile.STDIN:
        raise InputError("standard input does not reach a container", expected="a file")
    files: dict[Path, None] = {}
    named: set[str] = set()
    waiting = [Path(scenario).absolute()] if os.path.isfile(scenario) else []
    while waiting:
        path = waiting.pop()
        if path in files:
            continue
        files[path] = None
        if path.suffix in _YAML or str(path) == str(Path(scenario).absolute()):
            named |= variables.names(path.read_text(encoding="utf-8-sig"))
            document = yamlfile.read(path, env=env)
            for text in _texts(document.value):
                waiting += [one for one in (path.parent / text, Path(text).absolute()) if _is(one)]
    return Parcel(
        files=tuple(files), environment={name: env[name] for name in sorted(named & set(env))}
    )


def _is(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a text that cannot be a path at all
        return False


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


def archive(files: Iterable[Path]) -> bytes:
    """A tar archive of these files, to be unpacked at the root."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for path in files:
            data = path.read_bytes()
            entry = tarfile.TarInfo(str(Path(os.path.normpath(path)).relative_to("/")))
            entry.size, entry.mode = len(data), path.stat().st_mode & 0o777
            tar.addfile(entry, io.BytesIO(data))
    return made.getvalue()


def unpack(tar_file: IO[bytes], into: Path) -> list[Path]:
    """Write the files of a directory's archive into `into`; whoever calls owns them afterwards.

    Nothing outside `into` is written, whatever the archive says; what is no plain file is left out.

    :raises TestbedError: this is no archive, or it wants to go elsewhere.
    """
    written = []
    try:
        with tarfile.open(fileobj=tar_file) as tar:
            for entry in tar:
                parts = PurePosixPath(entry.name).parts[1:]
                if ".." in parts:
                    raise TestbedError(f"the container's archive goes elsewhere: {entry.name}")
                content = tar.extractfile(entry) if entry.isreg() else None
                if content is None or not parts:
                    continue
                path = into.joinpath(*parts)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.read())
                written.append(path)
    except tarfile.TarError as error:
        raise TestbedError(f"what came out of the container is no archive: {error}") from error
    return written
