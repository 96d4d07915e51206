"""`${NAME}` and `${NAME:=default}` inside a text, replaced by the values of variables.

Must not know files or YAML: a wrong reference raises `VariableError`, the caller adds the place.

A variable that is set but empty counts as unset where there is a default, as in sh(1). `:-` says
the same as `:=`, since nothing is assigned here. `$${` stands for a literal `${`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_REFERENCE = re.compile(
    r"(?P<escaped>\$\$\{)"
    r"|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:[=-](?P<value>[^{}]*))?\}"
    r"|(?P<broken>\$\{[^}]*\}?)"
)


class VariableError(ValueError):
    """A reference that cannot be replaced. `expected` says what would have been right."""

    def __init__(self, problem: str, reference: str, expected: str) -> None:
        super().__init__(f"{problem}; expected {expected}")
        self.problem = problem
        self.reference = reference
        self.expected = expected


class AskedFor(Mapping[str, str]):
    """The same variables; remembers which of them were asked for and are there."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        """Nothing is asked for yet."""
        self._variables = variables
        self.found: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        value = self.found[name] = self._variables[name]
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)


def expand(text: str, variables: Mapping[str, str]) -> str:
    """The text with every reference replaced, once: what a value brings is not expanded again."""

    def replace(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "${"
        if match["broken"]:
            raise VariableError(
                "a variable that cannot be read",
                match["broken"],
                "${NAME} or ${NAME:=default}, and $${ for a literal ${",
            )
        name = match["name"]
        value = variables.get(name)
        if match["default"] is not None:
            return value or match["value"]
        if value is None:
            raise VariableError(
                f"the variable {name} is not set",
                match[0],
                f"{name} in the environment, or a default as in ${{{name}:=value}}",
            )
        return value

    return _REFERENCE.sub(replace, text)
