"""What a shell offers for a word that is not finished: files, shipped names, what runs, words.

Must not know which command asks. Nothing is said and nothing fails here: where it cannot be found
out what there is, nothing is offered, since whatever is printed now lands in a line being typed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    add_completion_class,
)

if TYPE_CHECKING:
    from testbed.shipped import Sort

Items = list[CompletionItem[str]]
Completer = Callable[[click.Context, click.Parameter, str], Items]


@add_completion_class
class FilesAndNames(BashComplete):
    """click's own, but files are offered beside names, not only where no name fits."""

    source_template = BashComplete.source_template.replace(
        "COMPREPLY=()\n            compopt -o default",
        'compopt -o filenames\n            COMPREPLY+=($(compgen -f -- "$value"))',
    )


@add_completion_class
class WholeDescriptions(FishComplete):
    """click's own, but a description goes on behind its first comma."""

    source_template = FishComplete.source_template.replace(
        'string split "," $completion', 'string split -m 1 "," $completion'
    )


def files_or(*sorts: Sort) -> Completer:
    """Files, and the names of what is shipped of these sorts."""

    def offer(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
        from testbed import shipped

        known = (name for sort in sorts for name in shipped.names(sort))
        return [CompletionItem(incomplete, type="file"), *_beginning(incomplete, known)]

    return offer


def testbeds(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """What is up, or was left by something that crashed."""
    from testbed.cli import running
    from testbed.errors import TestbedError

    with suppress(TestbedError, OSError):
        return _beginning(incomplete, running.names())
    return []


def nodes(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """The nodes of the testbed that was named before, or of the only one."""
    from testbed.cli.running import topology_of
    from testbed.errors import TestbedError

    with suppress(TestbedError, OSError):
        _, topology = topology_of(ctx.params.get("name"))
        said = ctx.params.get(parameter.name or "")
        taken = said if isinstance(said, tuple) else ()
        return _beginning(
            incomplete, (node.name for node in topology.nodes if node.name not in taken)
        )
    return []


def words(*known: str) -> Completer:
    """For an option that takes several of these, with commas between them."""

    def offer(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
        before, comma, last = incomplete.rpartition(",")
        taken = before.split(",")
        return [
            CompletionItem(f"{before}{comma}{word}")
            for word in known
            if word.startswith(last) and word not in taken
        ]

    return offer


def _beginning(incomplete: str, known: Iterable[str]) -> Items:
    return [CompletionItem(name) for name in known if name.startswith(incomplete)]
