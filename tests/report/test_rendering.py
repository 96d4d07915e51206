"""The report in all its forms: everything is shown, nothing is cut, no form says more."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree

import pytest
from made_results import pairs, result, trial
from rich.console import Console

from testbed.report.contents import contents
from testbed.report.html import render_html
from testbed.report.markdown import render_markdown, render_sections
from testbed.report.terminal import render_svg, render_terminal
from testbed.results import Result, Trial

NBSP = "\u00a0"


_OF_CHANGE = "“change” is not the quotient of two medians: it is the geometric mean of the ratios"


@pytest.fixture(scope="module")
def run() -> Result:
    """All loads; the node is the limit at max, the batched one less so; one trial is spoiled."""
    trials: list[Trial] = []
    for load, count, baseline, candidate in (
        ("low", 1_000, {"cpu_us": 60.0}, {"cpu_us": 58.0}),
        ("medium", 10_000, {"cpu_us": 40.0}, {"cpu_us": 35.0, "switches_per_packet": 0.9}),
        ("high", 100_000, {"cpu_us": 12.0}, {"cpu_us": 6.0, "switches_per_packet": 0.3}),
        (
            "max",
            400_000,
            {"cpu_us": 9.0, "delivered": 200_000, "dropped": {"socket buffer full": 200_000}},
            {"cpu_us": 4.0, "delivered": 390_000, "dropped": {"socket buffer full": 9_990}},
        ),
    ):
        trials += pairs(
            load=load,
            baseline={"offered": count, **baseline},
            candidate={"offered": count, **candidate},
            first=len(trials),
            seed=len(trials),
        )
    spoiled = trials[-1]
    marks = [{"mark": "sink-limited", "why": "had no room for 7 frames"}]
    trials[-1] = Trial.model_validate({**spoiled.model_dump(), "marks": marks})
    for pair in range(5):
        for name, batch in (("per-packet", 1), ("batched", 32), ("batched-of-8", 8)):
            receive, send = (
                ("recvfrom", "sendto") if name == "per-packet" else ("recvmmsg", "sendmmsg")
            )
            calls = {receive: 100_000 // batch + pair, send: 100_000 // batch}
            trials.append(
                trial(
                    name, number=len(trials), pair=pair, load="max", phase="counting",
                    offered=100_000, calls=calls, own_calls=calls,
                )
            )  # fmt: skip
    return result(trials)


def on_terminal(run: Result, width: int, *, brief: bool = False) -> str:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=False, color_system=None, markup=False,
        emoji=False, highlight=False,
    )  # fmt: skip
    render_terminal(run, console, brief=brief)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().replace(NBSP, " ")


def figures(text: str) -> set[str]:
    return set(re.findall(r"[+−]?\d[\d.]*", text))


def test_the_first_screen_names_claims_findings_and_verdicts(run: Result) -> None:
    screen = on_terminal(run, 100, brief=True)
    assert "batching: claimed and found" in screen
    assert "Of 25 claims checked: " in screen
    line = next(line for line in screen.splitlines() if line.startswith("CPU, high load"))
    assert re.fullmatch(
        r"CPU, high load +high +−15…30 % +"
        r"−5\d\.\d % \[−5\d\.\d, −4\d\.\d\]; machine ±0 % +exceeded *",
        line,
    )
    assert "Trials of 2 s; a full run takes 10 s, RFC 2544 60 s." in screen
    words = " ".join(screen.split())
    assert (
        "Timing trials that are sink-limited, no verdict from them: 1 of 5 of batched at max load. "
        "The first: had no room for 7 frames."
    ) in words


@pytest.mark.parametrize("width", [100, 120, 200])
def test_no_figure_is_broken_or_cut(run: Result, width: int) -> None:
    text = on_terminal(run, width)
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    for figure in ("200 000", "2 000 000", "socket buffer full", "batched-of-8", "not measured"):
        assert figure in text
    # An ellipsis stands in claims only.
    assert not re.search(r"(?<!\d)…|…(?!\d)", text)


@pytest.mark.parametrize("width", [60, 80])
def test_a_narrow_terminal_folds_and_loses_nothing(run: Result, width: int) -> None:
    text = on_terminal(run, width)
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    assert not re.search(r"(?<!\d)…|…(?!\d)", text.replace("…\n", ""))


def test_every_form_has_the_same_figures(run: Result) -> None:
    shown = " ".join(
        cell.text
        for section in contents(run)
        for block in section.blocks
        if hasattr(block, "rows")
        for row in block.rows
        for cell in row
    ).replace(NBSP, " ")
    assert figures(shown) <= figures(on_terminal(run, 300))
    assert figures(shown) <= figures(render_markdown(run).replace(NBSP, " "))


def test_markdown_tables_have_as_many_cells_in_every_row(run: Result) -> None:
    rows = [line for line in render_markdown(run).splitlines() if line.startswith("|")]
    assert len(rows) > 60
    for table in re.split(r"\n\n", render_markdown(run)):
        lines = [line for line in table.splitlines() if line.startswith("|")]
        assert len({line.replace("\\|", "").count("|") for line in lines}) <= 1
        assert len({len(line) for line in lines}) <= 1


def test_markdown_is_the_same_each_time_and_ends_with_a_newline(run: Result) -> None:
    text = render_markdown(run)
    assert text == render_markdown(run)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert text.startswith("# batching: claimed and found\n")


def test_names_of_users_cannot_break_the_markdown(run: Result) -> None:
    odd = run.model_copy(update={"notes": ["a | b <script> `c` *d*"]})
    assert "a \\| b &lt;script> \\`c\\` \\*d\\*" in render_markdown(odd)


def test_nothing_in_a_result_is_obeyed_by_a_terminal(run: Result) -> None:
    odd = run.model_copy(update={"notes": ["\x1b]0;owned\x07\x9b2J name"]})
    stream = io.StringIO()
    render_terminal(odd, Console(file=stream, width=200))
    assert "name" in stream.getvalue()
    assert not set("\x1b\x07\x9b") & set(stream.getvalue())


def test_the_picture_is_whole_xml_with_the_verdicts_in_it(run: Result) -> None:
    assert re.findall(r"https?://[^\"' )<]+", render_svg(run)) == ["http://www.w3.org/2000/svg"]
    picture = ElementTree.fromstring(render_svg(run))
    text = "".join(picture.itertext()).replace(NBSP, " ")
    assert "claimed and found" in text
    assert "exceeded" in text


def test_the_arithmetic_of_full_batches_stands_beside_what_was_counted(run: Result) -> None:
    text = on_terminal(run, 120)
    line = next(
        line
        for line in text.splitlines()
        if line.startswith("max") and "batched-of-8" in line and "kernel" in line
    )
    assert re.search(r"0\.250 +−87\.5 % +−87\.5 %", line)
    assert (
        "The node's own count agreed with the kernel's in 15 trials: 0 % apart at most"
        in " ".join(text.split())
    )


def test_a_ledger_that_does_not_close_is_printed_as_such(run: Result) -> None:
    text = on_terminal(run, 120)
    start = text.index("Where the packets went")
    line = next(
        line for line in text[start:].splitlines() if line.startswith("max") and "batched" in line
    )
    assert re.search(r" 2 000 000 +1 950 000 +49 950 +50 +0 +0 +0$", line.rstrip())


def test_what_a_program_does_not_tell_is_said_and_which_program_it_was() -> None:
    made = result(pairs(2, candidate={"delivered": 990}))
    silent = [
        {**one.model_dump(), "ledger": {**one.ledger.model_dump(), "node_told": False}}
        if one.variant == "batched" and one.ledger is not None
        else one.model_dump()
        for one in made.trials
    ]
    values = {**made.model_dump(by_alias=True), "trials": silent}
    for variant in values["scenario"]["variants"]:
        if variant["name"] == "batched":
            variant["command"] = {"argv": ["/opt/a node", "--ip", "10.77.0.2"], "env": {"A": "b"}}
    report = render_markdown(Result.model_validate(values)).replace("\\", "")
    assert "20, not told by the node" in report
    assert "What batched dropped is not told by the node, and stands under unexplained." in report
    assert "A=b '/opt/a node' --ip 10.77.0.2" in report
    assert "not told by the node" not in render_markdown(made)


def test_a_result_without_trials_is_a_report_too() -> None:
    empty = result([])
    assert "25 not measured" in on_terminal(empty, 100, brief=True)
    assert "not measured" in render_markdown(empty)


def test_an_interrupted_run_says_so() -> None:
    text = on_terminal(result(pairs(1), interrupted=True), 100)
    assert "The run was stopped before its end." in text


def test_time_that_a_host_has_taken_is_told_where_it_shows(run: Result) -> None:
    assert "in a trial: paced loads" not in render_markdown(run)
    cpu = run.trials[0].machine[0]
    robbed = cpu.model_copy(update={"steal_ns": 3 * (cpu.busy_ns + cpu.idle_ns)})
    first = run.trials[0].model_copy(update={"machine": [robbed, *run.trials[0].machine[1:]]})
    text = render_markdown(run.model_copy(update={"trials": [first, *run.trials[1:]]}))
    assert "up to 60\N{NO-BREAK SPACE}% in a trial" in text


def test_below_tables_with_a_change_it_is_said_what_that_is(run: Result) -> None:
    """It may have another sign than the medians beside it, and must not be taken for a mistake."""
    told = 0
    for section in contents(run):
        text = render_sections([section])
        if re.search(r"\| +(\([ab]\) )?change \|", text):
            told += 1
            assert text.count(_OF_CHANGE) == 1, section.title
            assert text.count("Medians over the trials that count") == 1, section.title
    assert told == 6
    # All forms are made of the same sections.
    assert render_html(run).count(_OF_CHANGE) == told
    terminal = io.StringIO()
    render_terminal(run, Console(file=terminal, width=120))
    assert " ".join(terminal.getvalue().split()).count(_OF_CHANGE) == told
