"""Reads a node's log, from the end or all of it, and goes on as it grows.

Must not know what is in it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PAUSE_S = 0.1
_CHUNK_BYTES = 1 << 16


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
