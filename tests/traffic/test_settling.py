"""A sink that is to stop takes out what waits first, however late it comes to look."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from testbed.traffic import jobs
from testbed.traffic.arrivals import Expectation
from testbed.traffic.jobs import Settle, SinkJob
from testbed.traffic.sink import Sink

HOW = Settle(quiet_s=0.2, limit_s=5.0)


class LateSink:
    """Stands in for a sink whose process is kept from running for a while after every look."""

    def __init__(self, *, arrivals_s: list[float], kept_s: float) -> None:
        self.now_s = 0.0
        self._arrivals_s = arrivals_s
        self._kept_s = kept_s
        self._heard_s = 0.0
        self.counted = 0

    def drain(self) -> int:
        waiting = [at for at in self._arrivals_s if at <= self.now_s]
        self._arrivals_s = [at for at in self._arrivals_s if at > self.now_s]
        if waiting:
            self._heard_s = self.now_s
        self.counted += len(waiting)
        self.now_s += self._kept_s
        return len(waiting)

    def quiet_for_ns(self) -> int:
        return round((self.now_s - self._heard_s) * 1e9)

    def result(self, *, quiet: bool) -> tuple[int, bool]:
        return self.counted, quiet

    def arm(self, expected: Expectation) -> None:
        pass

    def disarm(self) -> None:
        pass


@pytest.mark.parametrize("kept_s", [0.001, 0.15, 0.3, 1.0])
def test_what_came_while_nobody_looked_is_counted(
    monkeypatch: pytest.MonkeyPatch, kept_s: float
) -> None:
    sink = LateSink(arrivals_s=[0.0, 0.05, 0.1, 0.15], kept_s=kept_s)
    clock = SimpleNamespace(monotonic=lambda: sink.now_s, sleep=lambda _: None)
    monkeypatch.setattr(jobs, "time", clock)
    assert settled(sink) == (4, True)


def test_one_that_hears_more_and_more_says_that_it_did_not_hear_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sink = LateSink(arrivals_s=[n / 10 for n in range(100)], kept_s=0.01)
    monkeypatch.setattr(
        jobs, "time", SimpleNamespace(monotonic=lambda: sink.now_s, sleep=lambda _: None)
    )
    counted, quiet = settled(sink)
    assert 0 < counted < 100
    assert not quiet


def settled(sink: LateSink) -> tuple[int, bool]:
    job = SinkJob()
    job._sink = cast(Sink, sink)
    found: tuple[int, bool] = job.command("settle", HOW, lambda: True)
    return found
