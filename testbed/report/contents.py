"""The whole report as sections, from a result alone; every form renders the same ones."""

from __future__ import annotations

from dataclasses import replace

from testbed.report import checked, conditions, searched, stepped, tables
from testbed.report.blocks import Section
from testbed.report.summary import summary
from testbed.results import Result


def contents(result: Result) -> tuple[Section, ...]:
    """The sections that have something to say, the first screen first."""
    sections = {
        "summary": summary(result),
        "caveats": conditions.caveats(result),
        "checks": checked.checks(result),
        "throughput": tables.throughput(result),
        "searches": searched.searches(result),
        "calls": tables.system_calls(result),
        "cpu": tables.processor(result),
        "wakeups": tables.scheduling(result),
        "latency": tables.latency(result),
        "steps": stepped.steps(result),
        "memory": tables.memory(result),
        "ledger": conditions.ledger(result),
        "method": conditions.method(result),
        "environment": conditions.environment(result),
    }
    if result.scenario.kind == "checks":
        # Where there is nothing else, they belong on the first screen.
        order = (
            "summary",
            "checks",
            *(key for key in sections if key not in ("summary", "checks")),
        )
        sections = {key: sections[key] for key in order}
    return tuple(replace(section, key=key) for key, section in sections.items() if section.blocks)
