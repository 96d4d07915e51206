"""`testbed inspect`, `exec`, `logs` and `ping`: a look into a running testbed."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from testbed.cli import completing
from testbed.cli.options import duration, format_option, name_option

if TYPE_CHECKING:
    from testbed.running.inspect import NodeView, TestbedView

_SPARE = ("ipv6", "pid", "engines", "ipv4", "rsu", "hops")
"""What is left out where there is no room, the first first."""
_NAMED = 5
"""So many nodes are named in an error; the table has all."""
NOT_FOUND = 127
"""What shells end with where there is no such command."""


@click.command()
@name_option
@click.argument("node", required=False, shell_complete=completing.nodes)
@click.option("--stats", is_flag=True, help="Show all that the NODE counts, too.")
@click.option("--all", is_flag=True, help="List the testbeds that are up instead.")
@format_option
def inspect(name: str | None, node: str | None, stats: bool, all: bool, format: str) -> None:
    """Show what runs: nodes, their upstreams and engines.

    All of a testbed, or one NODE. For each node its state, its upstream, the RSU behind that and
    the hops to it, the engines that it really uses, and in words what is wrong with it. Of a
    program that is a node only what can be seen from outside is shown. For one
    node also its routes and what else could be its upstream; with --stats its packets, batches,
    system calls, wake-ups, drops and queues. Calls saved are packets less
    calls, which is below 0 where calls found nothing. JSON has everything.

    Ends with 3 where a node that is shown is not ready, or has no upstream though it could.
    """
    from testbed import console
    from testbed.cli import running
    from testbed.errors import InputError
    from testbed.running import inspect as looking
    from testbed.running.running import NotRunning

    if all:
        if name is not None or node is not None or stats:
            raise click.UsageError("--all is about every testbed.")
        running.require_root()
        found = looking.summaries()
        if format == "json":
            console.print_json([summary.to_json() for summary in found])
            return
        console.print_table(
            ("testbed", "complete", "launcher", "nodes", "ready", "obus", "joined"),
            (
                (
                    one.name,
                    one.complete,
                    "alive" if one.launcher_alive else "gone",
                    one.nodes,
                    one.ready,
                    one.obus,
                    one.joined,
                )
                for one in found
            ),
        )
        return
    if stats and node is None:
        raise click.UsageError("--stats is about one NODE.")
    chosen = running.named_or_only(name)
    try:
        view = looking.inspect(chosen, stats=node is not None or format == "json")
    except NotRunning:
        raise running.not_up(chosen) from None
    if node is None:
        if format == "json":
            console.print_json(view.to_json())
        else:
            _print_nodes(view.nodes)
            if not view.complete:
                console.note(f"{view.name} is being made or changed, or that was cut short")
        _check(view, view.nodes)
        return
    known = {one.name: one for one in view.nodes}
    if node not in known:
        raise InputError(
            f"testbed {view.name} has no such node",
            value=node,
            expected="one of " + ", ".join(known),
        )
    if format == "json":
        console.print_json(asdict(known[node]))
    else:
        from testbed.cli import nodeview

        names = {one.mac: one.name for one in view.nodes}
        shown = nodeview.tables(known[node], names, stats=stats)
        for number, (columns, rows) in enumerate(shown):
            if number:
                console.print_text("")
            console.print_table(columns, rows)
        if stats and known[node].stats is None:
            console.note(f"of {node} no counts are shown: {_why_uncounted(known[node])}")
    _check(view, (known[node],))


def _why_uncounted(node: NodeView) -> str:
    if node.program is not None:
        return "it is a program, and only our agents count for us"
    return "its agent does not run" if node.pid is None else "its agent does not answer"


def _check(view: TestbedView, shown: tuple[NodeView, ...]) -> None:
    """`Missed` where a node that was shown is not as `up` waits for it to be."""
    from testbed.errors import Missed

    wrong = [node for node in shown if not node.ok]
    if wrong:
        told = [f"{one.name}: {one.why or one.state}" for one in wrong[:_NAMED]]
        told += [f"and {len(wrong) - _NAMED} more"] if len(wrong) > _NAMED else []
        raise Missed(f"{view.name} is up, but not all of it: {'; '.join(told)}")


def _print_nodes(nodes: tuple[NodeView, ...]) -> None:
    from testbed import console

    wrong = any(node.why for node in nodes)
    restarted = any(node.restarts for node in nodes)
    columns = ("node", "kind", "state", "upstream", "rsu", "hops", "engines", "ipv4", "ipv6", "pid")
    console.print_table(
        (*columns, *(("restarts",) if restarted else ()), *(("why",) if wrong else ())),
        (
            (
                node.name,
                node.kind,
                node.state,
                None if node.upstream is None else node.upstream.node,
                None if node.upstream is None else node.upstream.rsu,
                None if node.upstream is None else node.upstream.hops,
                _engines(node),
                node.ipv4,
                node.ipv6,
                node.pid,
                *((node.restarts,) if restarted else ()),
                *((node.why,) if wrong else ()),
            )
            for node in nodes
        ),
        spare=_SPARE,
    )


def _engines(node: NodeView) -> str | None:
    """`mmsg / per-packet`: what is used on the wire and on the TAP; of a program, its name."""
    if node.program is not None:
        return f"program {os.path.basename(node.program[0])}"
    told = node.engines
    if not told:
        return None
    return " / ".join(str(told.get(side, {}).get("used", "–")) for side in ("wire", "tap"))


class _OptionsOnBothSides(click.Command):
    """Options stand before NODE or behind it, but before the command, which has its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given, _, _ = self.make_parser(ctx).parse_args(list(args))
        # What stands for "not given" is another thing in each version of click.
        behind = list(given["command"]) if isinstance(given.get("command"), tuple) else []
        node = len(args) - len(behind) - 1
        moved = 0
        # No command begins with a dash. What is `-n` alone has its value in the next word.
        while moved < len(behind) and behind[moved].startswith("-") and behind[moved] != "--":
            moved += 2 if behind[moved] in ("-n", "--name") else 1
        if moved > len(behind):
            args = [*args[:node], *behind]  # click says that the value is missing
        elif moved:
            args = [*args[:node], *behind[:moved], args[node], *behind[moved:]]
        return super().parse_args(ctx, args)


@click.command("exec", cls=_OptionsOnBothSides, context_settings={"allow_interspersed_args": False})
@name_option
@click.argument("node", shell_complete=completing.nodes)
@click.argument(
    "command",
    nargs=-1,
    required=True,
    type=click.UNPROCESSED,
    shell_complete=completing.files_or(),
)
def exec_(name: str | None, node: str, command: tuple[str, ...]) -> None:
    """Run a command in a node: NODE -- COMMAND ARGS.

    The command takes this one's place, with its streams and its terminal; its exit code is the
    exit code. What it leaves running ends with `testbed down`.
    """
    # Options of the command are not ours, so the parser stops at NODE and leaves the dashes.
    if command[0] == "--":
        command = command[1:]
    if not command:
        raise click.UsageError("Which command? NODE -- COMMAND ARGS.")

    from testbed import console
    from testbed.cli.running import check_node, not_up, topology_of
    from testbed.errors import Lacking
    from testbed.kernel import netns, processes
    from testbed.running import journal

    run, topology = topology_of(name)
    check_node(topology, node)
    state = journal.read(run.journal)
    if state is None:
        raise not_up(run.name)
    ip = shutil.which("ip")
    if ip is None:
        raise Lacking("no program ip", "apt-get install iproute2")
    if shutil.which(command[0]) is None:
        console.error(f"{command[0]}: no such command")
        raise click.exceptions.Exit(NOT_FOUND)
    environment = os.environ | {
        processes.MARK_VARIABLE: processes.mark(run.path, state.header.nonce)
    }
    sys.stdout.flush()
    # As ip-netns(8) enters it: with /sys and /etc/resolv.conf of the namespace.
    namespace = netns.namespace_name(run.name, node)
    os.execve(ip, (ip, "netns", "exec", namespace, *command), environment)


@click.command()
@name_option
@click.argument("node", shell_complete=completing.nodes)
@click.option("-f", "--follow", is_flag=True, help="Go on as it grows, until the testbed is down.")
@click.option("--tail", type=click.IntRange(min=0), metavar="LINES", help="Only the last lines.")
def logs(name: str | None, node: str, follow: bool, tail: int | None) -> None:
    """Print what a node wrote.

    Nodes of the testbed that an agent knows by MAC have their names here; the file in the run
    directory, and what a program writes, is as it was written.
    """
    from testbed.cli import logs as reading
    from testbed.cli.running import check_node, topology_of

    run, topology = topology_of(name)
    check_node(topology, node)
    path = run.node_log(node)
    parts = reading.follow(path, tail=tail) if follow else [reading.read(path, tail=tail)]
    if not topology.node(node).settings.is_program:
        parts = reading.with_names(parts, {one.mac: one.name for one in topology.nodes})
    for part in parts:
        sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()


@click.command()
@name_option
@click.argument("nodes", nargs=-1, metavar="[NODE]...", shell_complete=completing.nodes)
@click.option("-4", "--ipv4", is_flag=True, help="Only IPv4.")
@click.option("-6", "--ipv6", is_flag=True, help="Only IPv6.")
@click.option(
    "--rounds",
    type=click.IntRange(min=1, max=1000),
    default=3,
    show_default=True,
    help="Requests for each pair and direction.",
)
@click.option(
    "--timeout",
    type=duration,
    default="1s",
    show_default=True,
    help="How long an answer may take.",
)
@format_option
def ping(
    name: str | None,
    nodes: tuple[str, ...],
    ipv4: bool,
    ipv6: bool,
    rounds: int,
    timeout: float,
    format: str,
) -> None:
    """Find out who reaches whom, through the TAPs.

    Every node pings every other, or those named do, IPv4 and IPv6. Shows a matrix of round-trip
    times with losses. Up to 1000 requests go one after the other; more go several at once, and
    wait for each other. Ends with 3 where a node does not reach another.
    """
    from testbed import console
    from testbed.cli import reachability
    from testbed.cli.running import check_node, topology_of
    from testbed.errors import Missed
    from testbed.reach.reach import FAMILIES, in_flight_for, reach

    wanted = {4: ipv4, 6: ipv6}
    _, topology = topology_of(name)
    for node in nodes:
        check_node(topology, node)
    families = tuple(one for one in FAMILIES if wanted[one] or ipv4 == ipv6)
    asked = len(set(nodes)) or len(topology.nodes)
    with console.Steps() as steps:
        found = reach(
            topology,
            nodes=nodes or None,
            families=families,
            rounds=rounds,
            timeout_s=timeout,
            in_flight=in_flight_for(rounds * len(families) * asked * (asked - 1)),
            progress=lambda done, total: steps.step("pinged", done=done, total=total),
        )
    if format == "json":
        console.print_json(found.to_json())
    else:
        for family in found.families:
            console.print_text(reachability.caption(found, family))
            console.print_table(*reachability.table(found, family))
    if not found.complete:
        raise Missed(reachability.missing(found))


COMMANDS = (inspect, exec_, logs, ping)
