"""`bench coalescing`: what waiting saves and costs, at steady rates and at saturation.

An OBU relays smooth traffic. It handles frame by frame (`per-packet`), or in batches without
waiting (`off`), or lets frames gather for a bounded time (`fixed`, `adaptive`). Modes alternate at
each load, in one order and then in the other. Makes the trials and keeps their counts; what the
figures come to is `waiting`'s business.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

from testbed.bench.agents import Agent
from testbed.bench.ground import Ground, Sample
from testbed.bench.record import Countdown, Progress, Record, counts
from testbed.errors import TestbedError
from testbed.topology.model import NodeSettings
from testbed.traffic.errors import WorkerDied
from testbed.traffic.paths import Path
from testbed.traffic.trial import Load

FORMAT: Final = "testbed-bench-coalescing"
MODES: Final = ("per-packet", "off", "fixed", "adaptive")
PERCENTS: Final = (50.0, 99.0, 99.9)
MAXIMUM: Final = "max"
GATHERED: Final = 128
"""Batches of those that wait: what has gathered should not need a second one."""
_OVERHEAD_S: Final = 0.6
_WARM_UP_S: Final = 0.3


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """How much is measured. A rate of None is as fast as the tester can."""

    rates_pps: tuple[int | None, ...] = (500, 5_000, 50_000, None)
    max_wait_us: int = 1_000
    rounds: int = 7
    trial_s: float = 2.0
    burst: int = 1
    frame_bytes: int = 256


QUICK: Final = Extent(rounds=3, trial_s=1.0)


def load_name(rate_pps: int | None) -> str:
    """How that load is called."""
    return MAXIMUM if rate_pps is None else f"{rate_pps} pps"


def settings_of(mode: str, *, max_wait_us: int) -> NodeSettings:
    """The settings of the node in one of `MODES`."""
    if mode == "per-packet":
        return NodeSettings(
            handler="per-packet", engine_wire="per-packet", engine_tap="per-packet", batch=1
        )
    if mode == "off":
        return NodeSettings(handler="batched")
    assert mode in ("fixed", "adaptive")
    return NodeSettings(
        handler="batched",
        batch=GATHERED,
        coalesce="fixed" if mode == "fixed" else "adaptive",
        max_wait_us=max_wait_us,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class CoalescingBench:
    """One run, and what there is of it so far."""

    extent: Extent
    progress: Progress = lambda *_: None
    record: Record = field(default_factory=Record)

    def run(self) -> None:
        """Make all trials. What there is of them when it raises is in `document`.

        :raises Lacking: rights or limits do not suffice.
        """
        extent = self.extent
        turns = [
            (number, rate, mode)
            for number in range(extent.rounds)
            for rate in extent.rates_pps
            for mode in (MODES if number % 2 == 0 else MODES[::-1])
        ]
        with Ground("bench-coalescing") as ground:
            self.record.on(ground)
            countdown = Countdown(
                self.progress,
                len(turns),
                first_guess_s=extent.trial_s + _WARM_UP_S + _OVERHEAD_S,
            )
            for done, (number, rate, mode) in enumerate(turns):
                countdown.tell(f"{load_name(rate)}, {mode}", done)
                about = {"round": number, "load": load_name(rate), "name": mode}
                try:
                    sample = ground.trial(
                        Agent(settings=settings_of(mode, max_wait_us=extent.max_wait_us)),
                        Path.RELAY,
                        Load(rate_pps=rate, burst=extent.burst),
                        duration_s=extent.trial_s,
                        warm_up_s=_WARM_UP_S,
                        frame_bytes=extent.frame_bytes,
                    )
                except WorkerDied:
                    raise
                except TestbedError as error:
                    self.record.trials.append(about | {"failed": str(error)})
                else:
                    self.record.trials.append(about | counts(sample) | _latency(sample))

    def document(self, *, interrupted: bool = False) -> dict[str, Any]:
        """Everything that was counted, as JSON has it."""
        return self.record.document(FORMAT, asdict(self.extent), interrupted=interrupted)


def _latency(sample: Sample) -> dict[str, Any]:
    histogram = sample.traffic.latency
    return {
        "latency_ns": {f"p{percent:g}": histogram.percentile_ns(percent) for percent in PERCENTS}
    }
