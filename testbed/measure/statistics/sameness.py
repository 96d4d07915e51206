"""Whether two runs may be compared: the same machine, the same scenario, a machine left alone.

Must not know how they are compared. What forbids a comparison is raised; what it must be read with
is told in words.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Any, Final

from testbed.errors import InputError
from testbed.results import Environment, Result, Trial

_MEMORY_TOLERANCE: Final = 0.02
"""The kernel keeps a little for itself, and not always the same."""
DISTURBED: Final = 0.20
"""A node that waited for its CPU longer than this share of the time was disturbed. On a virtual
machine left alone it was 1 to 13 %, beside other work 30 to 70 %."""


def different_machine(old: Result, new: Result) -> tuple[str, ...]:
    """In which of its features the machine is another one; empty where it may be the same."""
    a, b = old.environment, new.environment
    said = [
        f"{what}: {_of(a, key)} and {_of(b, key)}"
        for key, what in (
            ("machine", "architecture"), ("cpu_model", "CPU"), ("cpus", "number of CPUs"),
            ("virtualisation", "virtual machine"),
        )
        if getattr(a, key) != getattr(b, key)
    ]  # fmt: skip
    apart = abs(a.memory_total_bytes - b.memory_total_bytes)
    if apart > _MEMORY_TOLERANCE * max(a.memory_total_bytes, b.memory_total_bytes):
        said.append(
            f"memory: {a.memory_total_bytes >> 20} MiB and {b.memory_total_bytes >> 20} MiB"
        )
    return tuple(said)


def refuse_different_scenario(old: Result, new: Result) -> None:
    """Raises InputError where the two did not measure the same thing at all."""
    for what, one, other in (
        ("the kind of measurement", old.scenario.kind, new.scenario.kind),
        ("the topology", old.topology.get("name"), new.topology.get("name")),
        ("the set of nodes", _nodes(old), _nodes(new)),
        ("the number of flows", old.scenario.flows, new.scenario.flows),
        ("the baseline", old.baseline.name, new.baseline.name),
    ):
        if one != other:
            raise InputError(
                f"the two results cannot be compared: {what} differs",
                value=other,
                expected=str(one),
            )


def cautions(old: Result, new: Result) -> Iterator[str]:
    """What differs between the two runs and may be the cause of a change, or hide one."""
    a, b = old.environment, new.environment
    for key, what in (
        ("kernel", "kernel"), ("cpu_governor", "CPU governor"), ("python", "Python"),
        ("tester_cpus", "CPUs of the tester"), ("node_cpus", "CPUs of the nodes"),
    ):  # fmt: skip
        if getattr(a, key) != getattr(b, key):
            yield f"The {what} differs: {_of(a, key)} and {_of(b, key)}."
    if a.mitigations != b.mitigations:
        yield "The mitigations of the CPU differ."
    changed = [
        f"{name} {a.versions.get(name, 'none')} and {b.versions.get(name, 'none')}"
        for name in sorted({*a.versions, *b.versions})
        if a.versions.get(name) != b.versions.get(name)
    ]
    if changed:
        yield f"Versions differ: {', '.join(changed)}."
    yield from _scenario(old, new)
    for which, run in (("old", old), ("new", new)):
        if run.interrupted:
            yield f"The {which} run was stopped before its end."
        yield from (f"In the {which} run: {note}." for note in run.notes)


def _scenario(old: Result, new: Result) -> Iterator[str]:
    a, b = old.scenario, new.scenario
    if a.form != b.form:
        yield f"The old run is the {a.form} form, the new one the {b.form} form."
    if a.warm_up_s != b.warm_up_s:
        yield f"The warm-up differs: {a.warm_up_s:g} s and {b.warm_up_s:g} s."
    theirs = {variant.name: variant for variant in b.variants}
    for variant in a.variants:
        other = theirs.get(variant.name)
        if other is None:
            continue
        keys = sorted({*variant.settings, *other.settings})
        changed = [
            f"{key} {variant.settings.get(key)} and {other.settings.get(key)}"
            for key in keys
            if variant.settings.get(key) != other.settings.get(key)
        ]
        if changed:
            yield f"The variant {variant.name} was told other things: {', '.join(changed)}."
        if variant.command != other.command:
            yield f"The variant {variant.name} is another command."


def waited_share(trials: Sequence[Trial]) -> float | None:
    """How much of the time the node was ready and waited for its CPU, the median over trials."""
    shares = [
        trial.node.cpu.run_delay_ns / trial.node.cpu.window_ns
        for trial in trials
        if trial.counts
        and trial.node is not None
        and trial.node.cpu is not None
        and trial.node.cpu.run_delay_ns is not None
        and trial.node.cpu.window_ns
    ]
    return statistics.median(shares) if shares else None


def tester_us_per_packet(trials: Sequence[Trial]) -> list[float]:
    """CPU time of the generator for an offered packet: what a change of the node leaves alone."""
    return [
        trial.traffic.generator_busy * trial.traffic.duration_ns / 1e3 / trial.traffic.offered
        for trial in trials
        if trial.counts
        and trial.traffic is not None
        and trial.traffic.generator_busy
        and trial.traffic.offered
    ]


def _nodes(result: Result) -> Any:
    nodes = result.topology.get("nodes")
    if isinstance(nodes, dict):
        return sorted(nodes)
    if isinstance(nodes, list):
        return sorted(str(node.get("name")) for node in nodes if isinstance(node, dict))
    return None


def _of(environment: Environment, key: str) -> str:
    value = getattr(environment, key)
    return "none" if value is None else str(value)
