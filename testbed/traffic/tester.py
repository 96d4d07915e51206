"""What the testers of one node and of a path have in common: a trial, counted from before to after.

Must not know what is tested, nor where frames can be lost on the way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from testbed.measure import places
from testbed.measure.ledger import Line
from testbed.measure.places import NamespaceCounts
from testbed.traffic.assembly import aside_lines, assembled
from testbed.traffic.legs import Callback, LegRunner
from testbed.traffic.trial import LegTraffic, Load, TrialTraffic

Counts = Mapping[str, NamespaceCounts]
"""What each namespace counts, by its name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tested:
    """What a trial is of: the name of the way, and the traffic on it."""

    path: str
    sizes: tuple[int, ...]
    flows: int


class LegTester(ABC):
    """Offers load by the processes of `legs` and accounts for it. Context manager."""

    def __init__(self, legs: LegRunner) -> None:
        self._legs = legs

    @abstractmethod
    def _prepared(self) -> Tested | None:
        """What has been prepared; None where nothing has."""

    @abstractmethod
    def _namespaces(self) -> Iterable[str]:
        """Those in which frames can be lost."""

    @abstractmethod
    def _losses(self, legs: tuple[LegTraffic, ...], before: Counts, after: Counts) -> list[Line]:
        """Where they were, between two counts."""

    def run(
        self,
        load: Load,
        *,
        duration_s: float,
        warm_up_s: float = 0.0,
        at_start: Callback | None = None,
        at_end: Callback | None = None,
        at_rest: Callback | None = None,
    ) -> TrialTraffic:
        """Offer `load` of what was prepared, in each direction, and account for all of it.

        `at_start` and `at_end` are called at the ends of the trial phase, `at_rest` before the
        sinks stop (`LegRunner.run`). What the nodes themselves counted as dropped, between before
        this call and after it, is still to be added to the ledger: `Ledger.with_node`.

        :raises WorkerDied: a process of the tester ended.
        """
        tested = self._prepared()
        if tested is None:
            raise RuntimeError("prepare comes first")
        before = self._counts()
        legs, window = self._legs.run(
            load,
            duration_s=duration_s,
            warm_up_s=warm_up_s,
            at_start=at_start,
            at_end=at_end,
            at_rest=at_rest,
        )
        after = self._counts()
        return assembled(
            path=tested.path,
            sizes=tested.sizes,
            flows=tested.flows,
            load=load,
            legs=legs,
            window=window,
            losses=self._losses(legs, before, after),
            aside=aside_lines(legs),
            runner=self._legs,
        )

    def _counts(self) -> Counts:
        return {name: places.namespace_counts(name) for name in self._namespaces()}

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the tester's workers."""
        return self._legs.pids

    def close(self) -> None:
        """End the tester's processes; twice is fine."""
        self._legs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
