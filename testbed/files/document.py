"""A file's values with the line that each of them stands on, whatever the file's syntax was.

Must not know YAML or the meaning of a value; it only lets a check point at the place in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from testbed.errors import InputError

STDIN_NAME: Final = "<stdin>"
"""What standard input is called where a file has its name."""

Place = tuple[str | int, ...]
"""Where a value stands: keys of mappings and indices of lists, from the top."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """The mapping that a file holds. `file` is its name for messages, `lines` count from 1."""

    file: str
    value: dict[str, Any]
    lines: Mapping[Place, int]

    def line(self, place: Place) -> int:
        """The line of that value, or of the nearest one around it that is in the file."""
        while place not in self.lines:
            place = place[:-1]
        return self.lines[place]

    def error(
        self, place: Place, message: str, *, value: object = None, expected: str | None = None
    ) -> InputError:
        """An error at that value, ready to be raised."""
        return InputError(
            message, file=self.file, line=self.line(place), value=value, expected=expected
        )


def kind_of(value: object) -> str:
    """What sort of value that is, in words for a message."""
    if value is None:
        return "blank"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return "true or false"
    return "a number" if isinstance(value, int | float) else "text"


def dotted(place: Place) -> str:
    """The place as text for a message: `topology.links[0].endpoints`."""
    text = ""
    for step in place:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text
