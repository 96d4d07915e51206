"""The page of the documented claims: every claim with its verdict and the figures behind it."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_results import pairs, result, trial, variant

from testbed.cli.repeat import run_command
from testbed.experiment.runner import DEFAULT_SEED
from testbed.report.claims import claims
from testbed.report.files import render_claims
from testbed.results import Result
from testbed.results.store import load_result
from testbed.targets import TARGETS

STORED = Path(__file__).with_name("small_result.json")


@pytest.fixture(scope="module")
def stored() -> Result:
    return load_result(STORED)


def text(*results: Result) -> str:
    commands = [f"run {one.scenario.name}" for one in results]
    return render_claims(results, [*commands, "report"]).replace("\u00a0", " ")


def test_every_claim_is_there_at_every_load_once(stored: Result) -> None:
    page = text(stored)
    table = page[page.index("| claim ") : page.index("*Found:")]
    rows = [line for line in table.splitlines()[2:] if line.startswith("|")]
    assert len(rows) == sum(len(target.bands) for target in TARGETS)


def test_why_is_said_by_the_figures_behind_a_verdict(stored: Result) -> None:
    page = text(stored)
    start = page.index("## obu1, wire → wire, max load: batched against single")
    section = page[start : page.index("\n## ", start + 1)]
    assert "A receiving call found" in section
    assert "System calls per packet, all of them:" in section
    assert "CPU of the node for a delivered packet, µs:" in section
    assert "| CPU per packet, µs" in section


@pytest.mark.parametrize(
    ("wakeups", "said"),
    [
        (1.0, "the node is woken for almost each packet"),
        (0.125, "the node wakes up to about 8 at this load, and takes so few one by one"),
    ],
)
def test_a_call_that_found_one_packet_says_whether_more_were_there(
    wakeups: float, said: str
) -> None:
    settings = {"switches_per_packet": wakeups, "cpu_us": 20.0}
    page = text(result(pairs(load="high", baseline=settings, candidate=settings)))
    assert f"A receiving call found 1.00 packets on average: {said}" in page


def made(stored: Result, **scenario: object) -> Result:
    return stored.model_copy(update={"scenario": stored.scenario.model_copy(update=scenario)})


@pytest.mark.parametrize(
    ("scenario", "place", "command"),
    [
        (
            {"source": "my builds.yaml", "form": "quick"},
            "out",
            "testbed run 'my builds.yaml' --quick --output out",
        ),
        ({"source": "scenarios/batching.yaml"}, "o/result.json",
         "testbed run scenarios/batching.yaml --output o"),
        # A shipped one by its name, wherever the testbed was that ran it.
        ({"source": "/opt/there/scenarios/batching.yaml", "name": "batching"}, "results/batching",
         "testbed run batching --output results/batching"),
        ({"source": "/srv/scenarios/batching.yaml"}, "kept.json",
         "testbed run /srv/scenarios/batching.yaml"),
        ({"source": None}, "out", "testbed run small --output out"),
    ],
)  # fmt: skip
def test_the_command_that_makes_a_result_again_is_the_one_that_made_it(
    stored: Result, scenario: dict[str, object], place: str, command: str
) -> None:
    assert run_command(made(stored, **scenario), place) == command


def test_a_seed_of_its_own_is_in_the_command(stored: Result) -> None:
    seeded = made(stored, source="s.yaml").model_copy(update={"seed": 7})
    assert run_command(seeded, "out") == "testbed run s.yaml --seed 7 --output out"
    assert run_command(seeded.model_copy(update={"seed": DEFAULT_SEED}), "out") == (
        "testbed run s.yaml --output out"
    )


def test_it_names_the_commands_that_make_it_again(stored: Result) -> None:
    page = text(stored)
    assert "| `run small` | 2026-11-23, 5 pairs, 30.5 s |" in page
    assert "| `report`    |" in page


def test_what_was_not_measured_is_said_with_the_reason(stored: Result) -> None:
    page = text(stored)
    missing = page[page.index("## Not measured") :]
    assert "no RSU was under test by itself in this run: RSU, normal traffic" in missing


def test_a_claim_is_decided_by_the_first_result_that_has_measured_it() -> None:
    one = result(pairs(load="high", candidate={"cpu_us": 10.0}))
    other = result(
        [*pairs(load="low", candidate={"cpu_us": 40.0}), *pairs(load="high", first=20)],
        name="other",
    )
    rows = {
        line.split("|")[1].strip(): line for line in text(one, other).splitlines() if "|" in line
    }
    assert "−5" in rows["CPU, high load"]
    assert "exceeded" in rows["CPU, high load"]
    assert "(b) −5" in rows["throughput, low load"]


def test_what_one_writev_does_is_told_by_what_arrives() -> None:
    settings = {"engine_wire": "writev", "engine_tap": "writev", "batch": 32}
    writev = variant("writev", batch=32).model_copy(update={"settings": settings})
    trials = [
        trial("per-packet", load="max", number=1, offered=1000),
        trial("writev", load="max", number=2, offered=1000, delivered=31, corrupted=31),
        trial("writev", load="max", number=3, pair=1, offered=1000, delivered=29,
              marks={"failed": "nothing came"}),
    ]  # fmt: skip
    run = result(trials, variants=[variant("per-packet", batch=1, baseline=True), writev])
    page = text(run)
    section = page[page.index("## What one writev for a batch does to packets") :]
    row = next(line for line in section.splitlines() if "writev" in line and line[0] == "|")
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2:] == ["writev", "2 000", "60", "3 %", "31", "failed"]
    assert "one writev is one frame" in section


def test_without_writev_nothing_is_said_of_it(stored: Result) -> None:
    assert "What one writev" not in text(stored)


def test_no_results_are_no_page() -> None:
    with pytest.raises(ValueError, match="no results"):
        claims([], [])
