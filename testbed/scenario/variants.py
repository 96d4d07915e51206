"""From the variants of a scenario file to the ones that are compared: inherited and swept.

Must not know the rest of the scenario: it gets the names of the loads, and where to put problems.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

from pydantic import TypeAdapter, ValidationError

from testbed.files.document import Place
from testbed.files.fields import did_you_mean
from testbed.files.problems import Problems
from testbed.scenario.file import VariantBody
from testbed.scenario.model import PASSES, PassName, Variant
from testbed.topology.effect import InVain, without_effect
from testbed.topology.model import Node
from testbed.topology.settings import Settings, said

_OF_PROGRAMS = ("command", "env", "ready", "stop", "user")
"""They say together which program runs and how: a variant for each says it better."""
_SWEPT = tuple(name for name in Settings.model_fields if name not in _OF_PROGRAMS)


def unknown(problems: Problems, place: Place, name: str, known: Sequence[str], what: str) -> None:
    """Adds that a name is none of the known ones."""
    problems.add(
        place,
        f"there is no such {what}{did_you_mean(name, known)}",
        value=name,
        expected="one of " + ", ".join(known) if known else None,
    )


def known_names(
    wanted: Sequence[str] | None,
    known: Sequence[str],
    what: str,
    *,
    problems: Problems,
    place: Place,
) -> tuple[str, ...]:
    """The wanted names in the order of the known ones; all where none are named."""
    for index, name in enumerate(wanted or ()):
        if name not in known:
            unknown(problems, (*place, index), name, known, what)
    if wanted is not None and not wanted:
        problems.add(place, "is empty", expected=f"at least one {what}")
    return tuple(name for name in known if wanted is None or name in wanted)


def expand_variants(
    bodies: Mapping[str, VariantBody],
    problems: Problems,
    loads: Sequence[str],
    nodes: Sequence[Node],
    *,
    compared: bool = True,
) -> Iterator[Variant]:
    """Every variant, in the order of the file; errors go to `problems`.

    `nodes` are those under test: what a variant says must mean something to one of them. Where
    variants are not `compared` with each other there may be one, and the first is the baseline if
    none says that it is.
    """
    place: Place = ("variants",)
    baselines = [name for name, body in bodies.items() if body.baseline]
    first = next(iter(bodies), None) if not compared and not baselines else None
    if bodies and len(baselines) != 1 and first is None:
        problems.add(
            place,
            f"{' and '.join(baselines)} are baselines" if baselines else "none is the baseline",
            expected="baseline: true at exactly one variant",
        )
    if compared and len(bodies) == 1 and not next(iter(bodies.values())).sweep:
        problems.add(place, "one variant only", expected="at least two to compare")
    names: set[str] = set()
    for name in bodies:
        for variant in _Expansion(bodies, problems, loads, nodes, name).variants():
            if variant.name in names:
                problems.add((*place, name), f"there are two variants {variant.name!r}")
            names.add(variant.name)
            yield replace(variant, baseline=True) if name == first and len(names) == 1 else variant


class _Expansion:
    """One variant of the file with what it inherits and sweeps."""

    def __init__(
        self,
        bodies: Mapping[str, VariantBody],
        problems: Problems,
        loads: Sequence[str],
        nodes: Sequence[Node],
        name: str,
    ) -> None:
        self._bodies = bodies
        self._problems = problems
        self._loads = loads
        self._nodes = nodes
        self._name = name
        self._body = bodies[name]
        self._place: Place = ("variants", name)

    def variants(self) -> Iterator[Variant]:
        """The variants that it stands for: one, or one for each combination of swept values."""
        inherited = self._inherited()
        if inherited is None:
            return
        only = self._body.only
        loads = known_names(
            only.loads,
            self._loads,
            "load of this scenario",
            problems=self._problems,
            place=(*self._place, "only", "loads"),
        )
        if self._body.baseline and self._body.sweep:
            self._problems.add((*self._place, "sweep"), "the baseline is one variant, not several")
            return
        in_vain: dict[InVain, None] = {}
        for suffix, swept in self._swept():
            variant = Variant(
                name=self._name + suffix,
                baseline=self._body.baseline,
                overrides=said([*swept, *inherited]),
                passes=cast(tuple[PassName, ...], tuple(only.passes or PASSES)),
                loads=None if only.loads is None else loads,
            )
            in_vain.update(dict.fromkeys(self._in_vain(variant)))
            yield variant
        for place, problem, expected in in_vain:
            where = ("sweep", *place) if place[0] in self._body.sweep else place
            self._problems.add((*self._place, *where), problem, expected=expected)

    def _in_vain(self, variant: Variant) -> Iterator[InVain]:
        """What it says that has no effect on any node under test."""
        everywhere: dict[InVain, int] = {}
        for node in self._nodes:
            for found in without_effect(variant.overrides, variant.settings(node)):
                everywhere[found] = everywhere.get(found, 0) + 1
        return (found for found, times in everywhere.items() if times == len(self._nodes))

    def _inherited(self) -> list[Settings] | None:
        """Its own settings, then those of what it is like, and so on; None where that fails."""
        layers: list[Settings] = [self._body]
        place: Place = (*self._place, "like")
        seen, above = {self._name}, self._body
        while above.like is not None:
            if above.like not in self._bodies:
                unknown(self._problems, place, above.like, list(self._bodies), "variant")
                return None
            if above.like in seen:
                self._problems.add(place, "goes round in a circle", value=above.like)
                return None
            seen.add(above.like)
            above = self._bodies[above.like]
            layers.append(above)
        return layers

    def _swept(self) -> list[tuple[str, list[Settings]]]:
        """A name's ending and the settings for each combination of swept values."""
        axes: list[list[tuple[str, Settings]]] = []
        for key, given in self._body.sweep.items():
            place: Place = (*self._place, "sweep", key)
            if key in _OF_PROGRAMS:
                self._problems.add(place, "is not swept", expected="a variant for each value")
                continue
            if key not in _SWEPT:
                unknown(self._problems, place, key, _SWEPT, "setting of a node")
                continue
            if not given:
                self._problems.add(place, "has no values", expected="a list of values")
            layers = [self._layer(key, value, (*place, at)) for at, value in enumerate(given)]
            axes.append(
                [
                    (f"-{value}", layer)
                    for value, layer in zip(given, layers, strict=True)
                    if layer is not None
                ]
            )
        return [
            ("".join(suffix for suffix, _ in chosen), [layer for _, layer in chosen])
            for chosen in itertools.product(*axes)
        ]

    def _layer(self, key: str, value: object, place: Place) -> Settings | None:
        try:
            return TypeAdapter(Settings).validate_python({key: value})
        except ValidationError as error:
            context = error.errors(include_url=False)[0].get("ctx", {})
            self._problems.add(
                place,
                str(context.get("problem", "not a value of this setting")),
                value=None if isinstance(value, dict | list) else value,
                expected=context.get("expected"),
            )
            return None
