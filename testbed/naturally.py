"""Names in the order in which people count: o2 before o10.

Must not know what bears the names.
"""

from __future__ import annotations

import re

_NUMBER = re.compile(r"([0-9]+)")


def naturally(name: str) -> tuple[tuple[str, int], ...]:
    """The key to sort names by: text as text, and each number behind it as a number."""
    parts = _NUMBER.split(name)
    return tuple(zip(parts[::2], [*map(int, parts[1::2]), -1], strict=True))
