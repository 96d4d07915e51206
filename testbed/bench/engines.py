"""`bench engines`: every engine at saturation, beside the floor and the kernel, trial by trial.

Makes the trials and keeps their counts; what the figures come to is `figures`'s business, how they
look the command line's.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from testbed.bench.agents import Agent, probe_engines
from testbed.bench.entries import (
    FLOOR,
    KERNEL,
    SIZES,
    Entry,
    Planned,
    chosen,
    entries_for,
    plan,
    unavailable,
)
from testbed.bench.floor import Compiled, Floor
from testbed.bench.ground import Forwarder, Ground
from testbed.bench.inkernel import InKernel
from testbed.bench.record import Countdown, Progress, Record, counts
from testbed.bench.rewrite import WAYS
from testbed.errors import InputError, Lacking, TestbedError
from testbed.traffic.errors import WorkerDied
from testbed.traffic.paths import Path
from testbed.traffic.trial import Load

FORMAT: Final = "testbed-bench-engines"
_OVERHEAD_S: Final = 0.6
"""What a trial costs beyond its traffic, until that has been measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """How much is measured. `names` are those of entries, none for all."""

    ways: tuple[Path, ...] = WAYS
    names: tuple[str, ...] = ()
    sizes: tuple[int, ...] = SIZES
    rounds: int = 3
    trial_s: float = 1.0
    warm_up_s: float = 0.2
    frame_bytes: int = 256


QUICK: Final = Extent(sizes=(8, 32), rounds=1, trial_s=0.3, warm_up_s=0.1)


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineBench:
    """One run, and what there is of it so far."""

    extent: Extent
    progress: Progress = lambda *_: None
    record: Record = field(default_factory=Record)

    def run(self) -> None:
        """Make all trials. What there is of them when it raises is in `document`.

        :raises InputError: nothing of these names can be measured here.
        :raises Lacking: rights or limits do not suffice.
        """
        ways = self._choose()
        with ExitStack() as stack:
            compiled = None
            try:
                compiled = stack.enter_context(Compiled())
            except Lacking as error:
                self.record.unavailable[FLOOR] = str(error)
            ground = stack.enter_context(Ground("bench-engines"))
            self.record.on(ground)
            trials = plan(
                ways,
                sizes=self.extent.sizes,
                rounds=self.extent.rounds,
                floor=compiled is not None,
                kernel=True,
            )
            countdown = Countdown(
                self.progress,
                len(trials),
                first_guess_s=self.extent.trial_s + self.extent.warm_up_s + _OVERHEAD_S,
            )
            for done, planned in enumerate(trials):
                batch = "" if planned.batch is None else f", batch {planned.batch}"
                countdown.tell(f"{planned.way}, {planned.entry.name}{batch}", done)
                if planned.entry.name not in self.record.unavailable:
                    self._make(ground, compiled, planned)

    def document(self, *, interrupted: bool = False) -> dict[str, Any]:
        """Everything that was counted, as JSON has it."""
        extent = asdict(self.extent) | {"ways": [str(way) for way in self.extent.ways]}
        return self.record.document(FORMAT, extent, interrupted=interrupted)

    def _choose(self) -> dict[Path, Sequence[Entry]]:
        works = probe_engines()
        ways: dict[Path, Sequence[Entry]] = {}
        lacking = self.record.unavailable
        for way in self.extent.ways:
            wanted = chosen(entries_for(way), self.extent.names)
            for one in wanted:
                if (why := unavailable(one, works)) is not None:
                    lacking[one.name] = why
            ways[way] = [one for one in wanted if one.name not in lacking]
        if not any(ways.values()):
            cannot = "; ".join(f"{name} cannot: {why}" for name, why in lacking.items())
            raise InputError(
                "none of these engines can be measured here",
                value=", ".join(self.extent.names),
                expected=cannot or "an engine of these paths",
            )
        return ways

    def _make(self, ground: Ground, compiled: Compiled | None, planned: Planned) -> None:
        entry = planned.entry
        forwarder: Forwarder
        if entry.name == KERNEL:
            forwarder = InKernel()
        elif entry.name == FLOOR:
            assert compiled is not None
            assert planned.batch is not None
            forwarder = Floor(compiled=compiled, batch=planned.batch)
        else:
            assert planned.batch is not None
            forwarder = Agent(settings=entry.settings(planned.batch))
        about = {
            "number": planned.number,
            "round": planned.round,
            "path": str(planned.way),
            "name": entry.name,
            "batch": planned.batch,
            "pair": planned.pair,
        }
        try:
            sample = ground.trial(
                forwarder,
                planned.way,
                Load(rate_pps=None),
                duration_s=self.extent.trial_s,
                warm_up_s=self.extent.warm_up_s,
                frame_bytes=self.extent.frame_bytes,
            )
        except Lacking as error:
            self.record.unavailable[entry.name] = str(error)
        except WorkerDied:
            raise
        except TestbedError as error:
            self.record.trials.append(about | {"failed": str(error)})
        else:
            self.record.trials.append(about | counts(sample))
