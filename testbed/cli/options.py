"""Arguments and options that several commands share, each described in one place.

Must not know what a command does with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from testbed.cli import completing
from testbed.cli.completing import Completer

F = TypeVar("F", bound=Callable[..., Any])

FORMATS = ("table", "json")


def duration(text: str) -> float:
    """A time with its unit (`500ms`, `10s`), in seconds; as the `type` of an option."""
    from testbed.files.units import UnitError, duration_s

    try:
        return duration_s(text)
    except UnitError as error:
        raise click.BadParameter(f"{text!r}: {error}.") from error


def format_option(function: F) -> F:
    """`--format table|json`, for everything that lists."""
    return click.option(
        "--format",
        type=click.Choice(FORMATS),
        default="table",
        show_default=True,
        help="Form of the answer on stdout.",
    )(function)


def name_option(function: F) -> F:
    """`-n/--name`, for every command on a running testbed."""
    return click.option(
        "-n",
        "--name",
        metavar="NAME",
        envvar="TESTBED_NAME",
        shell_complete=completing.testbeds,
        help="Which testbed; the one that runs, where there is only one.",
    )(function)


def file_options(offered: Completer) -> Callable[[F], F]:
    """A file as argument or as `-t/--topology`; a shell offers those that `offered` finds."""

    def decorate(function: F) -> F:
        function = click.option(
            "-t",
            "--topology",
            metavar="FILE",
            shell_complete=offered,
            help="Topology file, name of a shipped one, or - for stdin; the same as FILE.",
        )(function)
        return click.argument("file", metavar="[FILE]", required=False, shell_complete=offered)(
            function
        )

    return decorate


topology_options = file_options(completing.files_or("topologies"))
"""A topology as argument or as `-t/--topology`."""


def one_file(file: str | None, topology: str | None) -> str:
    """The file of `file_options`, which must have been given once."""
    if file is not None and topology is not None:
        raise click.UsageError("FILE is given twice, as an argument and with -t/--topology.")
    given = file if file is not None else topology
    if given is None:
        raise click.UsageError("Which topology? Name a FILE, a shipped one (pair), or - for stdin.")
    return given
