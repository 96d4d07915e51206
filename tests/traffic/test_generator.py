"""What a generator offers, when, and what becomes of it on a bare wire with a sink at its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from traffic_rig import NODE_MAC, Wire

from testbed.kernel.netns import run_in
from testbed.measure import procstat
from testbed.traffic import paths
from testbed.traffic.arrivals import Expectation
from testbed.traffic.errors import TrafficError, WorkerDied
from testbed.traffic.legs import LegRunner, Route, TesterCpus
from testbed.traffic.paths import Cast, Leg, Path, Traffic
from testbed.traffic.place import Surface
from testbed.traffic.trial import Load

CPUS = TesterCpus.one(0)


def straight(flows: int = 1, sizes: tuple[int, ...] = (256,)) -> Leg:
    """Frames that come out of the far end of a wire as they went in."""
    traffic = Traffic(path=Path.RELAY, sizes=sizes, flows=flows)
    leg = paths.node_leg("obu", NODE_MAC, traffic, Cast.of(3))
    headers = {
        flow: template[:22]
        for flow, template in zip(leg.frames.flows, leg.frames.templates, strict=True)
    }
    expected = Expectation(
        flows=flows, headers=tuple(headers[n] for n in range(flows)), mask=b"\xff" * 22
    )
    return replace(leg, expected=expected)


def route(wire: Wire, leg: Leg) -> Route:
    return Route(
        leg=leg,
        inject=wire.end,
        collect=wire.far,
        lesson_places=((Surface.WIRE, wire.end),),
    )


@pytest.fixture
def runner(wire: Wire) -> Iterator[LegRunner]:
    made = LegRunner(1, CPUS)
    try:
        made.open([route(wire, straight())])
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("rate_pps", [500, 5_000, 50_000])
def test_frames_leave_one_after_the_other_at_an_even_pace(wire: Wire, rate_pps: int) -> None:
    """By the kernel's time of arrival, taken by a socket of the test's own."""
    import socket

    from agent.linux.packet import open_packet_socket

    def listen() -> socket.socket:
        sock = open_packet_socket("radio0", rcvbuf_bytes=64 << 20)
        sock.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS
        return sock

    made = LegRunner(1, CPUS)
    with run_in(wire.node, listen) as listening:
        try:
            made.open([route(wire, straight())])
            (leg,), _ = made.run(Load(rate_pps=rate_pps), duration_s=0.6, warm_up_s=0)
        finally:
            made.close()
        times = []
        while True:
            try:
                _, control, _, _ = listening.recvmsg(64, 64)
            except BlockingIOError:
                break
            seconds, rest = np.frombuffer(control[0][2], np.int64)
            times.append(int(seconds) * 10**9 + int(rest))
    assert len(times) == leg.generator.offered
    gaps = np.diff(np.array(times))
    interval = 1e9 / rate_pps
    # Wherever the machine let it: the schedule is kept on the average, and most of the time also
    # from frame to frame, or in the few frames that go out together above 20 000 pps.
    assert leg.generator.offered >= 0.5 * 0.6 * rate_pps
    if leg.generator.pacing.skipped == 0:
        assert gaps.mean() == pytest.approx(interval, rel=0.05)
    if rate_pps <= 20_000:
        assert np.median(gaps) == pytest.approx(interval, rel=0.2)
    # No lump: hardly a window of a millisecond holds more than its own share and one burst.
    per_window = np.bincount((np.array(times) - times[0]) // 1_000_000)
    allowed = 2 * (1 + rate_pps // 1000)
    assert (per_window > allowed).mean() < 0.01
    pacing = leg.generator.pacing
    assert pacing.worst_burst_ns < 1_000_000
    assert pacing.worst_lag_ns <= 1_000_000 + interval


@pytest.mark.parametrize("sizes", [(60,), (256,), (61, 300, 1450)])
@pytest.mark.parametrize("flows", [1, 7])
def test_every_frame_offered_is_counted_at_the_other_end(
    runner: LegRunner, wire: Wire, sizes: tuple[int, ...], flows: int
) -> None:
    runner.open([route(wire, straight(flows, sizes))])
    (leg,), window = runner.run(Load(rate_pps=None), duration_s=0.3, warm_up_s=0.1)
    assert leg.tally(trial_only=False).lost == 0
    assert leg.tally(trial_only=True).lost == 0
    assert leg.generator.counted > 0
    for flow, counts in enumerate(leg.sink.streams[1]):
        assert counts.delivered == leg.generator.per_flow_counted[flow]
        assert counts.reordered == counts.duplicated == 0
    assert window.stop_ns - window.count_from_ns == pytest.approx(0.3e9)


def test_bursts_are_made_when_asked_for(runner: LegRunner) -> None:
    (leg,), _ = runner.run(Load(rate_pps=2_000, burst=20), duration_s=0.4, warm_up_s=0)
    assert leg.generator.pacing.worst_burst >= 20
    assert leg.generator.offered + leg.generator.pacing.skipped == 800
    assert leg.tally(trial_only=False).lost == 0


def test_an_interrupted_trial_ends_at_once_and_the_next_one_is_whole(runner: LegRunner) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        runner.run(Load(rate_pps=1000), duration_s=30, warm_up_s=0.05, at_start=interrupt)
    assert time.monotonic() - begun < 5
    (leg,), _ = runner.run(Load(rate_pps=1000), duration_s=0.2, warm_up_s=0)
    assert leg.tally(trial_only=False).lost == 0
    assert leg.sink.total().duplicated == 0


def test_a_worker_that_is_killed_is_told(runner: LegRunner) -> None:
    os.kill(runner.pids[0], signal.SIGKILL)
    with pytest.raises(WorkerDied, match=r"generator .* ended early, status -9"):
        runner.run(Load(rate_pps=1000), duration_s=0.1, warm_up_s=0)


def test_workers_end_when_they_are_closed(wire: Wire) -> None:
    made = LegRunner(1, CPUS)
    made.open([route(wire, straight())])
    pids = made.pids
    made.close()
    made.close()
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


PARENT = """
import sys
sys.path.insert(0, {tests!r})
from traffic_rig import Wire
from test_generator import LegRunner, CPUS, Load, route, straight
wire = Wire(tester={tester!r}, node={node!r})
made = LegRunner(1, CPUS)
made.open([route(wire, straight())])
say = lambda: print(*made.pids, flush=True)
made.run(Load(rate_pps=1000), duration_s=60, warm_up_s=0.05, at_start=say)
"""


def test_workers_end_with_a_parent_that_is_killed(
    wire: Wire, wait_until: Callable[..., None]
) -> None:
    tests = os.path.dirname(__file__)
    code = PARENT.format(tests=tests, tester=wire.tester, node=wire.node)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(procstat.is_alive(pid) for pid in pids)
        parent.kill()
    wait_until(lambda: not any(procstat.is_alive(pid) for pid in pids), what="workers are gone")


def test_an_interface_that_is_not_there_is_told(runner: LegRunner, wire: Wire) -> None:
    nowhere = replace(wire.end, ifname="radio9")
    with pytest.raises(OSError, match=r"generator: .*No such device"):
        runner.open([replace(route(wire, straight()), inject=nowhere)])
    runner.open([route(wire, straight())])


def test_workers_run_where_they_should(runner: LegRunner) -> None:
    assert runner.granted == {"generator": (0,), "sink": (0,)}
    for pid in runner.pids:
        assert os.sched_getaffinity(pid) == {0}


def test_a_busy_worker_takes_no_second_command(runner: LegRunner) -> None:
    worker = runner._generators[0]
    worker.begin("open", None)
    with pytest.raises(TrafficError, match="still busy"):
        worker.begin("open", None)
    with pytest.raises(TrafficError):
        worker.finish(timeout_s=5)
