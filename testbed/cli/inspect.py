"""`testbed inspect`, `exec`, `logs` and `ping`: a look into a running testbed."""

from __future__ import annotations

import os
import shutil
import sys

import click

from testbed.cli.options import name_option

NOT_FOUND = 127
"""What shells end with where there is no such command."""


@click.command(
    "exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@name_option
@click.argument("node")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(name: str | None, node: str, command: tuple[str, ...]) -> None:
    """Run a command in a node's namespace: NODE -- COMMAND ARGS…

    The command takes this one's place, with its streams and its terminal; its exit code is the
    exit code. What it leaves running ends with `testbed down`.
    """
    # Options of the command are not ours, so the parser stops at NODE and leaves the dashes.
    if command[0] == "--":
        command = command[1:]
    if not command:
        raise click.UsageError("Which command? NODE -- COMMAND ARGS…")

    from testbed import console, journal, netns, processes
    from testbed.cli.running import check_node, topology_of
    from testbed.errors import InputError, Lacking

    run, topology = topology_of(name)
    check_node(topology, node)
    state = journal.read(run.journal)
    if state is None:
        raise InputError("no testbed of that name is up", value=run.name)
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
@click.argument("node")
@click.option("-f", "--follow", is_flag=True, help="Go on as it grows, until the testbed is down.")
@click.option("--tail", type=click.IntRange(min=0), metavar="LINES", help="Only the last lines.")
def logs(name: str | None, node: str, follow: bool, tail: int | None) -> None:
    """Print what a node's agent wrote."""
    from testbed.cli import logs as reading
    from testbed.cli.running import check_node, topology_of

    run, topology = topology_of(name)
    check_node(topology, node)
    path = run.node_log(node)
    for part in reading.follow(path, tail=tail) if follow else [reading.read(path, tail=tail)]:
        sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()


COMMANDS = (exec_, logs)
