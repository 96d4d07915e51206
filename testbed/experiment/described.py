"""A scenario as its result describes it: overrides applied, nothing left to default.

Pure. Must not know what comes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from testbed import results
from testbed.running.plan import program
from testbed.scenario.model import Extent, Point, Scenario, Searching, Variant, shortfalls
from testbed.topology.effect import heeded


def described(scenario: Scenario, *, quick: bool) -> results.Scenario:
    """The scenario as it is run."""
    extent = scenario.extent(quick=quick)
    points = [scenario.point(name) for name in extent.points]
    return results.Scenario(
        name=scenario.name,
        description=scenario.description,
        kind=scenario.kind,
        form=extent.form,
        pairs=extent.pairs,
        warm_up_s=extent.warm_up_s,
        loads=[
            results.Load(
                name=load.name,
                rate_pps=load.rate_pps,
                duration_s=extent.trial_s[load.name],
                burst=load.burst,
                steps_pps=list(load.steps_pps),
            )
            for load in scenario.loads
        ],
        points=[
            results.Point(
                name=point.name,
                nodes=list(point.nodes),
                node_kind=(
                    scenario.topology.node(point.nodes[0]).kind if point.ends is None else "path"
                ),
                path=point.path,
                ends=None if point.ends is None else list(point.ends),
                tester_at=point.tester_at,
                node_cpu=point.node_cpu,
            )
            for point in points
        ],
        frame_bytes=list(extent.frame_bytes),
        flows=scenario.flows,
        variants=[_variant(scenario, variant, points, extent) for variant in scenario.variants],
        counting_s=None if extent.counting is None else extent.counting.trial_s,
        searching=None if extent.searching is None else _searching(extent.searching),
        targets=list(scenario.targets),
        shortfalls=list(shortfalls(scenario, quick=quick)),
        source=scenario.source,
        text=scenario.text,
    )


def _variant(
    scenario: Scenario, variant: Variant, points: Sequence[Point], extent: Extent
) -> results.Variant:
    node = (
        scenario.topology.node(points[0].nodes[0])
        if points
        else next(one for one in scenario.topology.nodes if one.kind in scenario.checks.kinds)
    )
    settings = variant.settings(node)
    command = None
    if settings.is_program:
        made = program(scenario.topology.name, node, settings)
        command = results.Command(argv=list(made.argv), env=dict(made.env))
    return results.Variant(
        name=variant.name,
        baseline=variant.baseline,
        settings=heeded(settings),
        passes=[
            name for name in variant.passes if name != "search" or extent.searching is not None
        ],
        command=command,
    )


def _searching(searching: Searching) -> results.Searching:
    values = asdict(replace(searching, goals={}))
    del values["points"]
    return results.Searching(**{**values, "goals": dict(searching.goals)})
