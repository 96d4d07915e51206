"""`testbed up` and `down`: a topology becomes real, and goes again without a trace."""

from __future__ import annotations

import click

from testbed.cli.options import duration, format_option, one_file, topology_options


@click.command()
@topology_options
@click.option("-n", "--name", metavar="NAME", help="Another name than the topology's own.")
@click.option(
    "--wait",
    type=duration,
    default="10s",
    show_default=True,
    help="How long agents have to be ready and OBUs to find an upstream; 0 does not wait.",
)
@click.option(
    "--dry-run", is_flag=True, help="Print what would be made, in order, and make nothing."
)
@format_option
def up(
    file: str | None,
    topology: str | None,
    name: str | None,
    wait: float,
    dry_run: bool,
    format: str,
) -> None:
    """Bring a topology up, or bring what runs in line with it.

    FILE is a path, the name of a shipped topology (pair, line, cell, highway), or - for stdin.
    What runs already under the same name is changed only where it differs. Whatever goes wrong
    half-way, or Ctrl-C, undoes what was begun.
    """
    from testbed import console
    from testbed.loader import load_topology

    loaded = load_topology(one_file(file, topology), name=name)


@click.command()
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--all", is_flag=True, help="Every testbed, and what crashed ones left.")
@format_option
def down(name: str | None, all: bool, format: str) -> None:
    """Take a testbed down; the one that runs, where there is only one.

    Removes what carries its mark and nothing else, whatever state it is in. Twice is fine.
    """


COMMANDS = (up, down)
