"""`testbed run`, `report` and `compare`: a measurement, what it says, and what has changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from testbed.cli import completing, contained

if TYPE_CHECKING:
    from testbed.results import Result
    from testbed.scenario.model import Scenario

FAILED_CHECK = "failed-check"
FAIL_ON = ("missed", "inconclusive", FAILED_CHECK)
"""What `--fail-on` takes."""
REGRESSION = "regression"
UNDECIDED = "undecided"
CHANGES = (REGRESSION, UNDECIDED)
"""What `compare --fail-on` takes."""
FORMS = ("markdown", "html", "junit")
"""The forms of the report that `run` can write."""


def _words(*known: str) -> Callable[..., frozenset[str]]:
    """A callback of an option that takes some of these words, with commas between them."""

    def read(ctx: click.Context, option: click.Parameter, given: str | None) -> frozenset[str]:
        words = frozenset(word.strip() for word in (given or "").split(",") if word.strip())
        wrong = sorted(words - set(known))
        if wrong:
            raise click.BadParameter(f"{wrong[0]!r} is none of {', '.join(known)}.")
        return words

    return read


fail_on_option = click.option(
    "--fail-on",
    metavar="WORDS",
    callback=_words(*FAIL_ON),
    shell_complete=completing.words(*FAIL_ON),
    help="End with 3 if there is one of these, with commas between them: missed (a target), "
    "inconclusive (a target), failed-check (a variant that does not do what it must; missed "
    "holds it too).",
)


@click.command(cls=contained.Contained)
@click.argument(
    "scenario",
    metavar="SCENARIO",
    required=False,
    shell_complete=completing.files_or("scenarios"),
)
@click.option("--quick", is_flag=True, help="Its quick form, which says what it does less of.")
@click.option(
    "--output",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Where result.json and the reports go; a new directory in results/ if not given.",
)
@click.option(
    "--reports",
    metavar="FORMS",
    callback=_words(*FORMS),
    shell_complete=completing.words(*FORMS),
    default=",".join(FORMS),
    show_default=True,
    help="Which reports are written beside result.json, with commas between them.",
)
@click.option(
    "--resume",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Go on with the run in this directory that was interrupted or killed.",
)
@fail_on_option
@click.option("--seed", type=click.IntRange(min=0), help="For all that is drawn at random.")
@contained.container_options
@click.pass_context
def run(
    ctx: click.Context,
    scenario: str | None,
    quick: bool,
    output: str | None,
    resume: str | None,
    reports: frozenset[str],
    fail_on: frozenset[str],
    seed: int | None,
    container: str | None,
    privileged: bool,
) -> None:
    """Measure, compare, and check the documented targets.

    SCENARIO is a path, or the name of a shipped scenario (batching). Checks every variant,
    brings the topology up, makes all trials, takes it down, writes the result and its report, and
    prints the targets with their verdicts. What cannot work here is said before anything is made.
    A scenario that only checks (reachability) ends with 3 if a check fails.

    Ctrl-C undoes everything; what was measured until then is written all the same, and --resume
    goes on from there, also after a crash: with the same scenario, program and machine, which
    is checked. Then SCENARIO, --quick and --seed may be left out.

    With --container all of that happens in a container, which needs a container engine but not
    root; files go in, the results come out, and the exit code is that of the run inside.
    """
    from testbed import console
    from testbed.container import inside
    from testbed.experiment.runjournal import reserved
    from testbed.files.variables import AskedFor
    from testbed.kernel import limits
    from testbed.report.files import write_reports
    from testbed.report.terminal import render_terminal
    from testbed.results.store import FILE_NAME
    from testbed.scenario.loader import load_scenario

    contained.check(container, privileged)
    if resume is not None:
        if container is not None:
            # Another container is another machine to it, and rightly: nobody knows where it ran.
            raise click.UsageError("--resume is not for a run in a container.")
        if output is not None:
            raise click.UsageError("--resume goes on in its own directory: leave --output out.")
        scenario, quick, seed = _as_begun(resume, scenario, quick=quick, seed=seed)
    elif (
        scenario is None
        and container not in (None, contained.DEFAULT_IMAGE)
        and not contained.is_written_with_equals(ctx)
    ):
        # An image may be left out, a scenario never: what is there is the scenario.
        scenario, container = container, contained.DEFAULT_IMAGE
    if scenario is None:
        raise click.UsageError("Missing argument 'SCENARIO'.")
    asked = AskedFor(os.environ)
    loaded = load_scenario(scenario, env=asked)
    place = Path(resume or output or f"results/{loaded.name}-{datetime.now():%Y%m%d-%H%M%S}")
    if container is not None:
        with made_directory(place), reserved(place):
            contained.run_scenario(
                ctx,
                container,
                scenario,
                place,
                read=loaded.files,
                env=asked.found,
                result=FILE_NAME,
                privileged=privileged,
            )
    limits.require_rights()
    shown = inside.shown(place)
    with made_directory(place):
        result = _measured(loaded, place, quick=quick, seed=seed, resume=resume is not None)
        written = write_reports(result, place, [form for form in FORMS if form in reports])
    render_terminal(result, console.page(), brief=True)
    files = ", ".join(str(shown / path.name) for path in (place / FILE_NAME, *written))
    console.note(f"written: {files}; all of it: testbed report {shown}")
    _check(result, fail_on)


def _measured(
    loaded: Scenario, place: Path, *, quick: bool, seed: int | None, resume: bool
) -> Result:
    """Run it, say how far it is, and where its result is if it is interrupted."""
    from testbed import console
    from testbed.container import inside
    from testbed.experiment.progress import Step
    from testbed.experiment.runner import run_scenario
    from testbed.results.store import FILE_NAME

    try:
        with console.Gauge() as gauge:

            def progress(step: Step) -> None:
                gauge.show(
                    step.title, done=step.done, total=step.total, remaining_s=step.remaining_s
                )

            return run_scenario(
                loaded, quick=quick, output_dir=place, progress=progress, seed=seed, resume=resume
            )
    except KeyboardInterrupt:
        if (place / FILE_NAME).exists():
            told = f"what was measured until now is in {inside.shown(place) / FILE_NAME}"
            if not inside.is_contained():
                told += f"; to go on: testbed run --resume {place}"
            console.note(told)
        raise


def _as_begun(
    directory: str, scenario: str | None, *, quick: bool, seed: int | None
) -> tuple[str, bool, int]:
    """Scenario, form and seed of the run in that directory, unless what is given contradicts them.

    :raises InputError: there is none, or its scenario came from standard input.
    """
    from testbed.errors import InputError
    from testbed.experiment.runjournal import FILE_NAME, past_of

    header = past_of(directory).header
    form = header.scenario.form
    if quick and form != "quick":
        raise InputError(
            "the run has another form", file=str(Path(directory) / FILE_NAME), value="--quick",
            expected=f"the {form} form, as it began",
        )  # fmt: skip
    if scenario is None and header.file is None:
        raise InputError(
            "the scenario of this run came from standard input",
            file=str(Path(directory) / FILE_NAME),
            expected="it again, as SCENARIO",
        )
    return scenario or header.file or "", form == "quick", header.seed if seed is None else seed


@contextmanager
def made_directory(path: Path) -> Iterator[None]:
    """The directory, made now, not after a long run; empty ones that were made here go again."""
    made = [one for one in (path, *path.parents) if not one.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for one in made:
            with suppress(OSError):
                one.rmdir()
        raise


@click.command()
@click.argument("result", metavar="RESULT...", type=click.Path(), nargs=-1, required=True)
@click.option(
    "--format",
    type=click.Choice(("terminal", *FORMS, "json", "svg", "claims")),
    default="terminal",
    show_default=True,
    help="Form of the report; svg is a picture of the terminal's first screen, claims a page that "
    "says of each documented claim what was found and why, from one result or several.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Where the report goes, whole or not at all; stdout if not given.",
)
@fail_on_option
def report(
    result: tuple[str, ...], format: str, output: str | None, fail_on: frozenset[str]
) -> None:
    """Make the report again, from the result file alone.

    RESULT is a result file, or the directory that `run` wrote it to.
    """
    from testbed import console
    from testbed.cli.repeat import report_command, run_command
    from testbed.report.files import render, render_claims
    from testbed.results.store import load_result, write_atomically

    if len(result) > 1 and format != "claims":
        raise click.UsageError(f"{len(result)} results: only --format claims takes several.")
    loaded = [load_result(one) for one in result]
    if format == "terminal" and output is None:
        from testbed.report.terminal import render_terminal

        render_terminal(loaded[0], console.page())
    else:
        if format == "claims":
            commands = [run_command(*one) for one in zip(loaded, result, strict=True)]
            text = render_claims(loaded, [*commands, report_command(result, format, output)])
        else:
            text = render(loaded[0], format)
        if output is None:
            console.print_text(text)
        else:
            write_atomically(Path(output), text)
    for one in loaded:
        _check(one, fail_on)


def _check(result: Result, fail_on: frozenset[str]) -> None:
    """`Missed` where there is something that the command shall fail on.

    A failed check is a miss as well, and of a scenario that only checks it is one in any case.
    """
    from testbed.errors import Missed
    from testbed.measure.statistics import assess

    found = [one for one in assess(result) if one.verdict in fail_on and not one.target.potential]
    strict = "missed" in fail_on or FAILED_CHECK in fail_on or result.scenario.kind == "checks"
    broken = [one for one in result.checks if strict and not one.passed]
    said = []
    if found:
        said.append(
            f"{len(found)} targets are not met: "
            + "; ".join(f"{one.target.claim} {one.verdict}" for one in found)
        )
    if broken:
        said.append(
            f"{_number_of(len(broken), 'check')} failed: "
            + "; ".join(f"{one.variant} {one.kind}" for one in broken)
        )
    if said:
        raise Missed(". ".join(said))


def _number_of(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _threshold(ctx: click.Context, option: click.Parameter, given: str | None) -> float | None:
    if given is None:
        return None
    try:
        # Without its unit 0.1 might be meant as a share.
        percent = float(given.removesuffix("%").strip()) if given.endswith("%") else -1.0
    except ValueError:
        percent = -1.0
    if not 0 < percent <= 1000:
        raise click.BadParameter(f"{given!r} is no percentage; such as 10%.")
    return 1 + percent / 100


@click.command()
@click.argument("old", metavar="OLD", type=click.Path())
@click.argument("new", metavar="NEW", type=click.Path())
@click.option(
    "--fail-on",
    metavar="WORDS",
    callback=_words(*CHANGES),
    shell_complete=completing.words(*CHANGES),
    help="End with 3 if there is one of these, with commas between them: regression (something "
    "got worse or broke), undecided (something cannot be told).",
)
@click.option(
    "--threshold",
    metavar="PERCENT",
    callback=_threshold,
    help="From which change on anything is better or worse, in place of what is usual for each "
    "quantity: 5% for the delivered rate, 15% for CPU, and so on.",
)
@click.option(
    "--format",
    type=click.Choice(("terminal", "markdown", "json")),
    default="terminal",
    show_default=True,
    help="Form of the answer on stdout.",
)
def compare(
    old: str, new: str, fail_on: frozenset[str], threshold: float | None, format: str
) -> None:
    """Tell whether things got better or worse from one run to another.

    OLD and NEW are results of the same scenario, files or directories. Each quantity of each
    variant is compared at each load that both have, with intervals, thresholds and the number of
    comparisons taken into account. On another machine only ratios to the baseline are compared.
    """
    from testbed import console
    from testbed.errors import Missed
    from testbed.measure.statistics import QUANTITIES, Outcome, compare_runs
    from testbed.report.comparison import comparison, comparison_json
    from testbed.results.store import load_result

    before, after = load_result(old), load_result(new)
    found = compare_runs(before, after, threshold=threshold)
    if format == "json":
        console.print_json(comparison_json(before, after, found))
    elif format == "markdown":
        from testbed.report.markdown import render_sections

        console.print_text(render_sections(comparison(before, after, found)))
    else:
        from testbed.report.terminal import print_sections

        print_sections(comparison(before, after, found), console.page())
    worse = [
        f"{QUANTITIES[one.quantity].label} of {one.variant} at {one.cell.load} load"
        for one in found.regressions
    ]
    worse += found.broken
    undecided = [one for one in found.compared if one.outcome is Outcome.UNDECIDED]
    said = []
    if worse and REGRESSION in fail_on:
        said.append(f"{_number_of(len(worse), 'regression')}: {'; '.join(worse)}")
    if undecided and UNDECIDED in fail_on:
        said.append(f"{len(undecided)} comparisons are undecided")
    if said:
        raise Missed(". ".join(said))


COMMANDS = (run, report, compare)
