"""Decisions on waiting, played through with made-up traffic: no clock, no sockets, no sleep."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import coalescing
from agent.coalescing import RECHECK, REVIEW, WINDOW, Decision, Quantile, Waiting
from agent.config import Coalesce

US = 1_000
MS = 1_000_000
S = 1_000_000_000

LATE = 30 * US
"""After a sleep, and after a frame that wakes: the way back to the CPU."""
WAKE_UP = 25 * US
LOOK = 2 * US
ONE = 8 * US
"""CPU time of a wake-up, of a look without one, and of a frame taken alone."""
BUDGET = 256
"""Frames that one look takes at most."""


def batch_cost(frames: int) -> int:
    """CPU time of taking frames: one by one up to two, else some for each batch and each frame."""
    return frames * ONE if frames <= 2 else -(-frames // 32) * 10 * US + frames * 5 * US // 2


@dataclass
class Played:
    """What came of it. Latency is what was added to a lone frame's."""

    woken: int = 0
    cpu_ns: int = 0
    latency_ns: list[int] = field(default_factory=list)
    end_ns: int = 0
    decisions: Counter[Decision] = field(default_factory=Counter)


def play(waiting: Waiting | None, arrivals: Sequence[int], *, late_ns: int = LATE) -> Played:
    """The loop of a node, as the driver has it, in simulated time."""
    played = Played()
    now = taken = 0

    def sleep(pause: int) -> None:
        nonlocal now
        assert waiting is not None
        assert pause > 0
        now += pause + late_ns
        played.woken += 1
        played.cpu_ns += WAKE_UP + LOOK
        waiting.slept(pause, pause + late_ns)

    begun = frames = looks = blocked = 0
    emptied = True
    while True:
        played.cpu_ns += LOOK
        rests = waiting is not None and waiting.whole
        blocks = True
        if rests:
            pause = waiting.next_pause(begun, now, frames, emptied=emptied)
            begun = 0
            if pause:
                sleep(pause)
                blocks = bisect_right(arrivals, now) == taken
                if blocks:
                    waiting.nothing_came()
        asked = now
        if blocks:
            if taken == len(arrivals):
                break
            if arrivals[taken] > now:
                now = arrivals[taken] + late_ns
                played.woken += 1
                played.cpu_ns += WAKE_UP
                blocked += 1
            else:
                now += LOOK
            if rests and (pause := waiting.after_look(asked, now)):
                sleep(pause)
        start = now
        there = bisect_right(arrivals, now)
        first, taken = taken, min(there, taken + BUDGET)
        frames, emptied = taken - first, taken == there
        cost = batch_cost(frames)
        for at in range(first, taken):
            sent = now + min(cost, batch_cost((at - first) // 32 * 32 + 32))
            played.latency_ns.append(sent - arrivals[at] - late_ns - ONE)
        now += cost
        played.cpu_ns += cost
        if rests:
            begun = start
        elif waiting is not None:
            looks += 1
            if looks >= waiting.judged_at:
                waiting.judge(start, looks, blocked)
    played.end_ns = now
    if waiting is not None:
        played.decisions = Counter(waiting.decisions(looks))
    return played


def make(mode: Coalesce, max_wait_us: int = 1000) -> Waiting:
    waiting = coalescing.make(mode, max_wait_ns=max_wait_us * US, batch=32)
    assert waiting is not None
    return waiting


def smooth(rate_pps: float, seconds: float = 1.0) -> list[int]:
    return [MS + round(n * S / rate_pps) for n in range(round(rate_pps * seconds))]


def poisson(rate_pps: float, seconds: float = 1.0) -> list[int]:
    rng = random.Random(7)
    found, now = [], float(MS)
    while now < seconds * S:
        now += rng.expovariate(rate_pps) * S
        found.append(int(now))
    return found


def bursts(period_us: float, size: int, seconds: float = 1.0) -> list[int]:
    """`size` frames, 3 µs apart, once in every period."""
    return [
        MS + int(n * period_us * US) + k * 3 * US
        for n in range(int(seconds * 1e6 / period_us))
        for k in range(size)
    ]


CLEAR: list[tuple[Callable[..., list[int]], tuple[float, ...]]] = [
    *((kind, (rate,)) for kind in (smooth, poisson) for rate in (100, 500, 900, 1000)),
    *((kind, (rate,)) for kind in (smooth, poisson) for rate in (1500, 2000, 3000, 5000, 10_000)),
    *((kind, (rate,)) for kind in (smooth, poisson) for rate in (20_000, 50_000, 100_000)),
    *((bursts, (period, 8)) for period in (200, 500, 1000, 1300, 2000, 5000)),
    *((bursts, (period, 64)) for period in (500, 1000, 2000)),
]
EDGE = [(smooth, (1100,)), (poisson, (1100,)), (poisson, (1200,)), (bursts, (900, 8))]
"""Traffic of which one wait takes the place of just about one wake-up."""


@pytest.mark.parametrize(
    ("kind", "arguments", "more"),
    [*((*pattern, 1.05) for pattern in CLEAR), *((*pattern, 1.10) for pattern in EDGE)],
)
def test_adaptive_costs_no_more_than_the_better_of_always_and_never_waiting(
    kind: Callable[..., list[int]], arguments: tuple[float, ...], more: float
) -> None:
    arrivals = kind(*arguments, 4.0)
    never = play(None, arrivals)
    always = play(make("fixed"), arrivals)
    adaptive = play(make("adaptive"), arrivals)
    assert len(adaptive.latency_ns) == len(arrivals)
    assert adaptive.cpu_ns <= more * min(never.cpu_ns, always.cpu_ns)


@pytest.mark.parametrize("rate_pps", [5_000, 50_000])
def test_waiting_a_millisecond_halves_the_cost_of_smooth_traffic(rate_pps: int) -> None:
    arrivals = smooth(rate_pps)
    never = play(None, arrivals)
    for mode in ("fixed", "adaptive"):
        waited = play(make(mode), arrivals)
        assert waited.woken <= 0.4 * never.woken
        assert waited.cpu_ns <= 0.5 * never.cpu_ns
        assert max(waited.latency_ns) <= MS


@pytest.mark.parametrize("rate_pps", [10, 500, 900])
def test_at_low_rates_adaptive_never_waits(rate_pps: int) -> None:
    waiting = make("adaptive")
    arrivals = smooth(rate_pps, 10)
    played = play(waiting, arrivals)
    assert set(played.decisions) == {Decision.NOT_WORTH}
    assert played.decisions[Decision.NOT_WORTH] == len(arrivals)
    assert played.latency_ns == [0] * len(arrivals)


def test_what_is_a_low_rate_depends_on_how_long_it_may_wait() -> None:
    waiting = make("adaptive", 10_000)
    played = play(waiting, smooth(500, 4))
    assert played.woken < 2000 / 3
    assert played.decisions[Decision.WAITED]


arrival_times = st.lists(
    st.one_of(st.integers(0, 50 * US), st.integers(0, 2 * MS), st.just(30 * MS)), max_size=300
).map(lambda gaps: [MS + sum(gaps[: n + 1]) for n in range(len(gaps))])


@given(
    st.sampled_from(["fixed", "adaptive"]),
    st.integers(50, 10_000),
    arrival_times,
    st.integers(0, 50 * US),
)
def test_no_frame_waits_longer_than_it_may(
    mode: Coalesce, max_wait_us: int, arrivals: list[int], late_ns: int
) -> None:
    played = play(make(mode, max_wait_us), arrivals, late_ns=late_ns)
    # Without any waiting too, a frame that comes while others are handled must wait for those.
    unavoidable = max(play(None, arrivals, late_ns=late_ns).latency_ns, default=0)
    slack = max(0, late_ns - max_wait_us * US // 4)
    assert max(played.latency_ns, default=0) <= max_wait_us * US + slack + unavoidable


@given(st.sampled_from(["fixed", "adaptive"]), arrival_times)
def test_every_look_has_one_decision(mode: Coalesce, arrivals: list[int]) -> None:
    waiting = make(mode)
    played = play(waiting, arrivals)
    assert sum(played.decisions.values()) <= 2 * played.woken + len(arrivals)
    assert sum(played.decisions.values()) >= (len(arrivals) + BUDGET - 1) // BUDGET


@pytest.mark.parametrize("mode", ["fixed", "adaptive"])
def test_a_node_that_cannot_keep_up_does_not_wait(mode: Coalesce) -> None:
    waiting = make(mode)
    arrivals = smooth(600_000, 0.2)
    played = play(waiting, arrivals)
    busy = play(None, arrivals)
    assert played.end_ns <= busy.end_ns + 3 * MS
    assert mode == "adaptive" or played.decisions[Decision.BACKLOG] > 100
    assert played.decisions[Decision.WAITED] < 5


def test_where_more_would_gather_than_is_worth_it_waits_are_shorter() -> None:
    waiting = make("adaptive", 10_000)
    played = play(waiting, smooth(100_000))
    assert played.woken > 100_000 / 200
    assert max(played.latency_ns) < 2.5 * MS


def test_after_traffic_ends_it_sleeps_until_the_next_frame() -> None:
    waiting = make("adaptive")
    played = play(waiting, [*smooth(5000), 60 * S, 120 * S])
    before = play(make("adaptive"), smooth(5000))
    # One wait that brings nothing after each, and the wake-up by the frame itself.
    assert played.woken <= before.woken + 4
    assert played.decisions[Decision.QUIET] <= 4


def test_bursts_that_waiting_does_not_join_are_found_out() -> None:
    waiting = make("adaptive")
    # At rest since the smooth part; then bursts as far apart as it may wait.
    arrivals = smooth(8000)
    arrivals += [arrivals[-1] + at for at in bursts(1100, 8, 10)]
    played = play(waiting, arrivals)
    assert played.decisions[Decision.SAMPLED] >= WINDOW
    late = [latency for latency in played.latency_ns[-8 * 1000 :] if latency > 100 * US]
    assert not late


def test_single_frames_are_left_alone_again_soon_after_a_crowd() -> None:
    waiting = make("adaptive")
    crowd = smooth(20_000)
    rare = [crowd[-1] + n * 5 * MS for n in range(1, 400)]
    played = play(waiting, [*crowd, *rare])
    assert played.decisions[Decision.NOT_WORTH] > len(rare) - 2 * REVIEW
    assert played.latency_ns[-1] == 0


def test_resting_is_checked_by_looking_now_and_then() -> None:
    waiting = make("adaptive")
    played = play(waiting, smooth(20_000, 5))
    waited, sampled = (played.decisions[d] for d in (Decision.WAITED, Decision.SAMPLED))
    assert sampled > 0
    assert waited > (RECHECK / 1.1) * sampled / (WINDOW + 2)


def test_a_bound_too_short_for_any_sleep_is_kept_by_not_sleeping() -> None:
    for mode in ("fixed", "adaptive"):
        waiting = make(mode, 40)
        played = play(waiting, smooth(20_000))
        assert not played.decisions[Decision.WAITED]


def test_sleeps_that_end_late_are_asked_to_end_sooner() -> None:
    prompt, late = make("fixed"), make("fixed")
    for waiting, by in ((prompt, 5 * US), (late, 200 * US)):
        for _ in range(1000):
            waiting.slept(MS, MS + by)
            waiting.next_pause(1, 2, 1, emptied=True)
    assert prompt.lateness_ns < 20 * US
    assert 190 * US < late.lateness_ns < 210 * US
    asked, woken = 10 * MS, 20 * MS
    assert prompt.after_look(asked, woken) - late.after_look(asked, woken) > 180 * US


def test_a_machine_that_is_always_late_does_not_stop_all_waiting() -> None:
    waiting = make("fixed")
    for _ in range(10_000):
        waiting.slept(MS, 6 * MS)
        waiting.next_pause(1, 2, 1, emptied=True)
    assert waiting.lateness_ns == MS // 4
    assert waiting.after_look(10 * MS, 20 * MS) > 0


def test_frames_that_leave_one_after_the_other_need_less_of_the_bound_than_a_batch() -> None:
    budgets = {}
    for singly in (0, 8):
        waiting = coalescing.make("fixed", max_wait_ns=5 * MS, batch=32, singly=singly)
        assert waiting is not None
        for _ in range(200):
            waiting.next_pause(10 * MS, 10 * MS + 400 * US, 8, emptied=True)
        budgets[singly] = waiting.after_look(10 * MS, 20 * MS)
    # The first of eight has left after an eighth of the time, not after all of it.
    assert budgets[8] - budgets[0] == pytest.approx(350 * US, abs=US)


def test_a_frame_that_was_there_already_has_its_wait_counted_from_before() -> None:
    waiting = make("fixed")
    waiting.next_pause(10 * MS, 10 * MS, 0, emptied=True)
    fresh = waiting.after_look(10 * MS, 20 * MS)
    waiting.next_pause(20 * MS, 20 * MS, 0, emptied=True)
    there = waiting.after_look(20 * MS + 300 * US, 20 * MS + 302 * US)
    assert fresh - there == pytest.approx(300 * US, abs=40 * US)


@pytest.mark.parametrize(("mode", "max_wait_us"), [("off", 1000), ("fixed", 0), ("adaptive", 0)])
def test_without_leave_to_wait_there_is_nothing_to_decide(mode: Coalesce, max_wait_us: int) -> None:
    assert coalescing.make(mode, max_wait_ns=max_wait_us * US, batch=32) is None


@given(st.floats(0.05, 0.95), st.integers(0, 2**32 - 1))
def test_a_running_quantile_finds_its_place(share: float, seed: int) -> None:
    rng = random.Random(seed)
    found = Quantile(share, start=0, step=2)
    for _ in range(20_000):
        found.add(rng.uniform(0, 1000))
    assert found.value == pytest.approx(1000 * share, abs=120)
    before = found.value
    found.add(1e12)
    assert found.value < before + 2
