"""What every benchmark keeps beside its figures: where and when, and the trials as they come.

Counts are kept, ratios derived. Must not know what is measured.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from testbed.bench.ground import Ground, Sample
from testbed.experiment.outcome import LOWER_BOUND_LOSS
from testbed.measure import environment
from testbed.results.store import write_atomically

SCHEMA: Final = 1

Progress = Callable[[str, int, int, float], object]
"""What is at work, how many trials are done, of how many, and the seconds that are left."""


@dataclass(slots=True)
class Record:
    """One run of a benchmark, so far. `unavailable` is by name what cannot be measured, and why."""

    trials: list[dict[str, Any]] = field(default_factory=list)
    unavailable: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    cpus: dict[str, list[int]] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=lambda: asdict(environment.machine()))
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    _begun: float = field(default_factory=time.monotonic)

    def on(self, ground: Ground) -> None:
        """It is measured there."""
        if ground.note is not None:
            self.notes.append(ground.note)
        tester = ground.pins.tester
        self.cpus = {
            "tester": sorted({*(tester.generator or ()), *(tester.sink or ())}),
            "node": list(ground.node_cpus),
        }

    def document(
        self, kind: str, extent: dict[str, Any], *, interrupted: bool = False
    ) -> dict[str, Any]:
        """Everything that was counted, as JSON has it."""
        return {
            "format": kind,
            "schema": SCHEMA,
            "started": self.started,
            "elapsed_s": round(time.monotonic() - self._begun, 1),
            "interrupted": interrupted,
            "machine": self.machine,
            "cpus": self.cpus,
            "extent": extent,
            "unavailable": self.unavailable,
            "notes": self.notes,
            "trials": self.trials,
        }


class Countdown:
    """Tells `progress` of one trial after the other, and how long the rest will take."""

    def __init__(self, progress: Progress, trials: int, *, first_guess_s: float) -> None:
        self._progress = progress
        self._trials = trials
        self._guess_s = first_guess_s
        self._begun = time.monotonic()

    def tell(self, title: str, done: int) -> None:
        """`done` trials are over and the next one is called `title`."""
        each_s = (time.monotonic() - self._begun) / done if done else self._guess_s
        self._progress(title, done, self._trials, each_s * (self._trials - done))


def counts(sample: Sample) -> dict[str, Any]:
    """What is kept of a trial, as JSON has it."""
    made, used = sample.traffic, sample.used
    trial = made.trial
    return {
        "offered": trial.offered,
        "delivered": trial.delivered,
        "corrupted": trial.corrupted,
        "duplicated": trial.duplicated,
        "misaddressed": trial.misaddressed,
        "duration_ns": made.duration_ns,
        "cpu_ns": used.cpu_ns,
        "run_delay_ns": used.run_delay_ns,
        "switches": used.switches,
        "calls": None if used.calls is None else {n: c for n, c in used.calls.items() if c},
        "extra": dict(used.extra),
        # It took all that the tester could offer, and so might take more.
        "lower_bound": made.load.rate_pps is None
        and trial.lost <= LOWER_BOUND_LOSS * trial.offered,
        "generator_limited": made.generator_limited,
        "spoiled": made.sink_limited or (made.generator_limited if not trial.offered else None),
    }


def usable(trial: dict[str, Any]) -> bool:
    """Whether the trial has counts that stand for what was measured."""
    return not trial.get("failed") and not trial.get("spoiled")


def failures(trials: Sequence[dict[str, Any]]) -> list[str]:
    """Why trials are not usable."""
    return [why for one in trials if (why := one.get("failed") or one.get("spoiled"))]


def write_document(document: dict[str, Any], path: Path) -> Path:
    """Write it; the file is whole or untouched."""
    return write_atomically(path, json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n")
