"""What goes into a container and comes out of it: a scenario with the files that it names; results.

Inside, everything has the path that it has here, so that a message about a file is true on both
sides. Must not know any engine, nor what a file means.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

from testbed import shipped
from testbed.errors import InputError, TestbedError
from testbed.files import yamlfile
from testbed.wholefile import replacing

_MOUNTED: Final = frozenset(("/dev", "/proc", "/sys"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Parcel:
    """Files to copy in, by absolute path, and the variables that they refer to."""

    files: tuple[Path, ...] = ()
    environment: Mapping[str, str]


def pack(scenario: str, *, read: Iterable[str], env: Mapping[str, str]) -> Parcel:
    """The files that were read for a scenario, and every file that one of them names.

    `read` and `env` are those and the variables that they refer to, as its loader has found them. A
    shipped file stays here, since the image has its own; its variables go along.

    :raises InputError: it comes from standard input, or a file cannot be read or does not go in.
    """
    if scenario == yamlfile.STDIN:
        raise InputError("standard input does not reach a container", expected="a file")
    own = [scenario] if os.path.isfile(scenario) else []
    own += [path for path in read if not shipped.is_shipped(path)]
    files: dict[Path, None] = {}
    for name in own:
        path = Path(name).absolute()
        if (place := _hidden_by(path)) is not None:
            raise InputError(
                f"a container has a {place} of its own, and no file goes in there",
                file=name,
                expected="the file in another place",
            )
        files[path] = None
    for path in tuple(files):
        for text in _texts(yamlfile.read(path, env=env).value):
            for one in (path.parent / text, Path(text).absolute()):
                if _is(one) and _hidden_by(one) is None:
                    files[one] = None
    return Parcel(files=tuple(files), environment=dict(sorted(env.items())))


def _hidden_by(path: Path) -> str | None:
    """What of the container's own would be mounted over the file."""
    place = "/".join(os.path.normpath(path).split("/")[:2])
    return place if place in _MOUNTED else None


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
    """A tar archive of these files, to be unpacked at the root.

    Whatever way leads to a file here leads to it there. Directories that it only passes, as in
    `passed/../file`, are made; symbolic links to directories become directories.

    :raises InputError: with that, one path would be that of two files.
    """
    made = io.BytesIO()
    names: dict[str, str] = {}
    with tarfile.open(fileobj=made, mode="w") as tar:
        for path in files:
            name = os.path.normpath(path)
            real = os.path.realpath(path)
            if names.setdefault(name, real) != real:
                raise InputError(
                    "two files would have one path in a container, since one is reached by way of "
                    "a symbolic link",
                    file=str(path),
                    expected=f"another way than to {names[name]}",
                )
            for passed in _passed(path):
                entry = tarfile.TarInfo(os.path.normpath(passed).lstrip("/"))
                entry.type = tarfile.DIRTYPE
                entry.mode = passed.stat().st_mode & 0o7777 | 0o755
                tar.addfile(entry)
            data = path.read_bytes()
            entry = tarfile.TarInfo(name.lstrip("/"))
            entry.size, entry.mode = len(data), path.stat().st_mode & 0o777
            tar.addfile(entry, io.BytesIO(data))
    return made.getvalue()


def _passed(path: Path) -> Iterator[Path]:
    """The directories that the way to a file goes into and out of again."""
    for parent in reversed(path.parents):
        if parent.name == ".." and parent.parent.name != "..":
            yield parent.parent


def bring(tar_file: IO[bytes], into: Path) -> list[Path]:
    """`unpack`; what cannot be written there is kept elsewhere, since nobody can measure it again.

    :raises TestbedError: says where it is.
    """
    try:
        return unpack(tar_file, into)
    except (OSError, TestbedError) as error:
        said = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
        kept = _keep(tar_file)
        raise TestbedError(
            f"the results could not be written ({said}); a tar archive of them is in {kept}"
        ) from error


def _keep(tar_file: IO[bytes]) -> str:
    tar_file.seek(0)
    handle, path = tempfile.mkstemp(prefix="testbed-results-", suffix=".tar")
    with os.fdopen(handle, "wb") as file:
        shutil.copyfileobj(tar_file, file)
    return path


def unpack(tar_file: IO[bytes], into: Path) -> list[Path]:
    """Write the files of a directory's archive into `into`; whoever calls owns them afterwards.

    Nothing outside `into` is written, whatever the archive says; what is no plain file is left out.
    Each file is whole, or what it was before.

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
                with replacing(path) as file:
                    shutil.copyfileobj(content, file)
                written.append(path)
    except tarfile.TarError as error:
        raise TestbedError(f"what came out of the container is no archive: {error}") from error
    return written
