"""What a run leaves behind: one versioned JSON file from which every report is made.

Counts are stored, ratios are derived later (`testbed.measure.statistics`). Must not know how a
trial is run, how a figure is judged, or how a report looks. A value that could not be taken is
`null`, never zero.
"""

from __future__ import annotations

from testbed.results.base import Count, FrameSize, in_words
from testbed.results.check import Check, CheckFailover, CheckKind, CheckPair, CheckSize
from testbed.results.described import (
    Command,
    Device,
    Environment,
    Load,
    Point,
    Scenario,
    Searching,
    Settings,
    Variant,
)
from testbed.results.result import FORMAT, SCHEMA, Result, result_schema
from testbed.results.search import Bound, Search, SearchTrial
from testbed.results.trial import (
    EXCLUDING,
    CallClass,
    Cpu,
    CpuUse,
    Engine,
    Latency,
    Ledger,
    LedgerLine,
    Mark,
    Marked,
    Memory,
    NodeCounts,
    Step,
    Switches,
    Syscalls,
    Traffic,
    Trial,
)

__all__ = [
    "EXCLUDING",
    "FORMAT",
    "SCHEMA",
    "Bound",
    "CallClass",
    "Check",
    "CheckFailover",
    "CheckKind",
    "CheckPair",
    "CheckSize",
    "Command",
    "Count",
    "Cpu",
    "CpuUse",
    "Device",
    "Engine",
    "Environment",
    "FrameSize",
    "Latency",
    "Ledger",
    "LedgerLine",
    "Load",
    "Mark",
    "Marked",
    "Memory",
    "NodeCounts",
    "Point",
    "Result",
    "Scenario",
    "Search",
    "SearchTrial",
    "Searching",
    "Settings",
    "Step",
    "Switches",
    "Syscalls",
    "Traffic",
    "Trial",
    "Variant",
    "in_words",
    "result_schema",
]
