"""Settings that a file says in vain: of a program to our agent, of our agent to a program.

Must not know where in a file the settings stand, only where within them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from testbed.files.document import Place
from testbed.topology.model import NodeSettings
from testbed.topology.placeholders import names_in

OF_PROGRAMS: Final[Mapping[str, Place]] = {
    "env": ("env",),
    "ready": ("ready",),
    "ready_within_ms": ("ready", "within"),
    "stop": ("stop",),
    "user": ("user",),
}
"""Fields of `NodeSettings` that are about programs alone, and where files have them."""

OF_AGENTS: Final[Mapping[str, Place]] = {
    "hello_history": ("hello", "history"),
    "cached_candidates": ("cached_candidates",),
    "mtu": ("mtu",),
    "engine_wire": ("engine",),
    "engine_tap": ("engine",),
    "handler": ("handler",),
    "batch": ("batch",),
    "adaptive_batch": ("adaptive_batch",),
    "coalesce": ("coalesce",),
    "max_wait_us": ("max_wait",),
    "group_copies": ("group_copies",),
    "metrics": ("metrics",),
}
"""Fields that a program is told only by its command line. The period of heartbeats is not among
them: how long a testbed waits for a node depends on it as well."""


InVain: TypeAlias = tuple[Place, str, str]
"""Where a setting stands, why it has no effect, and what was expected."""


def without_effect(told: Mapping[str, object], effective: NodeSettings) -> Iterator[InVain]:
    """Which of the settings `told` to a node have no effect on it, all in all told `effective`.

    `told` are fields of `NodeSettings`, as they stand nearest to the node: what came from further
    away is meant for many nodes, and need not concern this one.
    """
    if not effective.is_program:
        for field, place in OF_PROGRAMS.items():
            if field in told:
                yield place, "is about a program, and our agent runs here", "a command as well"
        return
    if "command" not in told:
        return
    used = _named(effective)
    if used & {"engine_wire", "engine_tap"}:
        # A word for the engine is of the wire and of the TAP, and one of them is enough.
        used |= {"engine_wire", "engine_tap"}
    for field, place in OF_AGENTS.items():
        if field in told and field not in used:
            yield (
                place,
                "says nothing to this program",
                f"{{{field}}} in its command or env, or no such setting beside it",
            )


def heeded(settings: NodeSettings) -> dict[str, Any]:
    """The settings that reach what runs as the node: of a program, those that its command names."""
    told = settings.to_json()
    of_agents = {key: value for key, value in told.items() if key not in ("command", *OF_PROGRAMS)}
    if not settings.is_program:
        return of_agents
    used = _named(settings)
    return {key: value for key, value in of_agents.items() if key in used}


def _named(settings: NodeSettings) -> frozenset[str]:
    """The placeholders in a program's command line and environment."""
    templates = [*settings.command, *(value for _, value in settings.env)]
    return frozenset().union(*map(names_in, templates))
