"""`testbed run` and `report`: a measurement, and what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from testbed.results import Result

VERDICTS = ("missed", "inconclusive")
"""The verdicts that `--fail-on` takes."""


def _verdicts(ctx: click.Context, option: click.Parameter, given: str | None) -> frozenset[str]:
    words = frozenset(word.strip() for word in (given or "").split(",") if word.strip())
    wrong = sorted(words - set(VERDICTS))
    if wrong:
        raise click.BadParameter(f"{wrong[0]!r} is none of {', '.join(VERDICTS)}.")
    return words


fail_on_option = click.option(
    "--fail-on",
    metavar="VERDICTS",
    callback=_verdicts,
    help="End with 3 if a target has one of these verdicts: missed, inconclusive, or both with a "
    "comma between them.",
)


@click.command()
@click.argument("result", metavar="RESULT", type=click.Path())
@click.option(
    "--format",
    type=click.Choice(("terminal", "markdown", "json")),
    default="terminal",
    show_default=True,
    help="Form of the report on stdout.",
)
@fail_on_option
def report(result: str, format: str, fail_on: frozenset[str]) -> None:
    """Make the report again, from the result file alone.

    RESULT is a result file, or the directory that `run` wrote it to.
    """
    from testbed import console
    from testbed.result_store import dump_result, load_result

    loaded = load_result(result)
    if format == "json":
        console.print_text(dump_result(loaded))
    elif format == "markdown":
        from testbed.report.markdown import render_markdown

        console.print_text(render_markdown(loaded))
    else:
        from testbed.report.terminal import render_terminal

        render_terminal(loaded, console.page())
    _check(loaded, fail_on)


def _check(result: Result, fail_on: frozenset[str]) -> None:
    """`Missed` where a verdict occurs that the command shall fail on."""
    from testbed.errors import Missed
    from testbed.measure.statistics import assess

    if not fail_on:
        return
    found = [one for one in assess(result) if one.verdict in fail_on and not one.target.potential]
    if found:
        raise Missed(
            f"{len(found)} targets are not met: "
            + "; ".join(f"{one.target.claim} {one.verdict}" for one in found)
        )


COMMANDS = (report,)
