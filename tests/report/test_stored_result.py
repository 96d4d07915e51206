"""The report of a small result of a real run, kept beside this test (its histograms left out).

The file is of schema 1, as the first version wrote it: what is read here was written long ago.
Only figures that do not depend on resampling are held to the letter; verdicts where the interval is
far from the claim.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from testbed.measure.statistics import Verdict, assess, compare, own_count_deviation
from testbed.measure.statistics.comparison import Cell
from testbed.report.markdown import render_markdown
from testbed.results import SCHEMA, Result
from testbed.results.store import dump_result, load_result, parse_result

STORED = Path(__file__).with_name("small_result.json")


@pytest.fixture(scope="module")
def stored() -> Result:
    return load_result(STORED)


@pytest.fixture(scope="module")
def lines(stored: Result) -> list[str]:
    text = render_markdown(stored).replace("\u00a0", " ")
    return [re.sub(r" *\| *", " | ", line).strip() for line in text.splitlines()]


def _said(before: Any, after: Any) -> Any:
    """What of `after` was said in `before`: newer schemas say more."""
    if isinstance(before, dict):
        return {key: _said(value, after[key]) for key, value in before.items()}
    return after


def test_a_file_of_an_older_schema_is_written_as_one_of_today(stored: Result) -> None:
    old = json.loads(STORED.read_text(encoding="utf-8"))
    assert old["schema"] == 1
    new = json.loads(dump_result(stored))
    assert new["schema"] == SCHEMA
    for before, after in zip(old["trials"], new["trials"], strict=True):
        assert _said(before, after) == before
    assert parse_result(dump_result(stored), file="again") == stored


@pytest.mark.parametrize(
    "line",
    [
        "# small: claimed and found",
        "## What this full run falls short of",
        (
            "- Trials of 0.3 s; the rules ask for at least 2 s, and for 10 s in a full run, "
            "RFC 2544 60 s."
        ),
        "| max | single | 724 416 | 140 609 | 583 808 | −1 | 0 | 0 | 0 |",
        "| max | batched | 693 056 | 210 756 | 482 300 | 0 | 0 | 0 | 0 |",
        "| max | batched | node's radio | socket buffer full | 482 300 |",
        "| recvmmsg | receive | 0 | 0.0314 |",
        "| sendto | send | 1.00 | 0.000570 |",
        "| epoll_wait | wait | 0.0162 | 0.00452 |",
        "| max | single | 1.00 | 1.00 | 0.0161 | 0 | 0 |",
        "| single (baseline) | per-packet | per-packet | 1 | timing, counting |",
        "| batched | mmsg | batched | 32 | timing, counting |",
        "| throughput, low load | low | +10…15 % | – | not measured |",
    ],
)
def test_a_line_of_the_report(lines: list[str], line: str) -> None:
    assert line in lines


def test_the_rates_at_maximum_load(lines: list[str]) -> None:
    assert any(
        re.fullmatch(
            r"\| max \| single \| 417 493 \| 57 050 \|  ?\| 86.34 % \| 171 760 \|  ?\|", line
        )
        for line in lines
    )


def test_verdicts_far_from_the_claim(stored: Result) -> None:
    found = {(f.target.key, str(f.band)): f.verdict for f in assess(stored)}
    assert found["throughput-medium", "medium"] is Verdict.MISSED
    assert found["throughput-high", "max"] is Verdict.MISSED
    assert found["extreme", "max"] is Verdict.MISSED
    assert found["syscalls-32", "max"] is Verdict.MISSED
    assert found["switches", "medium"] is Verdict.MISSED
    assert found["rsu-high", "max"] is Verdict.NOT_MEASURED


def test_trials_that_the_tester_spoiled_were_made_again(stored: Result) -> None:
    cell = Cell(point="relay", load="medium", frame_bytes=256)
    found = compare(stored, cell, "delivered_pps", "batched")
    assert found.pairs == 5
    assert len(found.left_out) == 3
    assert all(why.endswith("generator-limited") for why in found.left_out)


def test_the_node_and_the_kernel_counted_the_same_calls(stored: Result) -> None:
    deviations = [own_count_deviation(t) for t in stored.trials if t.phase == "counting"]
    assert len(deviations) == 10
    assert all(deviation is not None and deviation < 0.01 for deviation in deviations)
