"""Reads a node's log, from the end or all of it, and goes on as it grows.

Must not know what is in it, but that an agent knows its neighbours by MAC only.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

_PAUSE_S = 0.1
_CHUNK_BYTES = 1 << 16
_MAC = re.compile(rb"\b[0-9a-f]{2}(?::[0-9a-f]{2}){5}\b")


def with_names(parts: Iterable[bytes], names: Mapping[str, str]) -> Iterator[bytes]:
    """The same log with MACs replaced by `names`, by whole lines."""
    macs = {mac.encode(): name.encode() for mac, name in names.items()}
    pending = b""
    for part in parts:
        lines, newline, pending = (pending + part).rpartition(b"\n")
        yield _MAC.sub(lambda found: macs.get(found[0], found[0]), lines + newline)
    yield pending


def read(path: Path, *, tail: int | None) -> bytes:
    """The whole log, or its last `tail` lines; empty where there is none yet."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return b""
    return (
        data if tail is None else b"".join(data.splitlines(keepends=True)[-tail:] if tail else [])
    )


def follow(path: Path, *, tail: int | None) -> Iterator[bytes]:
    """The same, and then what is added, until the directory is gone; ends with the testbed."""
    yield read(path, tail=tail)
    with suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        while True:
            added = file.read(_CHUNK_BYTES)
            if added:
                yield added
                continue
            if path.stat().st_size < file.tell():
                file.seek(0)  # started anew
            time.sleep(_PAUSE_S)
