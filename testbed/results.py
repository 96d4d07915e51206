"""What a run leaves behind: one versioned JSON file from which every report is made.

Counts are stored, ratios are derived later (`testbed.measure.statistics`). Must not know how a
trial is run, how a figure is judged, or how a report looks. A value that could not be taken is
`null`, never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

FORMAT: Final = "testbed-result"
SCHEMA: Final = 1
"""The version of the schema that this program writes; it reads this one and all older ones."""

Count = Annotated[int, Field(ge=0)]
Settings = dict[str, str | int | float | bool | None]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Load(_Model):
    """A load level; `rate_pps` null is as fast as the tester can."""

    name: str
    rate_pps: float | None
    duration_s: float
    """Length of a timing trial at this load."""


class Point(_Model):
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


class Variant(_Model):
    """One of the things that are compared. `settings` is what the node was told."""

    name: str
    baseline: bool
    settings: Settings
    passes: list[Literal["timing", "counting"]]


class Scenario(_Model):
    """The scenario as it was run: overrides applied, nothing left to default."""

    name: str
    description: str
    kind: Literal["node", "path"]
    form: Literal["quick", "full"]
    pairs: int
    warm_up_s: float
    loads: list[Load]
    points: list[Point]
    frame_bytes: list[int]
    flows: int
    variants: list[Variant]
    counting_s: float | None
    targets: list[str]
    shortfalls: list[str] = []
    """What this run does less of than the rules ask of a full one, in plain words."""
    source: str | None = None
    text: str | None = None
    """The scenario file as it was read."""


class Device(_Model):
    """A network device of the run: who has it, how long its queue is, what it offloads."""

    node: str
    name: str
    kind: str
    mtu: int
    queue_length: int
    mac: str | None = None
    offloads: dict[str, bool] = {}


class Environment(_Model):
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


class LedgerLine(_Model):
    """Frames that ended at a place for a cause."""

    place: str
    cause: str
    count: int


class Ledger(_Model):
    """What became of every frame, warm-up included: offered = delivered + lines + unexplained.

    A frame that is meant for several receivers counts once for each. `aside` belongs to the story
    and not to the sum. `node_told` is whether the node said what it dropped.
    """

    offered: Count
    delivered: Count
    lines: list[LedgerLine]
    aside: list[LedgerLine] = []
    node_told: bool
    unexplained: int


class Latency(_Model):
    """One way, in ns; percentiles of `count` delivered packets.

    `histogram` has [bin, count] for every bin that is not empty: bins below 2048 are 1 ns wide,
    above, every power of two is cut into 1024.
    """

    count: Count
    min_ns: int
    p50_ns: int
    p90_ns: int
    p99_ns: int
    p999_ns: int
    max_ns: int
    mean_ns: float | None = None
    histogram: list[tuple[int, int]] = []


class Traffic(_Model):
    """What the tester offered and what it got back, after the warm-up.

    `duration_ns` is how long it offered; rates are counts over that time.
    """

    intended_pps: float | None
    frame_bytes: Count
    duration_ns: Count
    offered: Count
    delivered: Count
    lost: int
    duplicated: Count
    reordered: Count
    corrupted: Count
    refused: Count = 0
    """Sends that the kernel refused the generator: never offered, no loss of anybody."""
    sink_drops: Count = 0
    generator_busy: float | None = None
    """Share of one CPU that the generator used."""
    sink_busy: float | None = None
    clock_step_ns: int = 0
    """How far the wall clock was set meanwhile: that much of the latency is wrong."""
    latency: Latency | None = None


class Cpu(_Model):
    """CPU time over the trial's window in ns; task-clock where the kernel counts it."""

    task_clock_ns: int | None
    user_ns: int | None
    system_ns: int | None
    window_ns: Count
    source: str = ""
    run_delay_ns: int | None = None
    """Time that the node was ready to run and waited for its CPU."""


class Switches(_Model):
    voluntary: Count
    involuntary: Count


class Memory(_Model):
    pss_start_bytes: int | None = None
    pss_end_bytes: int | None
    private_end_bytes: int | None = None
    rss_end_bytes: int | None
    rss_peak_bytes: int | None


class Engine(_Model):
    """What was asked for and what the node used, and why, where the two differ."""

    requested: str
    used: str
    why: str | None = None


CallClass = Literal["receive", "send", "wait", "ring", "other"]


class Syscalls(_Model):
    """Calls by name over the window: by the kernel's tracepoints, and as the node counted itself.

    `kernel` are the calls of the data plane: receiving and sending on the wire's and the TAP's
    descriptors, and waiting. `aside` are receiving and sending on other descriptors (the control
    socket, logs). `total` is every call whatever its name. `classes` says what each name is for.
    """

    kernel: dict[str, Count] | None = None
    aside: dict[str, Count] = {}
    total: int | None = None
    by_side: dict[str, dict[str, Count]] = {}
    """Side (wire, tap) → name → calls, where the descriptor tells; part of `kernel`."""
    node: dict[str, Count] | None = None
    classes: dict[str, CallClass] = {}
    method: str | None = None
    complete: bool = True


class NodeCounts(_Model):
    """The node under test over the trial's window."""

    pid: int | None = None
    cpu: Cpu | None = None
    switches: Switches | None = None
    memory: Memory | None = None
    syscalls: Syscalls | None = None
    wakeups: int | None = None
    fill: dict[str, dict[str, int]] = {}
    """Side → batch size found → how often."""
    waited_ns: int | None = None
    rx_frames: dict[str, Count] = {}
    tx_frames: dict[str, Count] = {}
    """Side → frames, as the node counted them."""
    handler: str | None = None
    batch: int | None = None
    engines: dict[str, Engine] = {}
    drops: dict[str, int] = {}


class CpuUse(_Model):
    """One CPU of the machine over the window, in ns."""

    cpu: int
    busy_ns: Count
    user_ns: Count
    system_ns: Count
    irq_ns: Count = 0
    softirq_ns: Count
    steal_ns: Count
    idle_ns: Count


Mark = Literal[
    "generator-limited", "sink-limited", "node-died", "failed", "lower-bound", "ledger-open"
]
EXCLUDING: Final[frozenset[str]] = frozenset(
    {"generator-limited", "sink-limited", "node-died", "failed"}
)
"""Marks that keep a trial out of every verdict; the others only qualify its figures."""


class Marked(_Model):
    mark: Mark
    why: str


class Trial(_Model):
    """One trial: one variant, one load, one stretch of traffic after a warm-up."""

    id: Count
    phase: Literal["timing", "counting"]
    point: str
    load: str
    frame_bytes: Count
    variant: str
    pair: Count | None
    started_s: float
    """Seconds after the start of the run."""
    traffic: Traffic | None
    ledger: Ledger | None = None
    node: NodeCounts | None = None
    machine: list[CpuUse] = []
    marks: list[Marked] = []

    @property
    def counts(self) -> bool:
        """Whether the trial may take part in a verdict."""
        return self.traffic is not None and not any(m.mark in EXCLUDING for m in self.marks)

    @property
    def spoiled_by_tester(self) -> bool:
        """Whether generator or sink was the limit, and it says nothing of the node."""
        return any(m.mark in ("generator-limited", "sink-limited") for m in self.marks)

    def marked(self, mark: Mark) -> bool:
        """Whether it carries this mark."""
        return any(m.mark == mark for m in self.marks)


class Result(_Model):
    """A whole run."""

    format: Literal["testbed-result"] = "testbed-result"
    schema_: int = Field(default=SCHEMA, alias="schema")
    started: str
    finished: str | None
    elapsed_s: float
    interrupted: bool = False
    seed: int
    scenario: Scenario
    topology: dict[str, Any]
    environment: Environment
    trials: list[Trial]
    notes: list[str] = []

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True
    )

    def load(self, name: str) -> Load:
        """The load level of that name; KeyError where there is none."""
        return _named(self.scenario.loads, name)

    def point(self, name: str) -> Point:
        """The measured point of that name; KeyError where there is none."""
        return _named(self.scenario.points, name)

    def variant(self, name: str) -> Variant:
        """The variant of that name; KeyError where there is none."""
        return _named(self.scenario.variants, name)

    @property
    def baseline(self) -> Variant:
        return next(variant for variant in self.scenario.variants if variant.baseline)


_Named = TypeVar("_Named", Load, Point, Variant)


def _named(things: list[_Named], name: str) -> _Named:
    for thing in things:
        if thing.name == name:
            return thing
    raise KeyError(name)


def result_schema() -> Mapping[str, Any]:
    """The JSON Schema of a result file."""
    return Result.model_json_schema(by_alias=True)
