"""What is wrong with a document, gathered until all of it can be said at once.

Must not know what is checked.
"""

from __future__ import annotations

from testbed.errors import InputError
from testbed.files.document import Document, Place, dotted
from testbed.files.validation import FileError


class Problems:
    """Gathers errors that know their line; true once there is one."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._found: list[InputError] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(
        self, place: Place, problem: str, *, value: object = None, expected: str | None = None
    ) -> None:
        """One more, at that place."""
        message = f"{dotted(place)}: {problem}" if place else problem
        self._found.append(self.document.error(place, message, value=value, expected=expected))

    def raise_any(self) -> None:
        """`FileError` with all of them, nothing where there is none."""
        if self._found:
            raise FileError(self._found)
