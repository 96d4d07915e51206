"""A file that is whole, or what it was before, whoever reads it and whatever ends its writer.

Must not know what is written.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """What is written there takes the place of `path` at the end of the body, if that went well.

    :raises OSError: it cannot be written; `filename` is that of `path`.
    """
    try:
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(draft, 0o644)
            os.replace(draft, path)
        except BaseException:
            os.unlink(draft)
            raise
    except OSError as error:
        # The draft's name is nobody's business, and a full disk does not tell any.
        error.filename, error.filename2 = str(path), None
        raise
