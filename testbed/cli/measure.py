"""`testbed run` and `report`: a measurement, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from testbed.results import Result

FAILED_CHECK = "failed-check"
FAIL_ON = ("missed", "inconclusive", FAILED_CHECK)
"""What `--fail-on` takes."""
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
    help="End with 3 if there is one of these, with commas between them: missed (a target), "
    "inconclusive (a target), failed-check (a variant that does not do what it must).",
)


@click.command()
@click.argument("scenario", required=False)
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
def run(
    scenario: str | None,
    quick: bool,
    output: str | None,
    resume: str | None,
    reports: frozenset[str],
    fail_on: frozenset[str],
    seed: int | None,
) -> None:
    """Measure, compare, and check the documented targets.

    SCENARIO is a path, or the name of a shipped scenario (batching). Brings its topology up, makes
    all trials, takes it down, writes the result and its report, and prints the targets with their
    verdicts. What cannot work here is said before anything is made.

    Ctrl-C undoes everything; what was measured until then is written all the same, and --resume
    goes on from there, also after a crash: with the same scenario, program and machine, which
    is checked. Then SCENARIO, --quick and --seed may be left out.
    """
    from testbed import console
    from testbed.experiment.runner import Step, run_scenario
    from testbed.kernel import limits
    from testbed.report.files import write_reports
    from testbed.report.terminal import render_terminal
    from testbed.results.store import FILE_NAME
    from testbed.scenario.loader import load_scenario

    if resume is not None:
        if output is not None:
            raise click.UsageError("--resume goes on in its own directory: leave --output out.")
        scenario, quick, seed = _as_begun(resume, scenario, quick=quick, seed=seed)
    if scenario is None:
        raise click.UsageError("Missing argument 'SCENARIO'.")
    loaded = load_scenario(scenario)
    limits.require_rights()
    place = Path(resume or output or f"results/{loaded.name}-{datetime.now():%Y%m%d-%H%M%S}")
    with _directory(place):
        try:
            with console.Gauge() as gauge:

                def progress(step: Step) -> None:
                    gauge.show(
                        step.title, done=step.done, total=step.total, remaining_s=step.remaining_s
                    )

                result = run_scenario(
                    loaded,
                    quick=quick,
                    output_dir=place,
                    progress=progress,
                    seed=seed,
                    resume=resume is not None,
                )
        except KeyboardInterrupt:
            if (place / FILE_NAME).exists():
                console.note(
                    f"what was measured until now is in {place / FILE_NAME}; to go on: "
                    f"testbed run --resume {place}"
                )
            raise
        written = write_reports(result, place, [form for form in FORMS if form in reports])
    render_terminal(result, console.page(), brief=True)
    files = ", ".join(str(path) for path in (place / FILE_NAME, *written))
    console.note(f"written: {files}; all of it: testbed report {place}")
    _check(result, fail_on)


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
def _directory(path: Path) -> Iterator[None]:
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
@click.argument("result", metavar="RESULT", type=click.Path())
@click.option(
    "--format",
    type=click.Choice(("terminal", *FORMS, "json", "svg")),
    default="terminal",
    show_default=True,
    help="Form of the report; svg is a picture of the terminal's first screen.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Where the report goes, whole or not at all; stdout if not given.",
)
@fail_on_option
def report(result: str, format: str, output: str | None, fail_on: frozenset[str]) -> None:
    """Make the report again, from the result file alone.

    RESULT is a result file, or the directory that `run` wrote it to.
    """
    from testbed import console
    from testbed.report.files import render
    from testbed.results.store import load_result, write_atomically

    loaded = load_result(result)
    if output is not None:
        write_atomically(Path(output), render(loaded, format))
    elif format == "terminal":
        from testbed.report.terminal import render_terminal

        render_terminal(loaded, console.page())
    else:
        console.print_text(render(loaded, format))
    _check(loaded, fail_on)


def _check(result: Result, fail_on: frozenset[str]) -> None:
    """`Missed` where there is something that the command shall fail on."""
    from testbed.errors import Missed
    from testbed.measure.statistics import assess

    found = [one for one in assess(result) if one.verdict in fail_on and not one.target.potential]
    broken = [one for one in result.checks if not one.passed and FAILED_CHECK in fail_on]
    said = []
    if found:
        said.append(
            f"{len(found)} targets are not met: "
            + "; ".join(f"{one.target.claim} {one.verdict}" for one in found)
        )
    if broken:
        said.append(
            f"{len(broken)} checks failed: "
            + "; ".join(f"{one.variant} {one.kind}" for one in broken)
        )
    if said:
        raise Missed(". ".join(said))


COMMANDS = (run, report)
