"""`testbed doctor`: what this machine can do, what it cannot, and how to get it."""

from __future__ import annotations

import click

from testbed.cli import contained
from testbed.cli.options import format_option


@click.command(cls=contained.Contained)
@format_option
@contained.container_options
@click.pass_context
def doctor(ctx: click.Context, format: str, container: str | None, privileged: bool) -> None:
    """Try out what this kernel, these rights and this machine can do.

    Each feature is really used for a moment, in a child process with namespaces of its own, so
    that nothing is left. Ends with 4 where something is lacking that `up` or `run` needs.

    With --container it is tried out in a container that gets what `run --container` gives.
    """
    contained.check(container, privileged)
    if container is not None:
        ctx.exit(contained.run(ctx, container, privileged=privileged).status)
    from testbed import console
    from testbed.doctor import checks, examine, lacking
    from testbed.errors import Lacking

    wanted, findings = checks(), []
    with console.Steps() as steps:
        for done, finding in enumerate(examine(wanted), 1):
            steps.step("examined", done=done, total=len(wanted), told=finding.title)
            findings.append(finding)
    if format == "json":
        console.print_json([finding.to_json() for finding in findings])
    else:
        console.print_table(
            ("what", "available", "needed by", "detail"),
            (
                (
                    finding.title,
                    finding.available,
                    ", ".join(finding.needed_by) or None,
                    finding.detail or finding.why_not or None,
                )
                for finding in findings
                if finding.tried
            ),
        )
        untried = [finding.title for finding in findings if not finding.tried]
        if untried:
            console.print_text(f"\nnot tried, since this is not root: {'; '.join(untried)}")
        absent = [finding for finding in findings if finding.tried and not finding.available]
        if absent:
            console.print_text("")
            console.print_table(
                ("lacking", "used for", "how to get it"),
                ((finding.title, finding.used_for, finding.how_to_get) for finding in absent),
            )
    missing = lacking(findings)
    if missing:
        commands = sorted({command for finding in missing for command in finding.needed_by})
        raise Lacking(
            f"{' and '.join(f'`{command}`' for command in commands)} cannot do without: "
            + "; ".join(f"{finding.title} ({finding.how_to_get})" for finding in missing)
        )


COMMANDS = (doctor,)
