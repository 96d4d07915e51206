"""Makes docs/cli.md from the parser: `python -m testbed.cli.reference > docs/cli.md`.

Must not know any command by name. A test compares the file with what this makes.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator

import click

from testbed.cli.main import EXIT_CODES, cli

_HEAD = """# Command line

Made from the parser by `python -m testbed.cli.reference`; edit the commands, not this file.

Data goes to stdout, progress and errors to stderr. An error is one line, `error: …`.
"""


def reference() -> str:
    """The whole page."""
    context = click.Context(cli, info_name="testbed", **cli.context_settings)
    parts = [_HEAD, "## Exit codes and environment\n", f"```text\n{_plain(EXIT_CODES)}\n```\n"]
    parts.extend(_commands(cli, context))
    return "\n".join(parts)


def _commands(group: click.Group, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is not None and not command.hidden:
            below = click.Context(command, info_name=name, parent=context)
            yield from _command(command, below)
            if isinstance(command, click.Group):
                yield from _commands(command, below)


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"## {context.command_path.partition(' ')[2]}\n"
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```text\n{context.command_path} {usage}\n```\n"
    yield _plain(command.help or "") + "\n"
    options = [
        parameter
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.hidden
    ]
    if options:
        yield "| option | environment | meaning |\n|---|---|---|"
        for option in options:
            yield _option(option, context)
        yield ""


def _option(option: click.Option, context: click.Context) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    if isinstance(option.type, click.Choice):
        names += " " + " ∣ ".join(f"`{choice}`" for choice in option.type.choices)
    elif not option.is_flag:
        names += f" {option.metavar or str(option.type.name).upper()}"
    meaning = option.help or ""
    if option.show_default and not option.is_flag:
        meaning += f" Default: `{option.default}`."
    variable = f"`{context.auto_envvar_prefix}_{(option.name or '').upper()}`"
    if isinstance(option.envvar, str):
        variable = f"`{option.envvar}`, {variable}"
    return f"| {names} | {variable} | {meaning} |"


def _plain(text: str) -> str:
    """Help text without click's marks for paragraphs that keep their lines."""
    return inspect.cleandoc(text).replace("\b\n", "").strip()


if __name__ == "__main__":
    sys.stdout.write(reference())
