"""The whole report as sections, from a result alone; every form renders the same ones."""

from __future__ import annotations

from testbed.report import conditions, tables
from testbed.report.blocks import Section
from testbed.report.summary import summary
from testbed.results import Result


def contents(result: Result) -> tuple[Section, ...]:
    """The sections that have something to say, the first screen first."""
    sections = (
        summary(result),
        conditions.caveats(result),
        tables.throughput(result),
        tables.system_calls(result),
        tables.processor(result),
        tables.scheduling(result),
        tables.latency(result),
        tables.memory(result),
        conditions.ledger(result),
        conditions.method(result),
        conditions.environment(result),
    )
    return tuple(section for section in sections if section.blocks)
