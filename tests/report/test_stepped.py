"""Latency under each step of a load that comes in steps, as a report tells it."""

from __future__ import annotations

from made_results import pairs, result

from testbed.report.markdown import render_markdown
from testbed.results import Latency, Load, Result, Step, Trial


def stepped(trial: Trial, *p99_us: float, lost: int = 0) -> Trial:
    assert trial.traffic is not None
    steps = [
        Step(
            intended_pps=1000.0 * (number + 1), duration_ns=10**9, offered=1000,
            delivered=1000 - lost,
            latency=Latency(
                count=1000 - lost, min_ns=1, p50_ns=round(us * 500), p90_ns=1,
                p99_ns=round(us * 1e3), p999_ns=1, max_ns=round(us * 2e3),
            ),
        )
        for number, us in enumerate(p99_us)
    ]  # fmt: skip
    return trial.model_copy(update={"traffic": trial.traffic.model_copy(update={"steps": steps})})


def made() -> Result:
    trials = [
        stepped(trial, 40, 80, lost=5) if trial.variant == "batched" else stepped(trial, 20, 30)
        for trial in pairs(load="medium")
    ]
    loads = [Load(name="medium", rate_pps=1500, duration_s=2.0, steps_pps=[1000, 2000])]
    return result(trials, loads=loads)


def test_each_step_has_its_losses_and_latency() -> None:
    text = render_markdown(made()).replace("\u00a0", " ")
    _, _, section = text.partition("One-way latency under load steps")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith(("| 1: ", "| 2: "))
    ]
    assert [row[1:] for row in rows] == [
        ["per-packet", "0 %", "10.0", "20.0", "40.0"],
        ["batched", "0.5 %", "20.0", "40.0", "80.0"],
        ["per-packet", "0 %", "15.0", "30.0", "60.0"],
        ["batched", "0.5 %", "40.0", "80.0", "160"],
    ]


def test_a_load_at_one_rate_has_no_such_section() -> None:
    assert "under load steps" not in render_markdown(result(pairs(load="medium")))
