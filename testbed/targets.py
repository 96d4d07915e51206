"""The documented claims that a comparison is checked against, as data.

Must not know how anything is measured, decided or printed: a target names the quantity that decides
and the ratio that is claimed; `testbed.measure.statistics` does the rest.

A claim is kept as a ratio *candidate / baseline*. `least` is the modest end of what is claimed and
`most` the ambitious end: beyond `least` the claim is met, beyond `most` it is exceeded. A claim of
"none added" has no ambitious end.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from testbed.errors import InputError

LOW_BELOW_PPS: Final = 1_000.0
HIGH_ABOVE_PPS: Final = 10_000.0

NONE_ADDED_MARGIN: Final = 0.05
"""What counts as "none added": no measurement can show exactly nothing, so up to 5 % is none."""


class Band(enum.StrEnum):
    """The documented load bands; `MAX` is the high band offered as fast as the tester can."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    MAX = "max"

    @classmethod
    def of(cls, rate_pps: float | None) -> Band:
        """The band of an offered rate in packets per second; None means as fast as possible."""
        if rate_pps is None:
            return cls.MAX
        if rate_pps < LOW_BELOW_PPS:
            return cls.LOW
        return cls.MEDIUM if rate_pps <= HIGH_ABOVE_PPS else cls.HIGH


class Better(enum.StrEnum):
    HIGHER = "higher"
    LOWER = "lower"


class Form(enum.StrEnum):
    """How a claim writes its figure, and so how a finding against it is written."""

    GAIN = "gain"  # +10…15 %
    REDUCTION = "reduction"  # −15…30 %
    TIMES = "times"  # 2–3×
    FEWER = "fewer"  # 2–3× fewer
    ADDED = "added"  # none added


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One row of the documented table.

    `quantity` decides; `beside` are printed next to it and decide nothing. Where the decisive
    quantity is the delivered rate and the tester, not the node, was the limit, `when_bounded`
    decides instead, and the finding says so. `node` restricts a row to a node kind, `batch` to a
    batch size. `reading` says what the figure means. A `potential` was not claimed outright.
    """

    key: str
    claim: str
    source: str
    quantity: str
    bands: tuple[Band, ...]
    least: float
    most: float | None
    better: Better
    form: Form
    reading: str
    beside: tuple[str, ...] = ()
    when_bounded: str | None = None
    node: str | None = None
    batch: int | None = None
    potential: bool = False

    @property
    def claimed(self) -> str:
        """The claim's figure in the form in which the source writes it."""
        if self.form is Form.ADDED:
            return "none added"
        if self.form is Form.FEWER:
            return f"{1 / self.least:.3g}–{1 / (self.most or self.least):.3g}× fewer"
        if self.form is Form.TIMES:
            return f"{self.least:.3g}–{self.most or self.least:.3g}×"
        if self.form is Form.REDUCTION:
            if self.batch is not None:
                # The minus belongs to zero too: the source writes the batch of one as "−0 %".
                return f"−{_arithmetic_percent(self.batch)} %"
            return f"−{100 * (1 - self.least):.0f}…{100 * (1 - (self.most or self.least)):.0f} %"
        return f"+{100 * (self.least - 1):.0f}…{100 * ((self.most or self.least) - 1):.0f} %"


def arithmetic_reduction(batch: int) -> float:
    """The share of calls that full batches of `batch` save on both sides: 1 − 1/N."""
    return 1.0 - 1.0 / batch


def _arithmetic_percent(batch: int) -> str:
    return {1: "0", 8: "87.5", 16: "93.8", 32: "96.9"}.get(
        batch, f"{100 * arithmetic_reduction(batch):.1f}"
    )


_CAPACITY = (
    "packets per CPU-second: below saturation both deliver all that is offered, so a gain in "
)
_CAPACITY += "throughput can only be a gain in capacity; the delivered rate stands beside it"
_SATURATED = (
    "delivered rate at maximum offered load (RFC 2285, FRMOL); where the tester was the limit, "
    "packets per CPU-second carry the comparison"
)
_CPU = "CPU time of the node (user and system) per delivered packet"


def _throughput(
    key: str, claim: str, source: str, band: Band, least: float, most: float, **more: str | bool
) -> Target:
    saturated = band is Band.MAX
    return Target(
        key=key,
        claim=claim,
        source=source,
        quantity="delivered_pps" if saturated else "packets_per_cpu_s",
        beside=("packets_per_cpu_s",) if saturated else ("delivered_pps",),
        when_bounded="packets_per_cpu_s" if saturated else None,
        bands=(band,),
        least=least,
        most=most,
        better=Better.HIGHER,
        reading=_SATURATED if saturated else _CAPACITY,
        form=Form.TIMES if more.get("times") else Form.GAIN,
        node=str(more["node"]) if "node" in more else None,
        potential=bool(more.get("potential")),
    )


def _syscalls(batch: int) -> Target:
    # The claim is the arithmetic, to the precision in which the source writes it: half a unit of
    # the last place.
    half_unit = 0.005 if batch == 1 else 0.0005
    claimed = arithmetic_reduction(batch)
    return Target(
        key=f"syscalls-{batch}",
        claim=f"system calls, batch {batch}",
        source="system calls, batch of 1 / 8 / 16 / 32: −0 / −87.5 / −93.8 / −96.9 %",
        quantity="syscalls_per_packet",
        beside=("io_calls_per_packet",),
        bands=(Band.MAX,),
        least=1 - claimed + half_unit,
        most=1 - claimed - half_unit,
        better=Better.LOWER,
        form=Form.REDUCTION,
        reading="data-plane calls per packet that the node handled, waiting included, counted by "
        "the kernel at maximum load, where batches are full if they ever are; the figure counts as "
        "claimed to half a unit of its last place",
        batch=batch,
    )


def _cpu(key: str, claim: str, source: str, most: float, node: str | None = None) -> Target:
    return Target(
        key=key,
        claim=claim,
        source=source,
        quantity="cpu_us_per_packet",
        beside=("machine_cpu_us_per_packet",),
        bands=(Band.HIGH,),
        least=0.85,
        most=most,
        better=Better.LOWER,
        form=Form.REDUCTION,
        reading=_CPU + "; the whole machine's stands beside it, since work can move elsewhere",
        node=node,
    )


def _none_added(
    key: str, claim: str, source: str, quantity: str, reading: str, *bands: Band
) -> Target:
    return Target(
        key=key,
        claim=claim,
        source=source,
        quantity=quantity,
        bands=bands,
        least=1 + NONE_ADDED_MARGIN,
        most=None,
        better=Better.LOWER,
        form=Form.ADDED,
        reading=reading + "; up to 5 % more counts as none",
    )


_PACED = (Band.LOW, Band.MEDIUM, Band.HIGH)
_HIGH_SOURCE = "throughput, high load (> 10 000 pps): +200…300 % (2–3×; the source writes both)"
_NODES_SOURCE = "OBU and RSU, normal traffic / high traffic: +15…20 % / +200…300 %, CPU −15…25 %"


def _node_rows(node: str) -> tuple[Target, ...]:
    name = node.upper()
    return (
        _throughput(
            f"{node}-normal",
            f"{name}, normal traffic",
            _NODES_SOURCE,
            Band.MEDIUM,
            1.15,
            1.20,
            node=node,
        ),
        _throughput(
            f"{node}-high", f"{name}, high traffic", _NODES_SOURCE, Band.MAX, 3.0, 4.0, node=node
        ),
        _cpu(f"{node}-cpu", f"{name}, CPU", _NODES_SOURCE, 0.75, node),
    )


TARGETS: Final[tuple[Target, ...]] = (
    _throughput(
        "throughput-low",
        "throughput, low load",
        "throughput, low load (< 1 000 pps): +10…15 %",
        Band.LOW,
        1.10,
        1.15,
    ),
    _throughput(
        "throughput-medium",
        "throughput, medium load",
        "throughput, medium load (1 000–10 000 pps): +50…100 % (1.5–2×)",
        Band.MEDIUM,
        1.5,
        2.0,
    ),
    _throughput("throughput-high", "throughput, high load", _HIGH_SOURCE, Band.MAX, 3.0, 4.0),
    _throughput(
        "throughput-high-times",
        "throughput, high (“2–3×”)",
        _HIGH_SOURCE,
        Band.MAX,
        2.0,
        3.0,
        times=True,
    ),
    *(_syscalls(batch) for batch in (1, 8, 16, 32)),
    _cpu("cpu-high", "CPU, high load", "CPU under high load: −15…30 %", 0.70),
    Target(
        key="switches",
        claim="context switches",
        source="context switches: 2–3× fewer",
        quantity="switches_per_packet",
        bands=_PACED,
        least=1 / 2,
        most=1 / 3,
        better=Better.LOWER,
        form=Form.FEWER,
        reading="voluntary and involuntary switches of the node per delivered packet; the source "
        "names no load, so each paced load is checked",
    ),
    _none_added(
        "latency-median",
        "latency, median",
        "latency: none added",
        "latency_p50_us",
        "one way, from the timestamp in the payload to the kernel's receive timestamp at the sink",
        *_PACED,
    ),
    _none_added(
        "latency-p99",
        "latency, p99",
        "latency: none added",
        "latency_p99_us",
        "one way, from the timestamp in the payload to the kernel's receive timestamp at the sink",
        *_PACED,
    ),
    _none_added(
        "memory",
        "memory",
        "memory: none added (buffers reused)",
        "pss_bytes",
        "proportional set size of the node at the end of a trial with many packets",
        Band.HIGH,
    ),
    *_node_rows("obu"),
    *_node_rows("rsu"),
    _throughput(
        "extreme",
        "extreme load",
        "recvmmsg/sendmmsg, “extreme loads” (named as potential): 5–10×",
        Band.MAX,
        5.0,
        10.0,
        times=True,
        potential=True,
    ),
)

BY_KEY: Final[Mapping[str, Target]] = {target.key: target for target in TARGETS}


def select(keys: Iterable[str]) -> tuple[Target, ...]:
    """The targets of these keys in the documented order; "all" means every one.

    Raises InputError for a key that is not in the table.
    """
    wanted = list(keys)
    if "all" in wanted:
        return TARGETS
    for key in wanted:
        if key not in BY_KEY:
            raise InputError("unknown target", value=key, expected="all, " + ", ".join(BY_KEY))
    return tuple(target for target in TARGETS if target.key in wanted)
