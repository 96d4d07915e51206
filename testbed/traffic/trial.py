"""One stretch of test traffic and what came of it, as plain values.

Must not know how it was made or what it will be compared with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from testbed.measure.latency import Histogram
from testbed.measure.ledger import Ledger
from testbed.traffic.arrivals import TRIAL, SinkResult
from testbed.traffic.generator import GeneratorResult

OFFERED_SHARE: Final = 0.97
"""Below this share of the intended frames a trial says more about the generator than the node. What
a shared host takes away for a moment is never offered later, and a trial of a node with three
packets in a hundred less to do still tells what a packet costs it."""
SEARCH_SHARE: Final = 0.99
"""The same where the load itself is what is looked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """How fast: `rate_pps` None is as fast as the tester can; `burst` frames are due together.

    With `steps_pps` the trial is cut into as many parts of equal length, each with a rate of its
    own; `rate_pps` is then their mean, and the warm-up has the first.
    """

    rate_pps: float | None
    burst: int = 1
    steps_pps: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """Frames of a phase, in copies: one for each receiver that a frame was meant for.

    `refused` are sends that the kernel refused the generator: never offered, no loss of anybody.
    """

    offered: int
    delivered: int
    duplicated: int
    reordered: int
    corrupted: int
    misaddressed: int
    refused: int

    @property
    def lost(self) -> int:
        """Offered and not delivered intact. Below zero only if something was made up."""
        return self.offered - self.delivered

    def plus(self, other: Tally) -> Tally:
        """Both together."""
        return Tally(
            offered=self.offered + other.offered,
            delivered=self.delivered + other.delivered,
            duplicated=self.duplicated + other.duplicated,
            reordered=self.reordered + other.reordered,
            corrupted=self.corrupted + other.corrupted,
            misaddressed=self.misaddressed + other.misaddressed,
            refused=self.refused + other.refused,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LegTraffic:
    """One direction: what its generator and its sink report."""

    copies: int
    generator: GeneratorResult
    sink: SinkResult
    at_tap: bool
    """Whether frames went into a TAP, where a refusal is a full queue to the node: a loss."""

    def tally(self, *, trial_only: bool) -> Tally:
        """The counts of the trial phase, or of warm-up and trial together."""
        made, heard = self.generator, self.sink
        seen = heard.total(TRIAL if trial_only else None)
        damage = heard.damage[TRIAL:] if trial_only else heard.damage
        refused = sum((made.refused_counted if trial_only else made.refused).values())
        sent = made.counted if trial_only else made.offered
        lost_at_tap = refused if self.at_tap else 0
        return Tally(
            offered=(sent + lost_at_tap) * self.copies,
            delivered=seen.delivered,
            duplicated=seen.duplicated,
            reordered=seen.reordered,
            corrupted=sum(part.corrupted for part in damage),
            misaddressed=sum(part.misaddressed for part in damage),
            refused=refused - lost_at_tap,
        )

    def short_of(self, share: float) -> str | None:
        """What was offered, if that is less than `share` of what was intended."""
        made = self.generator
        if made.intended_counted is None:
            return None
        offered = made.counted + (sum(made.refused_counted.values()) if self.at_tap else 0)
        if offered >= share * made.intended_counted:
            return None
        return f"offered {offered} of {made.intended_counted} frames in time"

    def limits(self) -> tuple[str | None, str | None]:
        """Why the generator, why the sink was the limit; None where it was not."""
        made, heard = self.generator, self.sink
        generator, sink = self.short_of(OFFERED_SHARE), None
        if made.aborted:
            generator = "was interrupted"
        elif not made.counted:
            generator = generator or "offered nothing"
        if heard.drops:
            sink = f"had no room for {heard.drops} frames"
        elif not heard.quiet:
            sink = "frames were still coming when it stopped"
        return generator, sink


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTraffic:
    """One part of a trial whose load comes in steps; in copies, as in a `Tally`."""

    rate_pps: float
    duration_ns: int
    offered: int
    delivered: int
    latency: Histogram


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialTraffic:
    """A whole trial. `trial` is what counts; `whole` includes the warm-up, as the ledger does.

    The ledger lacks what the node itself dropped until `Ledger.with_node` adds it.
    """

    path: str
    sizes: tuple[int, ...]
    flows: int
    load: Load
    duration_ns: int
    """Length of the trial phase as it was asked for; rates are counts over this time."""
    warm_up_ns: int
    trial: Tally
    whole: Tally
    latency: Histogram
    ledger: Ledger
    legs: tuple[LegTraffic, ...]
    clock_step_ns: int
    """How far the wall clock was set during the trial: that much of the latency is wrong."""
    generator_limited: str | None
    sink_limited: str | None
    cpus: Mapping[str, tuple[int, ...]]
    """Where the tester ran: "generator" and "sink"."""
    scheduling: Mapping[str, str]
    """The scheduling class of each, and why if it is not the one that was wanted."""
    steps: tuple[StepTraffic, ...] = ()

    @property
    def delivered_pps(self) -> float | None:
        """Delivered frames per second of the trial phase; None over no time."""
        return self.trial.delivered * 1e9 / self.duration_ns if self.duration_ns else None

    @property
    def offered_pps(self) -> float | None:
        """Offered frames per second of the trial phase; None over no time."""
        return self.trial.offered * 1e9 / self.duration_ns if self.duration_ns else None

    @property
    def lower_bound(self) -> bool:
        """Whether the node took all that the tester could offer, and so might take more."""
        return self.load.rate_pps is None and self.trial.lost <= 0

    def busy(self) -> dict[str, float]:
        """Share of one CPU that generators and sinks used while they worked."""
        return {
            "generator": sum(
                leg.generator.cpu_ns / max(1, leg.generator.elapsed_ns) for leg in self.legs
            ),
            "sink": sum(leg.sink.cpu_ns / max(1, leg.sink.elapsed_ns) for leg in self.legs),
        }
