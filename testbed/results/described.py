"""What was run, and where: the scenario with nothing left to default, and the machine.

Must not know what came of it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from testbed.results.base import FrameSize, Model

Settings = dict[str, str | int | float | bool | None]


class Load(Model):
    """A load level; `rate_pps` null is as fast as the tester can."""

    name: str
    rate_pps: float | None
    duration_s: float
    """Length of a timing trial at this load."""
    burst: Annotated[int, Field(ge=1)] = 1
    """How many packets are due together, at the same mean rate."""
    steps_pps: list[float] = []
    """Rates that follow each other in a trial, for equal times; `rate_pps` is their mean."""


class Point(Model):
    """What is measured: one node and the way through it, or a path from node to node."""

    name: str
    nodes: list[str]
    """The nodes under test: those that get a variant's settings, and whose cost is counted."""
    node_kind: Literal["obu", "rsu", "path"]
    path: str
    ends: list[str] | None = None
    """Of a path, the nodes at whose TAPs generator and sink stand."""
    tester_at: str | None = None
    """Of one node, the neighbour whose place the tester took."""
    node_cpu: float = Field(default=1.0, gt=0, le=1)
    """How much of their CPU the nodes had; somebody else had the rest."""


class Command(Model):
    """A program that is a node: its command line with everything filled in, and its environment."""

    argv: list[str]
    env: dict[str, str] = {}


class Variant(Model):
    """One of the things that are compared. `settings` is what the node was told."""

    name: str
    baseline: bool
    settings: Settings
    passes: list[Literal["timing", "counting", "search"]]
    command: Command | None = None
    """The program that stood in a node's place; null where the agent did."""


class Searching(Model):
    """How the lossless rates were searched for (MLRsearch): `goals` are shares that may be lost.

    A load is a bound once trials of `bound_s` stand behind it; of their time up to `exceed_ratio`
    may have lost more. `width` is how far bounds may lie apart, relative to the upper one.
    """

    goals: dict[Literal["ndr", "pdr"], float]
    trial_s: float
    first_trial_s: float
    bound_s: float
    exceed_ratio: float
    width: float
    lowest_pps: float
    highest_pps: float
    longest_s: float
    pairs: int


class Scenario(Model):
    """The scenario as it was run: overrides applied, nothing left to default."""

    name: str
    description: str
    kind: Literal["node", "path", "checks"]
    form: Literal["quick", "full"]
    pairs: int
    warm_up_s: float
    loads: list[Load]
    points: list[Point]
    frame_bytes: list[FrameSize]
    flows: int
    variants: list[Variant]
    counting_s: float | None
    searching: Searching | None = None
    targets: list[str]
    shortfalls: list[str] = []
    """What this run does less of than the rules ask of a full one, in plain words."""
    source: str | None = None
    text: str | None = None
    """The scenario file as it was read."""


class Device(Model):
    """A network device of the run: who has it, how long its queue is, what it offloads."""

    node: str
    name: str
    kind: str
    mtu: int
    queue_length: int
    mac: str | None = None
    offloads: dict[str, bool] = {}


class Environment(Model):
    """Where the run happened."""

    kernel: str
    machine: str
    cpu_model: str
    cpus: int
    cpu_governor: str | None
    mitigations: dict[str, str]
    memory_total_bytes: int
    virtualisation: str | None
    python: str
    versions: dict[str, str]
    clock_source: str | None
    perf_event_paranoid: int | None
    sysctls: dict[str, str] = {}
    load_average: list[float]
    devices: list[Device] = []
    tester_cpus: list[int]
    node_cpus: list[int]
