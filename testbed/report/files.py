"""The forms of a report and the files that they go to, each made from the result alone.

Must not know what a form looks like; what it needs is loaded when it is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from testbed.results import Result
from testbed.results.store import dump_result, write_atomically


def _terminal(result: Result) -> str:
    from testbed.report.terminal import render_text

    return render_text(result)


def _markdown(result: Result) -> str:
    from testbed.report.markdown import render_markdown

    return render_markdown(result)


def _html(result: Result) -> str:
    from testbed.report.html import render_html

    return render_html(result)


def _junit(result: Result) -> str:
    from testbed.report.junit import render_junit

    return render_junit(result)


def _svg(result: Result) -> str:
    from testbed.report.terminal import render_svg

    return render_svg(result)


FORMS: Final[Mapping[str, Callable[[Result], str]]] = {
    "terminal": _terminal,
    "markdown": _markdown,
    "html": _html,
    "junit": _junit,
    "json": dump_result,
    "svg": _svg,
}
"""Every form by its name; `svg` is a picture of the first screen of the terminal's."""

FILES: Final[Mapping[str, str]] = {
    "markdown": "report.md",
    "html": "report.html",
    "junit": "junit.xml",
}
"""The forms that a run writes beside its result, and what their files are called."""


def render(result: Result, form: str) -> str:
    """The report in that form, one of `FORMS`; the same result gives the same text."""
    return FORMS[form](result)


def render_claims(results: Sequence[Result], commands: Sequence[str]) -> str:
    """The page of the documented claims as Markdown, from these results in their order.

    `commands` are the command lines that made them, and then the page.
    """
    from testbed.report.claims import claims
    from testbed.report.markdown import render_sections

    return render_sections(claims(results, commands))


def write_reports(
    result: Result, directory: str | Path, forms: Iterable[str] = tuple(FILES)
) -> tuple[Path, ...]:
    """Writes the report in these forms, each of `FILES`; the paths of what was written."""
    where = Path(directory)
    where.mkdir(parents=True, exist_ok=True)
    return tuple(write_atomically(where / FILES[form], render(result, form)) for form in forms)
