"""A load in steps: each rate for its time, and what came of each told apart."""

from __future__ import annotations

import numpy as np
import pytest

from testbed.traffic.arrivals import CountFrom
from testbed.traffic.count import Count
from testbed.traffic.pacing import Pacer, Step, SteppedPacer

SECOND = 10**9


def steps(*rates: float) -> list[Step]:
    return [Step(rate_pps=rate, from_ns=n * SECOND) for n, rate in enumerate(rates)]


def walk(pacer: SteppedPacer | Pacer, until_ns: int, *, late_ns: int = 0) -> list[int]:
    """The times at which frames left, of a sender that always wakes `late_ns` late."""
    sent: list[int] = []
    now = 0
    while (now := max(now, pacer.next_ns() + late_ns)) < until_ns:
        due = pacer.due(now)
        sent += [now] * due
        if due:
            pacer.sent(due, now)
    return sent


def test_each_step_has_its_rate_from_its_beginning_to_its_end() -> None:
    pacer = SteppedPacer(steps(100, 1000, 10), start_ns=0, stop_ns=3 * SECOND)
    sent = walk(pacer, 3 * SECOND)
    assert [sum(n * SECOND <= at < (n + 1) * SECOND for at in sent) for n in range(3)] == [
        100, 1000, 10,
    ]  # fmt: skip
    # The first frame of a step is due as it begins.
    assert SECOND in sent
    assert 2 * SECOND in sent
    report = pacer.report()
    assert (report.intended, report.offered, report.skipped) == (1110, 1110, 0)
    assert pacer.slots_before(SECOND) == 100
    assert pacer.slots_before(2 * SECOND) == 1100


def test_the_first_step_has_the_warm_up_too() -> None:
    pacer = SteppedPacer(
        [Step(rate_pps=100, from_ns=SECOND), Step(rate_pps=1000, from_ns=2 * SECOND)],
        start_ns=0, stop_ns=3 * SECOND,
    )  # fmt: skip
    assert pacer.slots_before(SECOND) == 100
    assert pacer.slots_before(3 * SECOND) == 1200


def test_what_a_step_missed_is_not_made_up_for_in_the_next() -> None:
    pacer = SteppedPacer(steps(1000, 10), start_ns=0, stop_ns=2 * SECOND)
    assert pacer.due(0) == 1
    pacer.sent(1, 0)
    # Asleep until the second step has begun.
    assert pacer.due(SECOND) == 1
    pacer.sent(1, SECOND)
    sent = walk(pacer, 2 * SECOND)
    assert len(sent) == 9
    report = pacer.report()
    assert (report.intended, report.offered, report.skipped) == (1010, 11, 999)


def test_one_step_is_as_a_pacer_with_that_rate() -> None:
    stepped = SteppedPacer(steps(333), start_ns=0, stop_ns=SECOND, burst=3)
    plain = Pacer(rate_pps=333, start_ns=0, stop_ns=SECOND, burst=3)
    assert walk(stepped, SECOND, late_ns=700) == walk(plain, SECOND, late_ns=700)
    assert stepped.report() == plain.report()


def test_a_packet_belongs_to_the_step_in_which_it_was_sent() -> None:
    count = Count(1, armed_ns=0, cpu_ns=0)
    from_ = CountFrom(time_ns=100, steps_ns=(100, 200, 300))
    count.cut(from_.steps_ns)
    count.count_from_ns = from_.time_ns
    sent = np.array([50, 100, 199, 200, 299, 299, 350], np.int64)
    took = np.array([9, 10, 20, 30, 40, 40, 500], np.int64)
    number = np.array([0, 1, 2, 3, 4, 4, 5], np.int64)  # one comes twice
    count.take(np.zeros(7, np.int64), number, sent, sent + took)
    result = count.result(drops=0, cpu_ns=0, quiet=True)
    assert [part.count for part in result.steps] == [2, 2, 1]
    assert [part.max_ns for part in result.steps] == [20, 40, 500]
    assert result.latency.count == 5


@pytest.mark.parametrize("burst", [1, 7])
def test_no_slot_is_lost_between_steps(burst: int) -> None:
    pacer = SteppedPacer(steps(97, 1013, 11, 503), start_ns=0, stop_ns=4 * SECOND, burst=burst)
    walk(pacer, 4 * SECOND)
    report = pacer.report()
    assert report.skipped == 0
    assert report.intended == report.offered
