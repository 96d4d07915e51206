"""`testbed-agent`: arguments and environment in, one `AgentConfig` out.

Must not know what an agent does. Bad input ends with status 2 and one line on stderr, a kernel or
rights that lack something with status 4; logs go to stderr.
"""

from __future__ import annotations

import grp
import json
import logging
import os
import pwd
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click

from agent import __version__
from agent.config import (
    COALESCE,
    DEFAULT_BATCH,
    DEFAULT_CACHED_CANDIDATES,
    DEFAULT_HELLO_HISTORY,
    DEFAULT_MTU,
    GROUP_COPIES,
    HANDLERS,
    AgentConfig,
    batch_sizes,
)
from agent.errors import AgentError, ConfigError

PROGRAM: Final = "testbed-agent"
_LEVELS: Final = ("trace", "debug", "info", "warning", "error")

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _option(*names: str, **settings: Any) -> Callable[[_Command], _Command]:
    """A click option that can also be given as TESTBED_AGENT_… in the environment."""
    long = next(name for name in names if name.startswith("--"))
    stem = long.removeprefix("--").partition("/")[0]
    variable = "TESTBED_AGENT_" + stem.replace("-", "_").upper()
    settings.setdefault("show_default", settings.get("default") is not None)
    return click.option(*names, envvar=variable, show_envvar=True, **settings)


_NODE_OPTIONS: Final = (
    _option("--bind", "-b", metavar="IF", required=True, help="Radio interface."),
    _option(
        "--tap-name",
        "-t",
        metavar="NAME",
        help="Name of the TAP; the kernel's choice if not given.",
    ),
    _option(
        "--ip",
        "-i",
        "ip",
        metavar="ADDR",
        multiple=True,
        help="Address of the TAP, with or without a prefix length; may be repeated.",
    ),
    _option("--mtu", "-m", type=int, default=DEFAULT_MTU, help="MTU of the TAP."),
    _option(
        "--hello-history", type=int, default=DEFAULT_HELLO_HISTORY, help="Heartbeats remembered."
    ),
    _option(
        "--cached-candidates",
        type=int,
        default=DEFAULT_CACHED_CANDIDATES,
        help="Upstreams kept, the current one among them.",
    ),
)
_OWN_OPTIONS: Final = (
    _option(
        "--engine",
        "wire_engine",
        metavar="NAME",
        default="auto",
        help="I/O engine of the radio side; see `testbed-agent engines`.",
    ),
    _option("--tap-engine", metavar="NAME", default="auto", help="I/O engine of the TAP side."),
    _option(
        "--handler",
        type=click.Choice(HANDLERS),
        default="auto",
        help="auto: batched if the radio's engine batches.",
    ),
    _option("--batch", type=int, default=DEFAULT_BATCH, help="Most frames in one batch."),
    _option(
        "--adaptive-batch",
        metavar="MIN..MAX",
        help="Let the size of batches follow the load between these two; starts at --batch.",
    ),
    _option(
        "--coalesce",
        type=click.Choice(COALESCE),
        help="Whether frames wait for others: after each wake-up, or where that saves wake-ups; "
        "fixed if there is a --max-wait.",
    ),
    _option(
        "--max-wait",
        "max_wait_us",
        metavar="US",
        type=int,
        default=0,
        help="Longest that a frame may wait for others, in µs.",
    ),
    _option(
        "--group-copies",
        type=click.Choice(GROUP_COPIES),
        default="reference",
        help="What group traffic to OBUs several hops away carries as its destination.",
    ),
    _option("--tap-mac", metavar="MAC", help="MAC address of the TAP."),
    _option(
        "--quiet-tap/--no-quiet-tap", default=False, help="Keep IPv6 start-up traffic off the TAP."
    ),
    _option("--name", metavar="NAME", default="", help="Name in logs and statistics."),
    _option("--control", "control_path", metavar="PATH", help="Unix socket for requests."),
    _option(
        "--metrics",
        metavar="ADDR:PORT",
        help="Where HTTP serves what is counted: /metrics for Prometheus, /stats as JSON.",
    ),
    _option(
        "--stats-file",
        "stats_path",
        metavar="PATH",
        help="Where to write the counters at the end, as JSON.",
    ),
    _option("--user", metavar="NAME[:GROUP]", help="User to become once everything is open."),
    _option("--event-fd", type=int, metavar="FD", help="Descriptor for events as JSON lines."),
    _option(
        "--log-level", type=click.Choice(_LEVELS), default="info", help="Least severity logged."
    ),
)


def _with(options: Sequence[Callable[[_Command], _Command]]) -> Callable[[_Command], _Command]:
    def apply(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return apply


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=False,
)
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
def cli() -> None:
    """One node of a vehicular network: an on-board unit or a roadside unit.

    Runs in the foreground, in the network namespace where it is started, until SIGINT or SIGTERM.
    """


@cli.command()
@_with(_NODE_OPTIONS)
@_with(_OWN_OPTIONS)
def obu(**given: Any) -> int:
    """Run an on-board unit."""
    return _run("obu", given)


@cli.command()
@_with(_NODE_OPTIONS)
@_option(
    "--hello-periodicity",
    "-p",
    "hello_periodicity_ms",
    metavar="MS",
    type=int,
    required=True,
    help="Time between two heartbeats, in ms.",
)
@_with(_OWN_OPTIONS)
def rsu(**given: Any) -> int:
    """Run a roadside unit."""
    return _run("rsu", given)


@cli.command()
@_option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    help="Form of the output.",
)
def engines(form: str) -> int:
    """List the I/O engines: what works here and, where one does not, why not."""
    from agent.engines.registry import probe_all

    found = {
        name: {
            str(side): {
                "available": probe.available,
                "why_not": probe.why_not,
                "note": probe.note,
            }
            for side, probe in by_side.items()
        }
        for name, by_side in probe_all().items()
    }
    if form == "json":
        click.echo(json.dumps(found, indent=1))
        return 0
    width = max(len(name) for name in found)
    click.echo(f"{'engine':{width}}  side  available")
    for name, by_side in found.items():
        for side, probe in by_side.items():
            verdict = "yes" if probe["available"] else f"no: {probe['why_not']}"
            if probe["available"] and probe["note"]:
                verdict += f": {probe['note']}"
            click.echo(f"{name:{width}}  {side:4}  {verdict}")
    return 0


def _run(kind: str, given: dict[str, Any]) -> int:
    from agent.runtime import run_agent

    level = str(given.pop("log_level")).upper()
    user = given.pop("user")
    given["ip"] = tuple(given["ip"])
    if given["adaptive_batch"] is not None:
        given["adaptive_batch"] = batch_sizes(given["adaptive_batch"])
    config = AgentConfig(
        kind="rsu" if kind == "rsu" else "obu",
        run_as=None if user is None else _ids(user),
        **given,
    )
    label = config.name or f"{PROGRAM} {kind}"
    logging.basicConfig(level=level, stream=sys.stderr, format=f"{label}: %(message)s")
    return run_agent(config)


def _ids(text: str) -> tuple[int, int]:
    """uid and gid of NAME, UID, NAME:GROUP or UID:GID; a user's own group where none is given."""
    user, _, group = text.partition(":")
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
        uid, gid = entry.pw_uid, entry.pw_gid
    except KeyError as error:
        if not (user.isdecimal() and group):
            raise ConfigError(f"user: there is no user {user!r}") from error
        uid, gid = int(user), 0
    if group:
        try:
            gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
        except KeyError as error:
            raise ConfigError(f"user: there is no group {group!r}") from error
    return uid, gid


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    try:
        status = cli.main(args=arguments, prog_name=PROGRAM, standalone_mode=False)
    except click.ClickException as error:
        where = PROGRAM
        if isinstance(error, click.UsageError) and error.ctx is not None:
            where = error.ctx.command_path
        # One line, whatever click made of it.
        click.echo(f"{where}: {' '.join(error.format_message().split())}", err=True)
        return 2
    except click.Abort:
        return 130
    except AgentError as error:
        click.echo(f"{PROGRAM}: {error}", err=True)
        return error.exit_code
    except BrokenPipeError:
        # Nobody reads our output any more; keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status if isinstance(status, int) else 0


if __name__ == "__main__":
    sys.exit(main())
