"""One trial: what was offered, what came of it, and what it cost the node.

Counts are stored, ratios are derived later. Must not know the other trials.
"""

from __future__ import annotations

from typing import Final, Literal

from testbed.results.base import Count, FrameSize, Model


class LedgerLine(Model):
    """Frames that ended at a place for a cause."""

    place: str
    cause: str
    count: int


class Ledger(Model):
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


class Latency(Model):
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


class Step(Model):
    """One part of a trial whose load comes in steps, by the time of sending."""

    intended_pps: float
    duration_ns: Count
    offered: Count
    delivered: Count
    latency: Latency | None = None


class Traffic(Model):
    """What the tester offered and what it got back, after the warm-up.

    `duration_ns` is how long it offered; rates are counts over that time.
    """

    intended_pps: float | None
    frame_bytes: FrameSize
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
    steps: list[Step] = []


class Cpu(Model):
    """CPU time over the trial's window in ns; task-clock where the kernel counts it."""

    task_clock_ns: int | None
    user_ns: int | None
    system_ns: int | None
    window_ns: Count
    source: str = ""
    run_delay_ns: int | None = None
    """Time that the node was ready to run and waited for its CPU."""


class Switches(Model):
    voluntary: Count
    involuntary: Count


class Memory(Model):
    pss_start_bytes: int | None = None
    pss_end_bytes: int | None
    private_end_bytes: int | None = None
    rss_end_bytes: int | None
    rss_peak_bytes: int | None


class Engine(Model):
    """What was asked for and what the node used, and why, where the two differ."""

    requested: str
    used: str
    why: str | None = None


CallClass = Literal["receive", "send", "wait", "ring", "other"]


class Syscalls(Model):
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


class NodeCounts(Model):
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


class CpuUse(Model):
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


class Marked(Model):
    mark: Mark
    why: str


class Trial(Model):
    """One trial: one variant, one load, one stretch of traffic after a warm-up."""

    id: Count
    phase: Literal["timing", "counting"]
    point: str
    load: str
    frame_bytes: FrameSize
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
