"""Runs legs: a generator and a sink process for each, one clock, one beginning, one end.

Shared by the tester of one node and the tester of a path. Must not know nodes, paths or protocol.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar, Final

from testbed.kernel.netns import run_in
from testbed.traffic import scheduling
from testbed.traffic.arrivals import WARM_UP, CountFrom, SinkResult
from testbed.traffic.errors import NotForwarding, TrafficError
from testbed.traffic.generator import GeneratorResult, GeneratorSpec, Offer
from testbed.traffic.jobs import Settle
from testbed.traffic.pacing import Step
from testbed.traffic.paths import Leg
from testbed.traffic.place import Place, Surface
from testbed.traffic.sink import SinkSpec
from testbed.traffic.trial import LegTraffic, Load
from testbed.traffic.worker import Worker, wait_until_ns

QUIET_S: Final = 0.1
"""A sink stops once nothing has come for this long, after the nodes have come to rest."""
DRAIN_LIMIT_S: Final = 5.0
_LEAD_NS: Final = 20_000_000
_PROBE_QUIET_S: Final = 0.03
_PROBE_S: Final = 0.02
_AGAIN_S: Final = 0.05
_MARGIN_S: Final = 10.0

Callback = Callable[[], object]


@dataclass(frozen=True, kw_only=True, slots=True)
class TesterCpus:
    """The CPUs of the tester's processes; None leaves them to the scheduler.

    Generator and sink may share CPUs with each other, and should with nobody else.
    """

    __test__: ClassVar[bool] = False  # no test case, whatever its name begins with

    generator: tuple[int, ...] | None = None
    sink: tuple[int, ...] | None = None

    @classmethod
    def one(cls, cpu: int) -> TesterCpus:
        """Everything on one CPU."""
        return cls(generator=(cpu,), sink=(cpu,))


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """A leg and the places of its two ends, and where its lessons are given."""

    leg: Leg
    inject: Place
    collect: Place
    lesson_places: tuple[tuple[Surface, Place], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """When something of a trial happened; both clocks were read together at the beginning."""

    start_ns: int
    count_from_ns: int
    stop_ns: int
    clock_step_ns: int


class LegRunner:
    """The processes for `count` legs. They are started once and opened anew for each traffic."""

    def __init__(self, count: int, cpus: TesterCpus) -> None:
        self._cpus = cpus
        self._generators: list[Worker] = []
        self._sinks: list[Worker] = []
        self._routes: tuple[Route, ...] = ()
        self.granted: dict[str, tuple[int, ...]] = {}
        """On which CPUs "generator" and "sink" run."""
        self.sink_scheduling = ""
        """The scheduling class of the sinks in the last trial."""
        try:
            for _ in range(count):
                self._generators.append(Worker("generator", cpus=cpus.generator))
                self._sinks.append(Worker("sink", cpus=cpus.sink))
        except BaseException:
            self.close()
            raise

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of all workers."""
        return tuple(worker.pid for worker in (*self._generators, *self._sinks))

    def open(self, routes: Sequence[Route]) -> None:
        """Open generators and sinks at the routes' ends; OSError if an interface is not there."""
        if len(routes) != len(self._generators):
            raise ValueError("a route for every leg")
        self._routes = tuple(routes)
        for worker, route in zip(self._generators, routes, strict=True):
            worker.begin("open", GeneratorSpec(place=route.inject, cpus=self._cpus.generator))
        for worker, route in zip(self._sinks, routes, strict=True):
            spec = SinkSpec(place=route.collect, inner_at=route.leg.inner_at, cpus=self._cpus.sink)
            worker.begin("open", spec)
        # The first answer waits for an interpreter to start and load numpy.
        answers = _all([(worker, 30.0) for worker in (*self._generators, *self._sinks)])
        generators, sinks = answers[: len(routes)], answers[len(routes) :]
        for worker, route in zip(self._generators, routes, strict=True):
            worker.begin("load", route.leg.frames)
        _all([(worker, 30.0) for worker in self._generators])
        self.granted = {
            "generator": tuple(sorted({cpu for found in generators for cpu in found})),
            "sink": tuple(sorted({cpu for found in sinks for cpu in found.cpus})),
        }

    def teach(self) -> None:
        """Send every lesson once; OSError if an interface refuses."""
        for route in self._routes:
            places = dict(route.lesson_places)
            for lesson in route.leg.lessons:
                send_once(places[lesson.surface], lesson.frame)

    def wait_for_passage(
        self, *, timeout_s: float, nudge: Callback | None = None
    ) -> tuple[float, int]:
        """Probe until every stream of every leg comes through whole; (seconds, rounds) it took.

        `nudge` is called before every round but the first.

        :raises NotForwarding: it did not within `timeout_s`; says which streams do not.
        """
        begun = time.monotonic()
        rounds = 0
        while True:
            rounds += 1
            missing = self._probe()
            waited = time.monotonic() - begun
            if not missing:
                return waited, rounds
            if waited > timeout_s:
                raise NotForwarding(
                    f"not forwarding after {waited:.1f} s ({rounds} rounds): " + "; ".join(missing)
                )
            if nudge is not None:
                nudge()
            time.sleep(_AGAIN_S)
            self.teach()

    def run(
        self,
        load: Load,
        *,
        duration_s: float,
        warm_up_s: float,
        at_start: Callback | None = None,
        at_end: Callback | None = None,
        at_rest: Callback | None = None,
    ) -> tuple[tuple[LegTraffic, ...], Window]:
        """Offer the load on every leg at once.

        `at_start` is called when the warm-up ends, `at_end` when the last frame is due, both in
        this process, so that counters can be read over exactly the trial phase. `at_rest` is
        called when everything was offered; it may wait for those on the way to work it off, and
        the sinks count on until it returns and nothing comes any more. Without it, what comes
        after a silence of `QUIET_S` is not counted.
        """
        for worker, route in zip(self._sinks, self._routes, strict=True):
            worker.begin("arm", route.leg.expected)
        _all([(worker, 10.0) for worker in self._sinks])
        start = time.monotonic_ns() + _LEAD_NS
        offset = time.time_ns() - time.monotonic_ns()
        trial = start + round(warm_up_s * 1e9)
        stop = trial + round(duration_s * 1e9)
        steps = _steps(load, trial, stop)
        from_ = CountFrom(
            time_ns=trial + offset,
            steps_ns=tuple(step.from_ns + offset for step in steps),
            fastest_pps=max(load.steps_pps, default=load.rate_pps),
        )
        for worker in self._sinks:
            worker.begin("count from", from_)
        self.sink_scheduling = "; ".join(sorted(set(_all([(w, 10.0) for w in self._sinks]))))
        try:
            offer = Offer(
                rate_pps=load.rate_pps,
                start_ns=start,
                trial_ns=trial,
                stop_ns=stop,
                wall_ns=offset,
                burst=load.burst,
                steps=steps,
            )
            # Whoever keeps the time must not wait for those who keep a CPU busy.
            with scheduling.realtime(scheduling.CONDUCTOR_PRIORITY):
                for worker in self._generators:
                    worker.begin("run", offer)
                wait_until_ns(trial)
                if at_start is not None:
                    at_start()
                wait_until_ns(stop)
                if at_end is not None:
                    at_end()
            made: list[GeneratorResult] = _all([(w, _MARGIN_S) for w in self._generators])
        except BaseException:
            self._abandon()
            raise
        if at_rest is not None:
            at_rest()
        heard = self._settle(QUIET_S)
        window = Window(
            start_ns=start,
            count_from_ns=trial,
            stop_ns=stop,
            clock_step_ns=time.time_ns() - time.monotonic_ns() - offset,
        )
        return self._together(made, heard), window

    def close(self) -> None:
        """End all processes; twice is fine."""
        for worker in (*self._generators, *self._sinks):
            worker.close()

    def _probe(self) -> list[str]:
        """Send the pattern of every leg once, gently; what did not come, in words."""
        for worker, route in zip(self._sinks, self._routes, strict=True):
            worker.begin("arm", route.leg.expected)
        _all([(worker, 10.0) for worker in self._sinks])
        start = time.monotonic_ns() + _LEAD_NS // 4
        for worker, route in zip(self._generators, self._routes, strict=True):
            pattern = len(route.leg.frames.templates)
            rate = max(200.0, min(5_000.0, pattern / _PROBE_S))
            offer = Offer(
                rate_pps=rate,
                start_ns=start,
                trial_ns=start,
                stop_ns=start + round(pattern / rate * 1e9),
                wall_ns=time.time_ns() - time.monotonic_ns(),
            )
            worker.begin("run", offer)
        made: list[GeneratorResult] = _all([(w, 30.0) for w in self._generators])
        heard = self._settle(_PROBE_QUIET_S)
        return [
            text
            for number, (route, sent, got) in enumerate(zip(self._routes, made, heard, strict=True))
            if (text := _missing(route, sent, got, number))
        ]

    def _settle(self, quiet_s: float) -> list[SinkResult]:
        for worker in self._sinks:
            worker.begin("settle", Settle(quiet_s=quiet_s, limit_s=DRAIN_LIMIT_S))
        return _all([(worker, DRAIN_LIMIT_S + _MARGIN_S) for worker in self._sinks])

    def _together(
        self, made: Sequence[GeneratorResult], heard: Sequence[SinkResult]
    ) -> tuple[LegTraffic, ...]:
        return tuple(
            LegTraffic(
                copies=route.leg.copies,
                generator=sent,
                sink=got,
                at_tap=route.inject.surface is Surface.TAP,
            )
            for route, sent, got in zip(self._routes, made, heard, strict=True)
        )

    def _abandon(self) -> None:
        """Have generators stop at once, so that the workers can be used or closed."""
        for worker in self._generators:
            with suppress(TrafficError, OSError):
                worker.give_up()
        for worker in self._generators:
            with suppress(TrafficError, OSError):
                worker.drop_answer(timeout_s=2.0)


def _steps(load: Load, trial_ns: int, stop_ns: int) -> tuple[Step, ...]:
    """The steps of a load over the trial phase, of equal length."""
    count = len(load.steps_pps)
    return tuple(
        Step(rate_pps=rate_pps, from_ns=trial_ns + (stop_ns - trial_ns) * number // count)
        for number, rate_pps in enumerate(load.steps_pps)
    )


def send_once(place: Place, *frames: bytes) -> None:
    """Send frames at a place from this process; OSError if the kernel refuses."""

    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
            sock.bind((place.ifname, 0))
            for frame in frames:
                sock.send(frame)

    run_in(place.netns, send)


def _missing(route: Route, sent: GeneratorResult, got: SinkResult, number: int) -> str | None:
    expected = route.leg.expected
    streams = got.streams[WARM_UP]
    gone: list[str] = []
    for flow in range(expected.flows):
        for receiver in range(expected.receivers):
            count = streams[flow * expected.receivers + receiver].delivered
            if count < sent.per_flow.get(flow, 0) or not count:
                name = f"flow {flow}"
                if expected.receivers > 1:
                    name += f" to receiver {receiver}"
                gone.append(name)
    if not gone:
        return None
    total = expected.streams
    shown = ", ".join(gone[:4]) + (" …" if len(gone) > 4 else "")
    damage = got.damage[WARM_UP]
    notes = [
        f"{count} {name}"
        for name, count in (
            ("arrived damaged", damage.corrupted),
            ("arrived with another header than expected", damage.misaddressed),
            ("refused by the kernel", sum(sent.refused.values())),
        )
        if count
    ]
    return (
        f"{route.inject.ifname} in {route.inject.netns} → {route.collect.ifname} in "
        f"{route.collect.netns}: {len(gone)} of {total} streams missing ({shown})"
        + (f", {', '.join(notes)}" if notes else "")
    )


def _all(workers: Sequence[tuple[Worker, float]]) -> list:  # type: ignore[type-arg]
    """The answers of all; the first failure is raised once every answer is in."""
    answers = []
    failure: BaseException | None = None
    for worker, timeout_s in workers:
        try:
            answers.append(worker.finish(timeout_s=timeout_s))
        except (TrafficError, OSError) as error:
            failure = failure or error
    if failure is not None:
        raise failure
    return answers
