"""Options that put a command into a container, and what of its other options goes along.

Must not know the command's options: whatever `run` has, the one inside has as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

if TYPE_CHECKING:
    from testbed.container.session import Ended

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_IMAGE: Final = "testbed"
_ARGUMENTS: Final = "testbed.arguments"
_OWN: Final = {"container", "privileged", "output"}
"""Options that are for this side, or that `order` says anew."""


class Contained(click.Command):
    """A command that remembers its arguments as they were written."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)


def container_options(function: F) -> F:
    """`--container [IMAGE]` and `--privileged`."""
    function = click.option(
        "--privileged",
        is_flag=True,
        help="With --container: all rights instead of the few by name.",
    )(function)
    return click.option(
        "--container",
        is_flag=False,
        flag_value=DEFAULT_IMAGE,
        metavar="[IMAGE]",
        help=f"In a container of that image ({DEFAULT_IMAGE} if not given), which goes afterwards.",
    )(function)


def check(container: str | None, privileged: bool) -> None:
    """Refuse `--privileged` by itself."""
    if privileged and container is None:
        raise click.UsageError("--privileged is for a container, and --container is not given.")


def is_written_with_equals(ctx: click.Context) -> bool:
    """Whether the image is certainly one: `--container=IMAGE`, or from the environment."""
    return "--container" not in ctx.meta[_ARGUMENTS]


def run_scenario(
    ctx: click.Context,
    image: str,
    scenario: str,
    output: Path,
    *,
    read: Iterable[str],
    env: Mapping[str, str],
    result: str,
    privileged: bool,
) -> NoReturn:
    """`run` of this scenario in a container; the results end up in `output`.

    `read` and `env` are the files and variables that it consists of, `result` is the file that a
    run writes in any case. Ends with the exit code of the run inside.
    """
    from testbed.container import inside, parcel
    from testbed.errors import Missed, TestbedError

    ended = run(
        ctx,
        image,
        arguments=(scenario, f"--output={inside.RESULTS}"),
        privileged=privileged,
        files=parcel.pack(scenario, read=read, env=env),
        results=output,
        shown=str(output),
    )
    if ended.status in (0, Missed.exit_code) and output / result not in ended.brought:
        raise TestbedError(
            f"the run in the container ended with {ended.status}, but has left no {result}: "
            f"what the image {image} runs may be something else"
        )
    ctx.exit(ended.status)


def run(
    ctx: click.Context,
    image: str,
    *,
    privileged: bool,
    arguments: Sequence[str] = (),
    **order: Any,
) -> Ended:
    """The same command in a container, with its options and these arguments.

    `order` is what an `Order` has more.
    """
    from testbed import console
    from testbed.container import session
    from testbed.container.rights import Rights

    made = session.Order(
        arguments=(ctx.info_name or "", *forwarded(ctx), *arguments),
        image=image,
        rights=Rights(privileged=privileged),
        **order,
    )
    return session.run(made, say=console.note)


def forwarded(ctx: click.Context) -> Iterator[str]:
    """The options that were given, on the command line or in the environment, as arguments."""
    given, _, _ = ctx.command.make_parser(ctx).parse_args(list(ctx.meta[_ARGUMENTS]))
    for option in ctx.command.params:
        if not isinstance(option, click.Option) or option.name in _OWN or option.name is None:
            continue
        name = max(option.opts, key=len)
        value = given.get(option.name)
        if value is None:
            value = option.resolve_envvar_value(ctx)
        if value is None:
            continue
        if option.is_flag:
            # In the environment a flag is a word, such as 1 or false.
            if option.type_cast_value(ctx, value):
                yield name
            continue
        for one in value if isinstance(value, list | tuple) else (value,):
            yield f"{name}={one}"
