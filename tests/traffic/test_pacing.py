"""A schedule is kept evenly, and what cannot be sent in time is not made up for in a lump."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.traffic.pacing import MAX_BURST_NS, Pacer, tick_ns

SECOND = 1_000_000_000


def drive(pacer: Pacer, moments: list[int]) -> list[int]:
    """Use every slot that is due at each of these moments."""
    given_out = []
    for now in moments:
        due = pacer.due(now)
        if due:
            pacer.sent(due, now)
        given_out.append(due)
    return given_out


def test_on_time_every_frame_goes_out_alone_at_its_slot() -> None:
    pacer = Pacer(rate_pps=5_000, start_ns=100, stop_ns=100 + SECOND)
    sent = []
    now = 100
    while now < 100 + SECOND:
        assert pacer.due(now) == 1
        pacer.sent(1, now)
        sent.append(now)
        now = pacer.next_ns()
    assert len(sent) == 5_000
    assert {later - earlier for earlier, later in pairwise(sent)} == {200_000}
    report = pacer.report()
    assert (report.intended, report.offered, report.skipped) == (5_000, 5_000, 0)
    assert (report.worst_burst, report.worst_burst_ns, report.worst_lag_ns) == (1, 0, 0)


@pytest.mark.parametrize("rate_pps", [0.5, 3, 7, 333.333, 5_000, 48_611, 1_000_000])
def test_slots_are_exact_over_a_long_time(rate_pps: float) -> None:
    seconds = 100_000
    pacer = Pacer(rate_pps=rate_pps, start_ns=0, stop_ns=seconds * SECOND)
    assert pacer.slots_before(seconds * SECOND) == pytest.approx(rate_pps * seconds, abs=1)


def test_a_stall_costs_frames_and_is_not_made_up_for() -> None:
    pacer = Pacer(rate_pps=50_000, start_ns=0, stop_ns=SECOND)
    assert drive(pacer, [0]) == [1]
    # 10 ms away: 500 frames were due meanwhile, of which one millisecond's worth may go out.
    assert drive(pacer, [10_000_000]) == [50]
    assert drive(pacer, [10_000_001]) == [0]
    report = pacer.report()
    assert report.worst_burst == 50
    assert report.worst_burst_ns < MAX_BURST_NS
    assert report.worst_lag_ns <= MAX_BURST_NS
    assert report.offered + report.skipped == report.intended == 50_000


def test_a_slow_schedule_never_sends_two_together() -> None:
    pacer = Pacer(rate_pps=500, start_ns=0, stop_ns=SECOND)
    assert drive(pacer, [0, 9_000_000, 9_000_000]) == [1, 1, 0]


def test_nothing_is_due_outside_the_schedule() -> None:
    pacer = Pacer(rate_pps=1000, start_ns=1000, stop_ns=2000)
    assert drive(pacer, [0, 999, 2000, 3000]) == [0, 0, 0, 0]


def test_without_a_rate_there_is_always_something_to_send() -> None:
    pacer = Pacer(rate_pps=None, start_ns=0, stop_ns=1000, unpaced=64)
    assert drive(pacer, [0, 1, 999, 1000]) == [64, 64, 64, 0]
    report = pacer.report()
    assert (report.intended, report.offered, report.skipped) == (None, 192, 0)


def test_a_bursty_schedule_keeps_the_mean_rate() -> None:
    pacer = Pacer(rate_pps=1_000, start_ns=0, stop_ns=SECOND, burst=10)
    sent = drive(pacer, list(range(0, SECOND, 500_000)))
    assert set(sent) == {0, 10}
    assert sum(sent) == 1_000
    assert sent.index(10, 1) * 500_000 == 10_000_000


@given(
    st.floats(1, 1_000_000),
    st.lists(st.integers(0, 20_000_000), min_size=1, max_size=60),
)
def test_whatever_the_delays_no_burst_exceeds_the_bound_and_every_slot_is_told(
    rate_pps: float, pauses: list[int]
) -> None:
    stop = sum(pauses) + 1
    pacer = Pacer(rate_pps=rate_pps, start_ns=0, stop_ns=stop)
    now = 0
    moments = []
    for pause in pauses:
        now += pause
        moments.append(now)
    sent = drive(pacer, moments)
    report = pacer.report()
    assert report.worst_burst == max(sent)
    assert report.worst_burst_ns < MAX_BURST_NS
    assert report.offered == sum(sent)
    assert report.intended is not None
    assert report.offered + report.skipped == report.intended
    if report.skipped:
        # Only what was left over when as much went out as the bound allows; one frame more, and
        # the first and the last of them would have been that far apart.
        assert max(sent) * SECOND >= 0.999 * MAX_BURST_NS * rate_pps


@pytest.mark.parametrize("rate_pps", [0, -1, float("nan")])
def test_a_rate_that_is_none_is_refused(rate_pps: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        Pacer(rate_pps=rate_pps, start_ns=0, stop_ns=1)


@pytest.mark.parametrize("rate_pps", [500, 5_000, 50_000, 100_000, 500_000])
def test_frames_that_go_out_together_stand_for_a_tenth_of_a_millisecond_at_most(
    rate_pps: float,
) -> None:
    assert tick_ns(rate_pps) <= 100_000
