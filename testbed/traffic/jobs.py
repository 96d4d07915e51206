"""The jobs that a worker process can have: generator, sink, speaker, rival.

Must not know how commands reach it, nor what is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from testbed.measure import cpu
from testbed.traffic import scheduling
from testbed.traffic.errors import TrafficError
from testbed.traffic.generator import Generator, GeneratorSpec
from testbed.traffic.rival import Rival, RivalSpec
from testbed.traffic.sink import AT_ONCE, POLL_S, Opened, Sink, SinkSpec
from testbed.traffic.speaker import Speaker, SpeakerSpec
from testbed.traffic.worker import Job


@dataclass(frozen=True, kw_only=True, slots=True)
class Settle:
    """Tells a sink to stop once nothing has come for `quiet_s`, after `limit_s` in any case."""

    quiet_s: float
    limit_s: float


class GeneratorJob:
    """Commands: ``open`` GeneratorSpec, ``load`` FrameSet, ``run`` Offer."""

    def __init__(self) -> None:
        self._generator: Generator | None = None

    def command(self, name: str, argument: Any, wanted: Callable[[], bool]) -> Any:
        if name == "open":
            self.close()
            spec: GeneratorSpec = argument
            _move(spec.cpus)
            self._generator = Generator(spec)
            return cpu.allowed_cpus()
        if self._generator is None:
            raise TrafficError("nothing is open")
        if name == "load":
            return self._generator.load(argument)
        if name == "run":
            return self._generator.run(argument, wanted=wanted)
        raise TrafficError(f"no command {name!r}")

    def idle(self) -> float | None:
        return None

    def close(self) -> None:
        if self._generator is not None:
            self._generator.close()
            self._generator = None


class SinkJob:
    """Commands: ``open`` SinkSpec, ``arm`` Expectation, ``count from`` CountFrom, ``settle``.

    ``count from`` is answered with the scheduling class that it runs in from then on.
    """

    def __init__(self) -> None:
        self._sink: Sink | None = None
        self._apart = False

    def command(self, name: str, argument: Any, wanted: Callable[[], bool]) -> Any:
        if name == "open":
            self.close()
            spec: SinkSpec = argument
            _move(spec.cpus)
            self._sink = Sink(spec)
            self._apart = scheduling.leaves_a_cpu(spec.cpus)
            return Opened(buffer_bytes=self._sink.buffer_bytes, cpus=cpu.allowed_cpus())
        sink = self._sink
        if sink is None:
            raise TrafficError("nothing is open")
        if name == "arm":
            return sink.arm(argument)
        if name == "count from":
            sink.count_from(argument)
            if not self._apart:
                return scheduling.ORDINARY
            return scheduling.go(scheduling.sink_priority(argument.fastest_pps))
        if name == "settle":
            return self._settle(sink, argument, wanted)
        raise TrafficError(f"no command {name!r}")

    def _settle(self, sink: Sink, how: Settle, wanted: Callable[[], bool]) -> Any:
        deadline = time.monotonic() + how.limit_s
        quiet = False
        while not quiet and time.monotonic() < deadline and wanted():
            # The silence is measured before the look that ends it: had this process been kept from
            # running in between, there might be frames waiting.
            silence_ns = sink.quiet_for_ns()
            quiet = not sink.drain() and silence_ns >= how.quiet_s * 1e9
            if not quiet:
                time.sleep(POLL_S)
        result = sink.result(quiet=quiet)
        sink.disarm()
        return result

    def idle(self) -> float | None:
        if self._sink is None:
            return None
        return 0.0 if self._sink.drain() >= AT_ONCE else POLL_S

    def close(self) -> None:
        if self._sink is not None:
            self._sink.close()
            self._sink = None


class SpeakerJob:
    """Commands: ``open`` SpeakerSpec, ``hello``, ``status``, ``shut``."""

    def __init__(self) -> None:
        self._speaker: Speaker | None = None

    def command(self, name: str, argument: Any, wanted: Callable[[], bool]) -> Any:
        if name == "open":
            self.close()
            spec: SpeakerSpec = argument
            _move(spec.cpus)
            self._speaker = Speaker(spec)
            return None
        if self._speaker is None:
            raise TrafficError("nothing is open")
        if name == "status":
            return self._speaker.status()
        if name == "hello":
            return self._speaker.hello()
        if name == "shut":
            return self.close()
        raise TrafficError(f"no command {name!r}")

    def idle(self) -> float | None:
        return None if self._speaker is None else self._speaker.step()

    def close(self) -> None:
        if self._speaker is not None:
            self._speaker.close()
            self._speaker = None


class RivalJob:
    """Command: ``open`` RivalSpec; then it is at work, until it is closed."""

    def __init__(self) -> None:
        self._rival: Rival | None = None

    def command(self, name: str, argument: Any, wanted: Callable[[], bool]) -> Any:
        if name == "open":
            spec: RivalSpec = argument
            self._rival = Rival(spec)
            return None
        raise TrafficError(f"no command {name!r}")

    def idle(self) -> float | None:
        if self._rival is None:
            return None
        self._rival.take()
        return 0.0

    def close(self) -> None:
        self._rival = None


def make_job(name: str) -> Job:
    """The job of that name; KeyError if there is none."""
    jobs: dict[str, Callable[[], Job]] = {
        "generator": GeneratorJob,
        "sink": SinkJob,
        "speaker": SpeakerJob,
        "rival": RivalJob,
    }
    return jobs[name]()


def _move(cpus: tuple[int, ...] | None) -> None:
    if cpus is not None:
        cpu.pin(0, cpus)
