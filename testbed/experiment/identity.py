"""What makes a run the one that it is, and whether another is the same.

A run goes on only with the same scenario, plan, seed and program, on the same machine. Must not
know what was made in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import agent
import testbed
from testbed.errors import InputError
from testbed.results import Environment, Scenario


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What a run is, as its first line says it; a run that goes on has to be the same.

    `file` is the scenario's file, None where it came from standard input. `plan` and `code` are
    digests of the planned trials and of the program, `machine_id` is the machine's own number.
    """

    started: str
    seed: int
    file: str | None
    scenario: Scenario
    topology: Mapping[str, Any]
    environment: Environment
    plan: str
    code: str
    machine_id: str | None

    def to_json(self) -> dict[str, Any]:
        values: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        for name in ("scenario", "environment"):
            values[name] = values[name].model_dump(mode="json", by_alias=True)
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """What `to_json` made; KeyError or ValueError if it did not."""
        found = {name: values[name] for name in cls.__slots__}
        found["scenario"] = Scenario.model_validate(found["scenario"])
        found["environment"] = Environment.model_validate(found["environment"])
        return cls(**found)


def require_same(now: Header, then: Header, *, file: str) -> None:
    """Both are the same run, on the same machine, by the same program.

    :raises InputError: says what has changed, from what to what.
    """
    for what, name in (("the scenario", "scenario"), ("the topology", "topology")):
        before, after = then.to_json()[name], now.to_json()[name]
        # Where the file lies, and by which way it was found, does not matter, only what it says.
        before, after = ({**values, "source": None} for values in (before, after))
        _refuse(what, before, after, file)
    _refuse("the plan of trials", then.plan, now.plan, file)
    _refuse("the seed", then.seed, now.seed, file)
    _refuse("the program", then.code, now.code, file)
    before, after = (_machine(header) for header in (then, now))
    _refuse("the machine", before, after, file)


def code_digest() -> str:
    """A text that is different where the program is: of its version and all its source."""
    digest = hashlib.sha256(testbed.__version__.encode())
    for package in (agent, testbed):
        assert package.__file__ is not None
        folder = Path(package.__file__).parent
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"\0{path.relative_to(folder)}\0".encode())
            digest.update(path.read_bytes())
    return f"{testbed.__version__}-{digest.hexdigest()[:16]}"


def machine_id() -> str | None:
    """The number that this installation has since it was made (machine-id(5))."""
    try:
        return Path("/etc/machine-id").read_text().strip() or None
    except OSError:
        return None


def _machine(header: Header) -> dict[str, Any]:
    """What must be the same for trials to be of one run; how busy the machine was need not be."""
    values = header.environment.model_dump(mode="json", exclude={"load_average", "devices"})
    return {**values, "machine_id": header.machine_id}


def _refuse(what: str, then: object, now: object, file: str) -> None:
    for place, before, after in _differences(then, now, ""):
        where = f", at {place}" if place else ""
        raise InputError(
            f"{what} has changed since the run began{where}: it cannot go on",
            file=file,
            value=after,
            expected=f"{before!r}, or a new run" if len(repr(before)) <= 80 else "a new run",
        )


def _differences(then: object, now: object, place: str) -> Iterator[tuple[str, object, object]]:
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for key in [*then, *(key for key in now if key not in then)]:
            yield from _differences(
                then.get(key), now.get(key), f"{place}.{key}" if place else str(key)
            )
    elif then != now:
        yield place, then, now
