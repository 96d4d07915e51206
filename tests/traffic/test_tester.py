"""Whatever a node does to the traffic is found, told apart, and counted exactly."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

import pytest
from traffic_rig import Wire

from testbed.errors import InputError
from testbed.measure.ledger import Ledger
from testbed.traffic.errors import NotForwarding
from testbed.traffic.frames import IMIX
from testbed.traffic.legs import TesterCpus
from testbed.traffic.paths import PATHS, Cast, Path, Traffic
from testbed.traffic.peer import Tester
from testbed.traffic.place import Place, Surface
from testbed.traffic.trial import Load, TrialTraffic

CPUS = TesterCpus.one(0)


def trial(
    wire: Wire,
    kind: str,
    path: Path,
    *options: str,
    rate_pps: float | None = 2_000,
    duration_s: float = 0.5,
    warm_up_s: float = 0.0,
    sizes: tuple[int, ...] = (256,),
    flows: int = 1,
    obus: int = 3,
    meanwhile: Callable[[], object] | None = None,
) -> TrialTraffic:
    wire.start(kind, *options)
    with Tester(wire.under_test(kind), wire=wire.end, cpus=CPUS, cast=Cast.of(obus)) as tester:
        tester.prepare(Traffic(path=path, sizes=sizes, flows=flows))
        return tester.run(
            Load(rate_pps=rate_pps),
            duration_s=duration_s,
            warm_up_s=warm_up_s,
            at_start=meanwhile,
        )


def line(ledger: Ledger, place: str, cause: str) -> int:
    return sum(x.count for x in ledger.lines if (x.place, x.cause) == (place, cause))


def with_digit(offered: int, digit: int) -> int:
    """How many of the sequence numbers 0 … offered - 1 end in that digit."""
    return sum(number % 10 == digit for number in range(offered))


@pytest.mark.parametrize(
    ("kind", "path"), [(kind, path) for kind, found in PATHS.items() for path in found]
)
def test_a_node_that_does_its_job_delivers_everything(wire: Wire, kind: str, path: Path) -> None:
    done = trial(wire, kind, path, flows=4, sizes=IMIX, warm_up_s=0.1, duration_s=0.4)
    copies = 3 if path is Path.GROUP else 1
    assert done.trial.offered > 700 * copies
    assert done.whole.offered > done.trial.offered
    assert done.whole.delivered == done.whole.offered
    assert done.trial.lost == 0
    assert done.trial.duplicated == done.trial.corrupted == done.trial.misaddressed == 0
    assert done.trial.reordered == 0
    assert done.ledger.unexplained == 0
    assert done.ledger.lines == ()
    assert done.latency.count == done.trial.delivered
    assert done.latency.negative == 0
    p50 = done.latency.percentile_ns(50)
    assert p50 is not None
    assert 5_000 < p50 < 20_000_000
    assert done.sink_limited is None
    for leg in done.legs:
        assert leg.generator.pacing.worst_burst_ns < 1_000_000
        assert leg.generator.counted * copies == done.trial.offered


def test_duplicates_late_and_damaged_frames_are_counted_exactly(wire: Wire) -> None:
    done = trial(
        wire, "obu", Path.RELAY, "--duplicate", "3", "--late", "5", "--damage", "7", "--cut", "9"
    )
    offered = done.whole.offered
    assert done.whole.duplicated == with_digit(offered, 3)
    # The last one may have had none behind it to be overtaken by.
    assert with_digit(offered - 1, 5) <= done.whole.reordered <= with_digit(offered, 5)
    damage = done.legs[0].sink.damage[1]
    assert damage.damaged == with_digit(offered, 7)
    assert damage.truncated == with_digit(offered, 9)
    assert done.whole.corrupted == damage.damaged + damage.truncated
    assert done.whole.lost == done.whole.corrupted
    assert line(done.ledger, "sink", "damaged") == damage.damaged
    assert line(done.ledger, "sink", "truncated") == damage.truncated
    assert done.ledger.unexplained == 0


@pytest.mark.parametrize("path", [Path.TAP_TO_WIRE, Path.WIRE_TO_TAP])
def test_frames_gathered_into_one_are_found_hanging_on_each_others_tail(
    wire: Wire, path: Path
) -> None:
    done = trial(wire, "obu", path, "--gather", "4")
    offered = done.whole.offered
    (damage,) = done.legs[0].sink.damage[1:]
    # The last one may be held for one that never comes.
    held = with_digit(offered, 4) - damage.tailed
    assert held == 0 or (held == 1 and with_digit(offered - 1, 4) == damage.tailed)
    assert damage.swallowed == damage.tailed
    assert done.whole.lost == 2 * damage.tailed + held
    assert done.ledger.unexplained == held


def test_frames_sent_to_the_wrong_neighbour_are_not_delivered(wire: Wire) -> None:
    done = trial(wire, "obu", Path.RELAY, "--stray", "6")
    wrong = with_digit(done.whole.offered, 6)
    assert done.whole.misaddressed == done.whole.lost == wrong
    assert line(done.ledger, "sink", "misaddressed") == wrong


def test_a_copy_that_one_obu_does_not_get_is_missed(wire: Wire) -> None:
    done = trial(wire, "rsu", Path.GROUP, "--stray", "6", flows=2, obus=5)
    frames = sum(with_digit(count, 6) for count in done.legs[0].generator.per_flow.values())
    assert done.whole.offered == 5 * sum(done.legs[0].generator.per_flow.values())
    assert done.whole.lost == done.whole.misaddressed == 5 * frames


def test_what_the_node_swallows_without_a_word_is_unexplained(wire: Wire) -> None:
    done = trial(wire, "obu", Path.RELAY, "--swallow", "2", "--duplicate", "3")
    swallowed = with_digit(done.whole.offered, 2)
    assert done.whole.lost == swallowed
    assert done.ledger.unexplained == swallowed
    assert done.ledger.with_node("node", {"no_upstream": swallowed}).unexplained == 0


def test_what_overflows_the_nodes_socket_is_found_there(wire: Wire) -> None:
    done = trial(wire, "obu", Path.RELAY, "--buffer", "20000", "--stall", "0.2")
    lost = done.whole.lost
    assert lost > 100
    assert line(done.ledger, "node's radio", "socket buffer full") == lost
    assert done.ledger.unexplained == 0


def test_what_overflows_the_nodes_tap_is_found_there_and_was_offered(wire: Wire) -> None:
    done = trial(wire, "obu", Path.TAP_TO_WIRE, "--stall", "0.3", rate_pps=10_000, duration_s=0.5)
    lost = done.whole.lost
    assert lost > 500
    assert done.whole.offered == pytest.approx(5_000, rel=0.05)
    assert line(done.ledger, "node's TAP", "queue to the node full") == lost
    assert done.ledger.unexplained == 0


def test_group_frames_that_overflow_the_tap_are_as_many_copies_lost(wire: Wire) -> None:
    done = trial(wire, "rsu", Path.GROUP, "--stall", "0.3", rate_pps=8_000, duration_s=0.5, obus=3)
    lost = done.whole.lost
    assert lost > 500
    assert lost % 3 == 0
    assert line(done.ledger, "node's TAP", "queue to the node full") == lost
    assert done.ledger.unexplained == 0


def test_frames_for_a_wire_that_is_down_are_no_loss_of_the_node(wire: Wire) -> None:
    # To the TAP, so that what waits in the node when the link goes down can still go on.
    done = trial(wire, "obu", Path.WIRE_TO_TAP, meanwhile=lambda: interrupt(wire, wire.far, 0.1))
    refused, lost = done.whole.refused, done.whole.lost
    assert refused + lost > 50
    assert done.whole.offered + refused + done.legs[0].generator.pacing.skipped == 1000
    # Once the kernel has noticed that there is no carrier it refuses no more, but throws away.
    assert line(done.ledger, "tester's wire", "not taken by the other end") == pytest.approx(
        lost, abs=2
    )
    # A frame that is under way in the moment the link goes down may die without a word.
    assert -2 <= done.ledger.unexplained <= 2
    aside = {(x.place, x.cause): x.count for x in done.ledger.aside}
    assert aside.get(("generator", "refused by the kernel (ENOBUFS)"), 0) == refused


def test_a_wire_that_does_not_take_what_the_node_sends_is_found_there(wire: Wire) -> None:
    done = trial(wire, "obu", Path.TAP_TO_WIRE, meanwhile=lambda: interrupt(wire, wire.end, 0.1))
    lost = done.whole.lost
    assert lost > 50
    assert line(done.ledger, "node's radio", "not taken by the other end") == pytest.approx(
        lost, abs=4
    )
    # The node's own heartbeats may be among what was not taken.
    assert -4 <= done.ledger.unexplained <= 2


def interrupt(wire: Wire, place: Place, seconds: float) -> None:
    """Take an end of the wire down for a while, as long as it takes; the traffic goes on."""
    wire.link(place, up=False)
    time.sleep(seconds)
    wire.link(place, up=True)


def test_what_a_filter_of_the_kernel_takes_away_is_unexplained_to_the_frame(wire: Wire) -> None:
    wire.link(Place(netns=wire.node, ifname="lo", surface=Surface.WIRE), up=True)

    def tc(*arguments: str) -> None:
        command = ["tc", "-n", wire.node, *arguments]
        subprocess.run(command, check=True, capture_output=True)

    tc("qdisc", "add", "dev", "radio0", "clsact")
    # Sequence numbers whose last hex digit is 5: behind the Ethernet header, 8 bytes of
    # upstream header and 47 of the inner frame stand before its last byte.
    data = ["match", "u16", "0x0100", "0xffff", "at", "0"]
    digit = ["match", "u8", "0x05", "0x0f", "at", "55"]
    tc(
        "filter", "add", "dev", "radio0", "ingress", "protocol", "0x3030",
        "u32", *data, *digit, "action", "mirred", "egress", "redirect", "dev", "lo",
    )  # fmt: skip
    done = trial(wire, "obu", Path.RELAY)
    dropped = sum(number % 16 == 5 for number in range(done.whole.offered))
    assert done.whole.lost == dropped
    assert done.ledger.unexplained == dropped


def test_a_sink_that_cannot_keep_up_says_so(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.traffic.sink.DEFAULT_BUFFER_BYTES", 0)
    from testbed.traffic import legs
    from testbed.traffic.sink import SinkSpec

    def small(**given: object) -> SinkSpec:
        return SinkSpec(**given, buffer_bytes=4096)  # type: ignore[arg-type]

    monkeypatch.setattr(legs, "SinkSpec", small)
    done = trial(wire, "obu", Path.RELAY, rate_pps=40_000)
    assert done.sink_limited is not None
    drops = line(done.ledger, "sink", "no room at the sink")
    assert drops > 100
    assert done.ledger.unexplained == done.whole.lost - drops - sum(
        x.count for x in done.ledger.lines if x.place != "sink"
    )


def test_as_fast_as_possible_is_more_than_the_small_node_can_take(wire: Wire) -> None:
    # Room for some thirty frames only, so that it is too slow however busy the machine is.
    small = ("--buffer", "20000", "--stall", "0.2")
    done = trial(wire, "obu", Path.RELAY, *small, rate_pps=None, duration_s=0.5)
    assert done.generator_limited is None
    assert done.trial.offered > done.trial.delivered > 0
    # The kernel does not tell whether heartbeats were among what it dropped.
    assert line(done.ledger, "node's radio", "socket buffer full") == -done.ledger.unexplained + (
        done.whole.lost
    )
    assert -5 <= done.ledger.unexplained <= 0
    assert not done.lower_bound


def test_a_second_trial_does_not_count_the_first_ones_frames(wire: Wire) -> None:
    wire.start("obu")
    with Tester(wire.under_test("obu"), wire=wire.end, cpus=CPUS) as tester:
        tester.prepare(Traffic(path=Path.RELAY))
        first = tester.run(Load(rate_pps=3000), duration_s=0.2)
        second = tester.run(Load(rate_pps=3000), duration_s=0.2)
        assert first.whole.lost == second.whole.lost == 0
        assert second.whole.duplicated == 0
        # The same tester, other traffic, the other way.
        tester.prepare(Traffic(path=Path.WIRE_TO_TAP, sizes=(60, 1450)))
        third = tester.run(Load(rate_pps=3000), duration_s=0.2)
        assert third.whole.lost == 0


def test_a_restarted_node_is_joined_again(wire: Wire) -> None:
    wire.start("obu")
    with Tester(wire.under_test("obu"), wire=wire.end, cpus=CPUS) as tester:
        tester.prepare(Traffic(path=Path.RELAY))
        wire.stop()
        wire.start("obu")
        tester.prepare(Traffic(path=Path.RELAY))
        assert tester.run(Load(rate_pps=1000), duration_s=0.2).whole.lost == 0


def test_the_peers_speak_and_are_answered(wire: Wire, wait_until: Callable[..., None]) -> None:
    wire.start("obu")
    with Tester(
        wire.under_test("obu"), wire=wire.end, cpus=CPUS, cast=Cast.of(4), period_ms=50
    ) as tester:
        tester.prepare(Traffic(path=Path.RELAY_DOWN))
        wait_until(lambda: tester.spoken().heartbeats_heard >= 3)
        said = tester.spoken()
        # The node passes every heartbeat on and answers it; each of our OBUs answers the node.
        assert said.heartbeats_sent >= said.heartbeats_heard
        assert said.replies_heard >= said.heartbeats_heard
        assert said.replies_sent == 4 * said.heartbeats_heard
        tester.quieten()
        tester.prepare(Traffic(path=Path.RELAY_DOWN))


def test_a_node_that_passes_nothing_is_told_by_stream(wire: Wire) -> None:
    with Tester(wire.under_test("obu"), wire=wire.end, cpus=CPUS) as tester:
        wire.start("obu", "--radio", "lo")
        nudged: list[int] = []
        with pytest.raises(NotForwarding, match=r"1 of 1 streams missing \(flow 0\)"):
            tester.prepare(Traffic(path=Path.RELAY), timeout_s=0.3, nudge=lambda: nudged.append(1))
        assert nudged


@pytest.mark.parametrize(
    ("kind", "traffic", "said"),
    [
        ("obu", Traffic(path=Path.GROUP), "an OBU has no such path"),
        ("rsu", Traffic(path=Path.RELAY), "an RSU has no such path"),
        ("obu", Traffic(path=Path.RELAY, sizes=(1451,)), "expected 60 to 1450 bytes"),
    ],
)
def test_traffic_that_cannot_be_is_refused(
    wire: Wire, kind: str, traffic: Traffic, said: str
) -> None:
    wire.start(kind)
    with (
        Tester(wire.under_test(kind), wire=wire.end, cpus=CPUS) as tester,
        pytest.raises(InputError, match=said),
    ):
        tester.prepare(traffic)


REALTIME = "real-time (SCHED_FIFO)"
FIRST = "ordinary, before all others (nice -20)"


@pytest.mark.parametrize(
    ("cpus", "rate_pps", "generator", "sink"),
    [
        (CPUS, 1000, REALTIME, FIRST),
        (CPUS, None, REALTIME, REALTIME),
        (TesterCpus(), 1000, "ordinary", "ordinary"),
    ],
)
def test_a_tester_with_a_cpu_of_its_own_runs_in_real_time_but_never_uses_all_of_it_so(
    wire: Wire, cpus: TesterCpus, rate_pps: float | None, generator: str, sink: str
) -> None:
    wire.start("obu")
    with Tester(wire.under_test("obu"), wire=wire.end, cpus=cpus) as tester:
        tester.prepare(Traffic(path=Path.RELAY))
        done = tester.run(Load(rate_pps=rate_pps), duration_s=0.1)
    assert done.scheduling == {"generator": generator, "sink": sink}
    assert rate_pps is None or done.whole.lost == 0


def test_the_ends_of_the_trial_phase_are_called_at(wire: Wire) -> None:
    wire.start("obu")
    moments: list[int] = []
    with Tester(wire.under_test("obu"), wire=wire.end, cpus=CPUS) as tester:
        tester.prepare(Traffic(path=Path.RELAY))
        begun = time.monotonic_ns()
        tester.run(
            Load(rate_pps=1000),
            duration_s=0.3,
            warm_up_s=0.2,
            at_start=lambda: moments.append(time.monotonic_ns()),
            at_end=lambda: moments.append(time.monotonic_ns()),
        )
    start, end = moments
    assert start - begun > 0.2e9
    assert end - start == pytest.approx(0.3e9, abs=0.05e9)
