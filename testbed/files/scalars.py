"""What an unquoted scalar of YAML is, by the core schema of YAML 1.2 (section 10.3.2).

Must not know documents or places. A number of more digits than any value here needs stays text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_WORDS: Mapping[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
# Longer digits would only cost time: int() takes quadratic time, and no value here needs them.
_LONGEST_NUMBER = 40


def resolve(text: str) -> object:
    """What an unquoted scalar is in YAML 1.2: nothing, a truth value, a number, else text."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) <= _LONGEST_NUMBER:
        if _INT.fullmatch(text):
            return int(text)
        if _BASED.fullmatch(text):
            return int(text, 0)
        if _FLOAT.fullmatch(text):
            return float(text)
    return text
