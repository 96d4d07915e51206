"""The root of the command line: its commands, and how any of them ends.

Must not know what the commands do. Everything that goes wrong in a known way ends here, as one line
on stderr and a documented exit code; what goes wrong in an unknown way keeps its traceback.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from agent import __version__
from testbed.cli import bench, completion, doctor, inspect, lifecycle, measure, topology
from testbed.cli.signals import StopSignals, exit_code
from testbed.container import inside
from testbed.errors import TestbedError

EXIT_CODES = """\b
Exit codes:
    0  done
    1  failed
    2  bad usage or bad file
    3  a target or threshold was missed, or a node is not ready or out of reach
    4  the kernel, a program or the rights lack something
  130  stopped with Ctrl-C, everything undone (143: by SIGTERM)
  141  whoever read the output went away (SIGPIPE)
`exec` ends with the exit code of its command.

Every option can be given as an environment variable: TESTBED_COMMAND_OPTION,
such as TESTBED_UP_WAIT=30s. TESTBED_NAME is -n/--name of every command on a
testbed that is up; TESTBED_RUN_DIR is where those are kept, in place of
/run/testbed."""


_UNCUT = 1000
"""Characters; no sentence is as long."""

_ELSEWHERE = {
    "capture": "`testbed exec NODE -- tcpdump -i radio0`",
    "link": "change the links in the file, and `testbed up FILE` does what is different",
    "top": "`testbed inspect NODE --stats`",
}
"""Commands that others of this kind have, and what there is here instead."""


class _ReaderGone(Exception):
    """Whoever read what is printed has seen enough. No OSError, which click would end with 1."""


@contextmanager
def _reader_gone() -> Iterator[None]:
    """A broken pipe, and what rich makes of one, as `_ReaderGone`."""
    try:
        yield
    except BrokenPipeError as error:
        raise _ReaderGone from error
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):
            raise _ReaderGone from end
        raise


class _Root(click.Group):
    def make_context(self, *args: Any, **more: Any) -> click.Context:
        with _reader_gone():
            return super().make_context(*args, **more)

    def invoke(self, ctx: click.Context) -> Any:
        with _reader_gone():
            return super().invoke(ctx)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not ctx.resilient_parsing and args[0] in _ELSEWHERE:
            ctx.fail(f"No such command {args[0]!r}; instead: {_ELSEWHERE[args[0]]}.")
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Root,
    context_settings={
        "auto_envvar_prefix": "TESTBED",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
    epilog=EXIT_CODES,
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """OBUs and RSUs in Linux network namespaces, and what batching their I/O is worth."""


def _add(group: click.Group, commands: Iterable[click.Command]) -> None:
    """With the whole first sentence in lists of commands, which click would cut by its length."""
    for command in commands:
        command.short_help = command.get_short_help_str(limit=_UNCUT)
        group.add_command(command)
        if isinstance(command, click.Group):
            _add(command, tuple(command.commands.values()))


for _module in (lifecycle, inspect, topology, measure, bench, doctor, completion):
    _add(cli, _module.COMMANDS)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The entry point of `testbed`; `arguments` are those of the process where not given."""
    StopSignals().install()
    try:
        with _reader_gone():
            status = _status(arguments)
            sys.stdout.flush()
    except _ReaderGone:
        _end_as_its_reader_did()
    sys.exit(status)


def _end_as_its_reader_did() -> NoReturn:
    """By SIGPIPE, as every tool that is cut short by `head`."""
    # What is left in the buffers has nowhere to go, and Python would complain of that.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.raise_signal(signal.SIGPIPE)
    # The first process of a container does not die of it.
    sys.exit(128 + signal.SIGPIPE)


def _status(arguments: Sequence[str] | None) -> int:
    try:
        # Where whoever holds the container is gone already, this ends like any other command.
        inside.hold()
        status = cli.main(arguments, prog_name="testbed", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as shown:
        shown.show()
        return 2
    except click.UsageError as error:
        _error(_usage(error))
        return 2
    except click.ClickException as error:
        _error(error.format_message())
        return error.exit_code
    except TestbedError as error:
        _error(str(error))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as stop:
        if not inside.is_contained():
            # Of a container, who asked it to stop says so.
            _error("stopped")
        # click turns every KeyboardInterrupt into an exception of its own.
        return exit_code(stop.__cause__ if isinstance(stop, click.Abort) else stop)
    except BrokenPipeError:
        raise
    except OSError as error:
        place = f"{error.filename}: " if error.filename is not None else ""
        _error(f"{place}{error.strerror or error}")
        return 1
    except MemoryError:
        _error("out of memory")
        return 1
    return status if isinstance(status, int) else 0


def _usage(error: click.UsageError) -> str:
    message = error.format_message()
    if error.ctx is None:
        return message
    return f"{message} See: {error.ctx.command_path} --help"


def _error(message: str) -> None:
    from testbed import console

    console.error(message)
