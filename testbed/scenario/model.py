"""A scenario as values: what is measured, under which traffic, and which variants are compared.

Made by the loader, read by the plan of trials and the runner. Must not know YAML, files, the kernel
or a tester.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, Literal

from testbed.files.document import STDIN_NAME
from testbed.topology.effect import OF_PROGRAMS
from testbed.topology.model import KINDS as NODE_KINDS
from testbed.topology.model import Kind as NodeKind
from testbed.topology.model import Node, NodeSettings, Topology

Kind = Literal["node", "path", "checks"]
Direction = Literal["forth", "back", "both"]
PassName = Literal["timing", "search", "counting"]
TrialPass = Literal["timing", "counting"]
GoalName = Literal["ndr", "pdr"]
FrameSize = int | Literal["imix"]
"""Bytes of an inner Ethernet frame without checksum, or the Internet mix."""
CheckKind = Literal["reachability", "group", "integrity", "failover"]

KINDS: Final[tuple[Kind, ...]] = ("node", "path", "checks")
CHECKS: Final[tuple[CheckKind, ...]] = ("reachability", "group", "integrity", "failover")
DIRECTIONS: Final[tuple[Direction, ...]] = ("forth", "back", "both")
PATHS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "obu": ("relay", "relay-down", "tap-to-wire", "wire-to-tap"),
        "rsu": ("tap-to-wire", "wire-to-tap", "hairpin", "group"),
    }
)
"""The ways through a node that can be measured, by its kind."""

PASSES: Final[tuple[PassName, ...]] = ("timing", "search", "counting")
GOALS: Final[Mapping[GoalName, float]] = MappingProxyType({"ndr": 0.0, "pdr": 0.005})
"""The share of packets that may be lost at a lossless rate (NDR) and a partial-drop rate (PDR)."""

RULE_PAIRS: Final = 5
RULE_TRIAL_S: Final = 2.0
RULE_FULL_TRIAL_S: Final = 10.0
RFC_2544_TRIAL_S: Final = 60.0


_UNTOLD: Final = NodeSettings()


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """A load level; `rate_pps` None is as fast as the tester can.

    `burst` packets are due together, at the same mean rate: 1 is smooth traffic. `steps_pps` are
    rates that follow each other within a trial, for equal times; `rate_pps` is then their mean.
    """

    name: str
    rate_pps: float | None
    burst: int = 1
    steps_pps: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """What is measured: one node and the way through it, or the path between two nodes.

    `nodes` are under test: they get the variants' settings, and their cost is counted. Of one
    node, `path` is one of `PATHS` and `tester_at` the neighbour whose place the tester takes. Of
    a path, `ends` are the nodes at whose TAPs the traffic enters and leaves, and `path` is the
    direction. `loads` are the load levels that it is measured at. `node_cpu` is the share of their
    CPU that the nodes of the testbed have, 0.1 to 1.
    """

    name: str
    nodes: tuple[str, ...]
    path: str
    loads: tuple[str, ...]
    tester_at: str | None = None
    ends: tuple[str, str] | None = None
    direction: Direction = "forth"
    node_cpu: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One of the things that are compared: settings laid over the node's own.

    `passes` and `loads` say where it takes part; `loads` None is everywhere.
    """

    name: str
    baseline: bool
    overrides: Mapping[str, Any]
    passes: tuple[PassName, ...]
    loads: tuple[str, ...] | None = None

    def settings(self, node: Node) -> NodeSettings:
        """What the node is told under this variant.

        How the topology's program is dealt with says nothing about another one.
        """
        told = node.settings
        if "command" in self.overrides:
            told = replace(told, **{name: getattr(_UNTOLD, name) for name in OF_PROGRAMS})
        return replace(told, **self.overrides)


@dataclass(frozen=True, kw_only=True, slots=True)
class Counting:
    """The pass in which the kernel counts system calls: `repeats` stretches of `trial_s` each."""

    trial_s: float
    repeats: int
    loads: tuple[str, ...]
    points: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Searching:
    """The pass in which rates are searched: the highest at which no more than a goal is lost.

    `goals` are shares that may be lost. Trials get from `first_trial_s` to `trial_s` long as the
    search draws near. A load is a bound once trials of `bound_s` in all stand behind it, of which
    the share `exceed_ratio` may have lost more; bounds are `width` apart at most, relative to the
    upper one. A search ends unfinished after `longest_s`.
    """

    goals: Mapping[GoalName, float]
    trial_s: float
    first_trial_s: float
    bound_s: float
    exceed_ratio: float
    width: float
    lowest_pps: float
    highest_pps: float
    longest_s: float
    pairs: int
    points: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Checks:
    """What every variant goes through before it is measured.

    The variant plays the nodes of these `kinds`; the others are as their topology has them.
    `topology` is where reachability and group traffic are checked; None is a small cell, where
    everything else always is. Traffic has to go on within `resume_within_s` of a failure.
    """

    which: tuple[CheckKind, ...] = CHECKS
    kinds: tuple[NodeKind, ...] = NODE_KINDS
    topology: Topology | None = None
    resume_within_s: float = 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """How much of a scenario a run takes: its full form, or its quick one."""

    form: Literal["quick", "full"]
    points: tuple[str, ...]
    loads: tuple[str, ...]
    frame_bytes: tuple[FrameSize, ...]
    pairs: int
    trial_s: Mapping[str, float]
    """Length of a timing trial by load."""
    warm_up_s: float
    counting: Counting | None
    searching: Searching | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """A whole scenario. `text` is the file as it was read, `source` where from."""

    name: str
    description: str
    kind: Kind
    topology: Topology
    points: tuple[Point, ...]
    loads: tuple[Load, ...]
    flows: int
    variants: tuple[Variant, ...]
    targets: tuple[str, ...]
    full: Extent
    quick: Extent
    checks: Checks = Checks()
    source: str | None = None
    text: str | None = field(default=None, repr=False)

    @property
    def files(self) -> tuple[str, ...]:
        """The files that it was read from, its own first; standard input is none."""
        read = (
            self.source,
            self.topology.source,
            self.checks.topology and self.checks.topology.source,
        )
        return tuple(dict.fromkeys(one for one in read if one and one != STDIN_NAME))

    @property
    def baseline(self) -> Variant:
        return next(variant for variant in self.variants if variant.baseline)

    def extent(self, *, quick: bool) -> Extent:
        """The quick form or the full one."""
        return self.quick if quick else self.full

    def point(self, name: str) -> Point:
        """The point of that name; StopIteration where there is none."""
        return next(point for point in self.points if point.name == name)

    def load(self, name: str) -> Load:
        """The load level of that name; StopIteration where there is none."""
        return next(load for load in self.loads if load.name == name)


def shortfalls(scenario: Scenario, *, quick: bool) -> tuple[str, ...]:
    """What a run of this form does less of than the rules ask, in plain words, most telling first.

    The rules: at least five pairs, trials of at least 2 s and of 10 s in a full run; RFC 2544 asks
    for 60 s.
    """
    if scenario.kind == "checks":
        return _checks_shortfalls(scenario, quick=quick)
    extent, full = scenario.extent(quick=quick), scenario.full
    pairs = "1 pair" if extent.pairs == 1 else f"{extent.pairs} pairs"
    said = []
    if extent.pairs < RULE_PAIRS:
        said.append(f"{pairs} of trials; the rules ask for at least {RULE_PAIRS}")
    elif extent.pairs < full.pairs:
        said.append(f"{pairs} of trials where the full form takes {full.pairs}")
    by_length: dict[float, list[str]] = {}
    for load in extent.loads:
        by_length.setdefault(extent.trial_s[load], []).append(load)
    for length, loads in sorted(by_length.items()):
        if length >= RULE_FULL_TRIAL_S:
            continue
        least = (
            f"the rules ask for at least {RULE_TRIAL_S:g} s, and for {RULE_FULL_TRIAL_S:g} s in a "
            "full run"
            if length < RULE_TRIAL_S
            else f"a full run takes {RULE_FULL_TRIAL_S:g} s"
        )
        where = "" if len(by_length) == 1 else f" at {_and(loads)} load"
        said.append(f"trials of {length:g} s{where}; {least}, RFC 2544 {RFC_2544_TRIAL_S:g} s")
    missing = [point for point in full.points if point not in extent.points]
    if missing:
        said.append(f"not measured: {_and(missing)}")
    missing = [load for load in full.loads if load not in extent.loads]
    if missing:
        said.append(f"no timed trials at {_and(missing)} load")
    sizes = [size for size in full.frame_bytes if size not in extent.frame_bytes]
    if sizes:
        said.append(f"no frames of {_and([_size(size) for size in sizes])}")
    counting, full_counting = extent.counting, full.counting
    if full_counting is not None:
        if counting is None:
            said.append("system calls are not counted by the kernel")
        elif counting.trial_s < full_counting.trial_s:
            said.append(
                f"system calls counted over {counting.repeats} × {counting.trial_s:g} s where the "
                f"full form takes {full_counting.repeats} × {full_counting.trial_s:g} s"
            )
    said += _search_shortfalls(extent.searching, full.searching)
    return (*said, *_checks_shortfalls(scenario, quick=quick))


def _checks_shortfalls(scenario: Scenario, *, quick: bool) -> tuple[str, ...]:
    if quick and "integrity" in scenario.checks.which:
        return ("checked with some frame sizes, the full form with every one",)
    return ()


def _search_shortfalls(searching: Searching | None, full: Searching | None) -> Iterator[str]:
    """RFC 2544, sections 24 and 26.1: trials of 60 s, and a rate at which nothing is lost."""
    if searching is None:
        if full is not None:
            yield "lossless rates are not searched for"
        return
    if searching.trial_s < RFC_2544_TRIAL_S:
        yield (
            f"rates searched with trials of {searching.trial_s:g} s, {searching.bound_s:g} s "
            f"behind each bound; RFC 2544 asks for {RFC_2544_TRIAL_S:g} s"
        )
    if searching.exceed_ratio:
        yield (
            f"a rate counts although up to {100 * searching.exceed_ratio:g} % of the time behind "
            "it lost more; RFC 2544 allows none"
        )
    if searching.pairs < RULE_PAIRS:
        pairs = "1 pair" if searching.pairs == 1 else f"{searching.pairs} pairs"
        yield f"{pairs} of searches; the rules ask for at least {RULE_PAIRS}"


def _size(size: FrameSize) -> str:
    return "IMIX" if size == "imix" else f"{size} bytes"


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
