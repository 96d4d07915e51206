"""`testbed validate`, `graph` and `schema`: what can be said about a file without root."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import click

from testbed.cli import completing
from testbed.cli.options import file_options, format_option, one_file, topology_options
from testbed.errors import InputError
from testbed.naturally import naturally

_MOST_NAMES = 8

if TYPE_CHECKING:
    from testbed.scenario.model import Scenario
    from testbed.topology.model import Topology


@click.command()
@file_options(completing.files_or("topologies", "scenarios"))
@format_option
def validate(file: str | None, topology: str | None, format: str) -> None:
    """Check a topology or a scenario and show what it resolves to.

    FILE is a path, the name of a shipped topology (pair, highway, …) or scenario (batching, …), or
    - for a topology on stdin. Makes nothing and needs no rights. Ends with 2, and
    a line that names the place for everything that is wrong, where the file is not right.
    """
    from testbed import console
    from testbed.files.validation import FileError

    try:
        _validate(one_file(file, topology), format)
    except FileError as error:
        for problem in error.problems[:-1]:
            console.error(str(problem))
        raise error.problems[-1] from None


def _validate(given: str, format: str) -> None:
    if _is_scenario(given):
        from testbed.scenario.loader import load_scenario

        _print_scenario(load_scenario(given), format)
    else:
        from testbed.topology.loader import load_topology

        _print_topology(load_topology(given), format)


def _is_scenario(given: str) -> bool:
    """Whether that is a scenario; a path to no file is left to the topologies' loader to refuse."""
    from testbed import shipped
    from testbed.files import yamlfile
    from testbed.files.sort import is_scenario

    if given == yamlfile.STDIN:
        return False
    if os.path.isfile(given):
        return is_scenario(yamlfile.read(given, env=os.environ))
    if shipped.find("topologies", given) or not shipped.is_bare_name(given):
        return False
    if shipped.find("scenarios", given):
        return True
    told, expected = shipped.unknown(given, "topologies", "scenarios")
    raise InputError(told, file=given, expected=f"a file, - for standard input, or {expected}")


def _print_topology(loaded: Topology, form: str) -> None:
    from testbed import console

    if form == "json":
        console.print_json(loaded.to_json())
        return
    neighbours, hops = loaded.neighbours(), loaded.hops_to_rsu()
    console.print_table(
        ("node", "kind", "hears", "hops", "ipv4", "ipv6", "mac"),
        (
            (
                node.name,
                node.kind,
                _named(neighbours[node.name]),
                hops[node.name],
                str(node.ipv4),
                str(node.ipv6),
                node.mac,
            )
            for node in loaded.nodes
        ),
        spare=("mac", "ipv6", "ipv4"),
    )
    console.note(
        f"{loaded.name}: {len(loaded.rsus)} RSU, {len(loaded.obus)} OBU, "
        f"{len(loaded.links)} links, {len(loaded.segments)} segments: valid"
    )


def _named(nodes: Collection[str]) -> str | None:
    """Their names, or how many they are where nobody would read them."""
    if len(nodes) > _MOST_NAMES:
        return f"{len(nodes)} nodes"
    return ", ".join(sorted(nodes, key=naturally)) or None


def _print_scenario(scenario: Scenario, form: str) -> None:
    from testbed import console
    from testbed.checks.suite import rounds
    from testbed.experiment.progress import Pace
    from testbed.experiment.trialplan import plan_run

    plans = {form: plan_run(scenario, quick=form == "quick") for form in ("full", "quick")}
    extents = {
        form: {
            "trials": len(plan.trials),
            "searches": len(plan.searches),
            "measured_s": sum(trial.duration_s for trial in plan.trials),
            "estimated_s": round(
                Pace(scenario.extent(quick=form == "quick")).remaining_s(
                    plan.trials,
                    searches=len(plan.searches),
                    checks=rounds(len(scenario.variants)) if scenario.checks.which else 0,
                )
            ),
        }
        for form, plan in plans.items()
    }
    if form == "json":
        console.print_json(
            {
                "name": scenario.name,
                "description": scenario.description,
                "kind": scenario.kind,
                "topology": scenario.topology.to_json(),
                "points": [
                    {"name": point.name, "nodes": list(point.nodes), "path": point.path}
                    for point in scenario.points
                ],
                "loads": {load.name: load.rate_pps for load in scenario.loads},
                "variants": [
                    {"name": variant.name, "baseline": variant.baseline, **variant.overrides}
                    for variant in scenario.variants
                ],
                "checks": list(scenario.checks.which),
                "targets": list(scenario.targets),
                **extents,
            }
        )
        return
    if scenario.kind == "checks":
        console.print_table(
            ("variant", "checks"),
            ((variant.name, ", ".join(scenario.checks.which)) for variant in scenario.variants),
        )
        console.note(f"{scenario.name}: on {scenario.topology.name}, nothing timed: valid")
        return
    counted: dict[tuple[str, str | None, str, str], Counter[str]] = {}
    for form, plan in plans.items():
        places = [(trial.point, trial.load, trial.pass_, trial.variant) for trial in plan.trials]
        searched = [(search.point, None, "search", search.variant) for search in plan.searches]
        for place in (*places, *searched):
            counted.setdefault(place, Counter())[form] += 1
    console.print_table(
        ("point", "load", "pass", "variant", "how often", "if quick"),
        ((*place, times["full"], times["quick"]) for place, times in counted.items()),
    )
    console.note(
        f"{scenario.name}: on {scenario.topology.name}, {_extent(extents['full'])}; if quick, "
        f"{_extent(extents['quick'])}: valid"
    )


def _extent(extent: Mapping[str, float]) -> str:
    """How much that is, and how long it takes with its checks."""
    from testbed.report.wording import seconds

    trials, searches = int(extent["trials"]), int(extent["searches"])
    said = f"{trials} trials" + (f" and {searches} searches" if searches else "")
    # No better known than that.
    step_s = 60 if extent["estimated_s"] >= 180 else 10
    return f"{said} in about {seconds(step_s * max(1, round(extent['estimated_s'] / step_s)))}"


@click.command()
@topology_options
@click.option(
    "--format",
    type=click.Choice(("mermaid", "dot")),
    default="mermaid",
    show_default=True,
    help="Language of the drawing.",
)
def graph(file: str | None, topology: str | None, format: str) -> None:
    """Draw who hears whom, as Mermaid or Graphviz text on stdout."""
    from testbed import console
    from testbed.topology import graph as drawing
    from testbed.topology.loader import load_topology

    loaded = load_topology(one_file(file, topology))
    draw = drawing.mermaid if format == "mermaid" else drawing.dot
    console.print_text(draw(loaded))


@click.command()
@click.argument("what", type=click.Choice(("topology", "scenario")))
def schema(what: str) -> None:
    """Print the JSON Schema of a file format.

    Editors check and complete with it.
    """
    from testbed import console
    from testbed.schema import schema_for

    console.print_json(schema_for(what))


COMMANDS = (validate, graph, schema)
