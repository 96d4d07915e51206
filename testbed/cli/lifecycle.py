"""`testbed up` and `down`: a topology becomes real, and goes again without a trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from testbed.cli import completing
from testbed.cli.options import (
    duration,
    format_option,
    name_option,
    one_file,
    topology_options,
)

if TYPE_CHECKING:
    from testbed.running.lifecycle import UpReport
    from testbed.topology.model import Topology


@click.command()
@topology_options
@click.option(
    "-n",
    "--name",
    metavar="NAME",
    shell_complete=completing.testbeds,
    help="Another name than the topology's own.",
)
@click.option(
    "--wait",
    type=duration,
    default="10s",
    show_default=True,
    help="How long agents have to be ready and OBUs to find an upstream.",
)
@click.option(
    "--restart/--no-restart",
    default=True,
    show_default=True,
    help="Start a node again that dies, with growing pauses.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be done, in order, and do nothing.")
@format_option
def up(
    file: str | None,
    topology: str | None,
    name: str | None,
    wait: float,
    restart: bool,
    dry_run: bool,
    format: str,
) -> None:
    """Bring a topology up, or bring what runs in line with it.

    FILE is a path, the name of a shipped topology (pair, line, cell, highway), or - for stdin.
    What runs already under the same name is changed only where it differs. Whatever goes wrong
    half-way, or Ctrl-C, undoes what was begun. Prints how long each phase took.

    Ends with 3 where a node is not ready, or has no upstream, when the time to --wait is over; the
    testbed is up all the same.
    """
    from testbed import console
    from testbed.errors import Missed
    from testbed.topology.loader import load_topology

    loaded = load_topology(one_file(file, topology), name=name)
    if dry_run:
        _print_plan(loaded, format)
        return

    from testbed.running import lifecycle

    with console.Steps() as steps:

        def progress(phase: str, done: int, total: int) -> None:
            steps.step(phase, done=done, total=total, told=f"{done}/{total}")

        with lifecycle.up(loaded, wait_s=wait, progress=progress, restart=restart) as running:
            report = running.report
    if report is None:
        raise AssertionError("`up` reports what it did")
    _print_report(loaded, report, format)
    for warning in report.warnings:
        console.note(f"warning: {warning}")
    if report.not_ready:
        raise Missed(
            f"{loaded.name} is up, but not all of it within {wait:g} s: "
            + "; ".join(str(node) for node in report.not_ready)
        )
    console.note(f"{loaded.name} is up: {len(loaded.nodes)} nodes in {report.seconds:.2f} s")


def _print_report(topology: Topology, report: UpReport, form: str) -> None:
    from testbed import console

    if form == "json":
        console.print_json(
            {
                "name": topology.name,
                "seconds": report.seconds,
                "phases": [
                    {"name": phase.name, "seconds": phase.seconds, "count": phase.count}
                    for phase in report.phases
                ],
                "reconciled": report.reconciled,
                "made": report.made,
                "removed": report.removed,
                "kept": report.kept,
                "not_ready": [{"node": one.node, "why": one.why} for one in report.not_ready],
                "warnings": list(report.warnings),
            }
        )
        return
    console.print_table(
        ("phase", "count", "ms"),
        ((phase.name, phase.count, round(phase.seconds * 1000)) for phase in report.phases),
    )


def _print_plan(topology: Topology, form: str) -> None:
    from testbed import console
    from testbed.cli import planned

    steps = planned.steps(topology)
    if form == "json":
        console.print_json([step.to_json() for step in steps])
        return
    if not steps:
        console.note(f"nothing to do: {topology.name} is up as the file has it")
        return
    console.print_table(
        ("do", "what", "details"), ((step.do, step.key, step.details) for step in steps)
    )


@click.command()
@name_option
@click.argument("testbed", metavar="[NAME]", required=False, shell_complete=completing.testbeds)
@click.option("--all", is_flag=True, help="Every testbed, and what crashed ones left.")
@format_option
@click.pass_context
def down(ctx: click.Context, testbed: str | None, name: str | None, all: bool, format: str) -> None:
    """Take a testbed down; the one that runs, where there is only one.

    Removes what carries its mark and nothing else, whatever state it is in. Twice is fine. With
    --all also containers of `run --container` whose command is gone, where an engine answers.
    """
    from testbed import console
    from testbed.cli import running
    from testbed.errors import TestbedError
    from testbed.running import lifecycle

    if ctx.get_parameter_source("name") is ParameterSource.ENVIRONMENT and (testbed or all):
        name = None  # what is usual gives way to what is said
    if testbed is not None and name is not None:
        raise click.UsageError("NAME is given twice, as an argument and with -n/--name.")
    name = testbed or name
    if name is not None and all:
        raise click.UsageError("NAME and --all are given together.")
    # Containers first: they need a right to the engine, not root.
    containers = _remove_containers() if all else []
    running.require_root()
    up_before = running.names()
    if all:
        removed = lifecycle.down_all()
    elif name is None and not up_before:
        removed = lifecycle.Removed()
    else:
        removed = lifecycle.down(running.named_or_only(name))
    if format == "json":
        console.print_json(
            {
                "testbeds": list(removed.testbeds),
                "namespaces": list(removed.namespaces),
                "processes": removed.processes,
                "containers": containers,
                "left": list(removed.left),
                "remaining": list(removed.remaining),
            }
        )
    for left in removed.left:
        console.note(f"left alone: {left}")
    if all and (still := running.names()):
        raise TestbedError(f"still up: {', '.join(still)}")
    if removed.testbeds or removed.namespaces or removed.processes:
        console.note(
            f"down: {', '.join(removed.testbeds) or 'what was left of earlier ones'} "
            f"({len(removed.namespaces)} namespaces, {removed.processes} processes)"
        )
    elif name is not None and up_before:
        console.note(f"no testbed {name} is up (up: {', '.join(up_before)})")
    elif not containers and not removed.remaining:
        console.note("nothing was up")
    if removed.remaining:
        raise TestbedError(f"not everything went: {'; '.join(removed.remaining)}")


def _remove_containers() -> list[str]:
    """Those that an earlier `run --container` left with the engine, if there is any."""
    from testbed import console
    from testbed.container import session
    from testbed.container.engine import Engine
    from testbed.errors import TestbedError

    if not Engine.expected():
        return []
    try:
        with Engine.connect() as engine:
            removed, left = session.sweep(engine)
    except TestbedError as error:
        console.note(f"containers were not looked for: {error}")
        return []
    if removed:
        console.note(f"removed containers: {', '.join(removed)}")
    for name in left:
        console.note(f"left alone: container {name}, whose command runs or is out of sight")
    return removed


COMMANDS = (up, down)
