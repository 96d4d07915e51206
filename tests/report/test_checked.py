"""Checks and searches in the report, and what a failed check does to the verdicts."""

from __future__ import annotations

from typing import Any

import pytest
from made_results import pairs, result

from testbed.cli.measure import _check
from testbed.errors import Missed
from testbed.measure.statistics import Verdict, assess, compare_searches, searched_places
from testbed.report.blocks import Table
from testbed.report.checked import checks
from testbed.report.markdown import render_markdown
from testbed.report.searched import searches
from testbed.results import Check, Result, Search

NODES = ("rsu1", "obu1", "obu2", "obu3")


def reach(variant: str, *missing: tuple[str, str]) -> Check:
    return Check.model_validate(
        {
            "variant": variant,
            "kind": "reachability",
            "topology": "cell",
            "passed": not missing,
            "why": f"{len(missing)} of 12 pairs had no answer" if missing else None,
            "seen": ["one frame of 1024 bytes where there were four"] if missing else [],
            "pairs": [
                {"source": a, "destination": b, "family": family, "expected": True, "sent": 3,
                 "received": 0 if (a, b) in missing else 3}
                for a in NODES for b in NODES if a != b for family in ("ipv4", "ipv6")
            ],
        }
    )  # fmt: skip


def faster(*made: Check) -> Result:
    """The candidate needs less CPU, as claimed; what is left are its checks."""
    return result(pairs(load="high", candidate={"cpu_us": 15.0}), checks=list(made))


def cpu(run: Result) -> Any:
    (finding,) = [one for one in assess(run) if one.target.key == "cpu-high"]
    return finding


def test_fast_and_correct_is_a_success() -> None:
    run = faster(reach("per-packet"), reach("batched"))
    assert cpu(run).verdict is Verdict.MET
    assert "all 2 variants **passed** 2 checks" in render_markdown(run)


def test_a_fast_variant_that_fails_a_check_gets_no_success() -> None:
    run = faster(reach("per-packet"), reach("batched", ("rsu1", "obu2"), ("obu1", "obu2")))
    assert cpu(run).verdict is Verdict.FAILED_CHECKS
    assert cpu(run).reason == (
        "batched failed its check of reachability: no figure of it counts as a success "
        "(the figure alone: met)"
    )
    text = render_markdown(run)
    first = text[: text.index("## What this quick run falls short of")]
    assert "**No figure counts as a success** of batched, which failed reachability." in first
    assert "2 of 12 pairs had no answer." in first
    assert "2 of 12 pairs had no answer. Seen: one frame of 1024 bytes where" in text


def test_better_than_a_broken_baseline_is_no_success() -> None:
    run = faster(reach("per-packet", ("rsu1", "obu2")), reach("batched"))
    assert cpu(run).verdict is Verdict.FAILED_CHECKS
    assert "better than a broken baseline is no success" in cpu(run).reason


def test_a_miss_stays_a_miss_with_its_own_reason() -> None:
    run = result(pairs(load="high"), checks=[reach("batched", ("rsu1", "obu1"))])
    assert cpu(run).verdict is Verdict.MISSED
    assert "falls short" in cpu(run).reason


def tables(run: Result) -> list[Table]:
    return [block for block in checks(run).blocks if isinstance(block, Table)]


def test_variants_with_the_same_matrix_share_one() -> None:
    made = tables(faster(reach("per-packet"), reach("batched-of-8"), reach("batched")))
    (matrix,) = [table for table in made if (table.title or "").startswith("Who reaches whom")]
    assert matrix.title == "Who reaches whom in cell: per-packet, batched-of-8, batched"
    assert [cell.text for cell in matrix.rows[0]] == ["rsu1", "·", "all", "all", "all"]


def test_who_is_not_reached_is_seen() -> None:
    made = tables(faster(reach("per-packet"), reach("batched", ("rsu1", "obu2"))))
    broken = next(table for table in made if table.title == "Who reaches whom in cell: batched")
    assert [cell.text for cell in broken.rows[0]] == ["rsu1", "·", "all", "v4 0/3, v6 0/3", "all"]
    assert broken.rows[0][3].tone == "bad"


def test_sizes_that_came_whole_stand_together() -> None:
    way = {"way": "obu1 → rsu1", "sent": 5}
    sizes = [
        {**way, "frame_bytes": 60, "last_bytes": 61, "sent": 10, "delivered": 10},
        {**way, "frame_bytes": 500, "last_bytes": 500, "delivered": 4, "tailed": 1},
        {**way, "frame_bytes": 501, "last_bytes": 501, "delivered": 4, "tailed": 1},
        {**way, "frame_bytes": 1435, "last_bytes": 1436, "sent": 10, "delivered": 10},
    ]
    check = Check.model_validate(
        {"variant": "batched", "kind": "integrity", "topology": "pair", "passed": False,
         "why": "one size had a tail", "sizes": sizes}
    )  # fmt: skip
    (table,) = [one for one in tables(faster(check)) if one.title == "Payload integrity"]
    assert [cell.text for cell in table.rows[0][:2]] == ["batched", "obu1 → rsu1"]
    assert [[cell.text for cell in row[2:5]] for row in table.rows] == [
        ["60…61", "10", "10"],
        ["500…501", "10", "8"],
        ["1\u00a0435…1\u00a0436", "10", "10"],
    ]


def test_a_traffic_that_never_resumes_has_no_outage() -> None:
    check = Check.model_validate(
        {"variant": "batched", "kind": "failover", "topology": "line", "passed": False,
         "failovers": [{"node": "obu2", "direction": "up", "silenced": "obu1", "resumed_by": None,
                        "outage_ns": None, "lost": 70}]}
    )  # fmt: skip
    (table,) = [one for one in tables(faster(check)) if one.title == "Failover"]
    assert [cell.text for cell in table.rows[0]] == [
        "batched", "obu2 → RSU", "obu1", "never", "–", "70",
    ]  # fmt: skip


def test_pairs_that_the_protocol_does_not_join_are_told_from_lost_ones() -> None:
    apart = {"family": "ipv4", "expected": False, "sent": 2}
    check = Check.model_validate(
        {"variant": "batched", "kind": "reachability", "topology": "line", "passed": True,
         "pairs": [
             {**apart, "source": "rsu1", "destination": "obu2", "received": 0},
             {**apart, "source": "obu2", "destination": "rsu1", "expected": True, "received": 2},
             {**apart, "source": "obu1", "destination": "obu2", "received": 1},
         ]}
    )  # fmt: skip
    (table,) = [one for one in tables(faster(check)) if (one.title or "").startswith("Who")]
    shown = {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}
    assert [column.title for column in table.columns][1:] == ["rsu1", "obu2"]
    assert shown == {"rsu1": ["·", "(–)"], "obu2": ["all", "·"], "obu1": ["(–)", "(some)"]}


def only_checks(*made: Check) -> Result:
    return result(
        [], kind="checks", pairs=0, loads=[], points=[], frame_bytes=[], flows=0, targets=[],
        counting_s=None, shortfalls=[], checks=list(made),
    )  # fmt: skip


def test_where_nothing_is_timed_the_checks_are_the_first_screen() -> None:
    run = only_checks(reach("per-packet"), reach("batched", ("rsu1", "obu2")))
    text = render_markdown(run)
    assert text.startswith("# batching: checked and found")
    assert "**batched failed.**" in text
    sections = [line for line in text.splitlines() if line.startswith("## ")]
    assert sections[0].startswith("## Correct before fast")
    assert "None" not in text


@pytest.mark.parametrize("fail_on", [(), ("missed",), ("failed-check",), ("inconclusive",)])
def test_a_failed_check_ends_the_command_where_it_should(fail_on: tuple[str, ...]) -> None:
    words = frozenset(fail_on)
    _check(result([], targets=[], checks=[reach("batched")]), words)
    timed = result([], targets=[], checks=[reach("batched", ("rsu1", "obu2"))])
    if words & {"missed", "failed-check"}:
        with pytest.raises(Missed, match="batched reachability"):
            _check(timed, words)
    else:
        _check(timed, words)
    with pytest.raises(Missed, match="batched reachability"):
        _check(only_checks(reach("batched", ("rsu1", "obu2"))), words)
    _check(only_checks(reach("batched")), words)


def search(variant: str, pair: int, ndr: float, *, limited: bool = False) -> Search:
    return Search.model_validate(
        {
            "id": pair, "point": "obu-relay", "frame_bytes": 256, "variant": variant, "pair": pair,
            "started_s": 0.0, "elapsed_s": 9.0, "ended": "converged",
            "bounds": [
                {"goal": "ndr", "loss_ratio": 0.0, "lower_pps": ndr,
                 "upper_pps": None if limited else ndr * 1.01, "lower_trials": 4,
                 "upper_trials": 3, "tester_limited": limited}
            ],
        }
    )  # fmt: skip


def searched(limited: bool = False, base_limited: bool = False) -> Result:
    made = [search("per-packet", n, 100_000 + 100 * n, limited=base_limited) for n in range(5)]
    made += [search("batched", n, 250_000 + 250 * n, limited=limited) for n in range(5)]
    return result([], searches=made)


def test_the_lossless_rate_is_compared_search_by_search() -> None:
    run = searched()
    (place,) = searched_places(run)
    ratio, at_least = compare_searches(run, place, "ndr", "batched")
    assert ratio.ratio == pytest.approx(2.5)
    assert (ratio.pairs, at_least) == (5, False)
    (table,) = searches(run).blocks
    assert isinstance(table, Table)
    assert [cell.text.replace("\u00a0", " ") for cell in table.rows[1]] == [
        "NDR, 0 % lost", "batched", "250 500", "253 005", "+150 %", "5", "35",
    ]  # fmt: skip


def test_a_tester_at_its_limit_gives_a_lower_bound_or_nothing() -> None:
    (place,) = searched_places(searched())
    assert compare_searches(searched(limited=True), place, "ndr", "batched")[1]
    ratio, _ = compare_searches(searched(base_limited=True), place, "ndr", "batched")
    assert ratio.ratio is None
    assert "the baseline is faster than the tester" in ratio.left_out[0]
    assert "≥250" in render_markdown(searched(limited=True)).replace("\u00a0", " ")
