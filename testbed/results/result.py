"""A whole run: one versioned JSON file from which every report is made.

Must not know how a trial is run, how a figure is judged, or how a report looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeVar

from pydantic import ConfigDict, Field

from testbed.results.base import Model
from testbed.results.check import Check
from testbed.results.described import Environment, Load, Point, Scenario, Variant
from testbed.results.search import Search
from testbed.results.trial import Trial

FORMAT: Final = "testbed-result"
SCHEMA: Final = 2
"""The version of the schema that this program writes; it reads this one and all older ones."""


class Result(Model):
    """A whole run."""

    format: Literal["testbed-result"] = "testbed-result"
    schema_: int = Field(default=SCHEMA, alias="schema")
    started: str
    finished: str | None
    elapsed_s: float
    interrupted: bool = False
    seed: int
    scenario: Scenario
    topology: dict[str, Any]
    environment: Environment
    checks: list[Check] = []
    trials: list[Trial]
    searches: list[Search] = []
    notes: list[str] = []

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True
    )

    def load(self, name: str) -> Load:
        """The load level of that name; KeyError where there is none."""
        return _named(self.scenario.loads, name)

    def point(self, name: str) -> Point:
        """The measured point of that name; KeyError where there is none."""
        return _named(self.scenario.points, name)

    def variant(self, name: str) -> Variant:
        """The variant of that name; KeyError where there is none."""
        return _named(self.scenario.variants, name)

    @property
    def baseline(self) -> Variant:
        return next(variant for variant in self.scenario.variants if variant.baseline)


_Named = TypeVar("_Named", Load, Point, Variant)


def _named(things: list[_Named], name: str) -> _Named:
    for thing in things:
        if thing.name == name:
            return thing
    raise KeyError(name)


def result_schema() -> Mapping[str, Any]:
    """The JSON Schema of a result file."""
    return Result.model_json_schema(by_alias=True)
