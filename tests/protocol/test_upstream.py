"""Which neighbour an OBU chooses, when it leaves it, and when it gives it up."""

from __future__ import annotations

import pytest
from sim_network import MS, SECOND, mac

from agent.protocol.hello import MAX_NEIGHBOURS, HelloPeriod
from agent.protocol.upstream import MAX_ENTRIES, MAX_RSUS, HelloKey, Upstreams

RSU, OTHER_RSU = mac(1), mac(2)
A, B, C, D = mac(10), mac(11), mac(12), mac(13)


class Rig:
    """Upstreams with one RSU of a 1 s hello period, told what is heard in few words."""

    def __init__(self, *, hello_history: int = 10, cached_candidates: int = 3) -> None:
        self.changes = 0
        self.forgotten: list[HelloKey] = []
        self.upstreams = Upstreams(
            self._changed,
            self.forgotten.append,
            hello_history=hello_history,
            cached_candidates=cached_candidates,
        )

    def _changed(self) -> None:
        self.changes += 1

    def hear(
        self,
        hello_id: int,
        via: bytes,
        hops: int,
        *,
        rsu: bytes = RSU,
        at_ns: int | None = None,
        duration_ms: int | None = None,
    ) -> bool | None:
        return self.upstreams.heard(
            rsu=rsu,
            hello_id=hello_id,
            duration_ms=hello_id * 1000 if duration_ms is None else duration_ms,
            hops=hops,
            via=via,
            now_ns=hello_id * SECOND if at_ns is None else at_ns,
        )

    def measure(self, hello_id: int, neighbour: bytes, latency_us: int) -> None:
        self.upstreams.answered(RSU, hello_id, neighbour, latency_us, through_us=False)

    def answered_through_us(self, hello_id: int, neighbour: bytes) -> None:
        self.upstreams.answered(RSU, hello_id, neighbour, 100, through_us=True)

    @property
    def current(self) -> bytes | None:
        return self.upstreams.next_hop()

    @property
    def macs(self) -> list[bytes]:
        return [candidate.mac for candidate in self.upstreams.candidates]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_the_first_copy_is_new_and_the_others_only_add_candidates(rig: Rig) -> None:
    assert rig.hear(0, A, 1) is True
    assert rig.hear(0, B, 2) is False
    assert rig.hear(0, A, 1) is False
    assert rig.macs == [A, B]
    hello = rig.upstreams.hello(RSU, 0)
    assert hello is not None
    assert (hello.via, hello.hops) == (A, 1)


def test_without_measurements_the_fewest_hops_win_and_ties_go_to_the_lower_mac(rig: Rig) -> None:
    rig.hear(0, C, 3)
    assert rig.current == C
    rig.hear(0, B, 2)
    assert rig.current == B
    rig.hear(0, A, 2)
    assert rig.current == B, "an equal one is no reason to leave"
    fresh = Rig()
    for neighbour in (D, C):
        fresh.hear(0, neighbour, 3)
        fresh.answered_through_us(0, neighbour)
    assert fresh.current is None
    fresh.hear(1, B, 3)
    fresh.hear(1, A, 3)
    fresh.upstreams.send_failed(B, 1)
    fresh.hear(1, C, 2)
    assert fresh.macs == [C, A, B], "what failed comes last, whatever its rank"


def test_the_hops_of_a_candidate_are_those_of_its_newest_heartbeat(rig: Rig) -> None:
    rig.hear(0, A, 1)
    rig.hear(0, B, 2)
    rig.hear(1, A, 3)
    assert rig.current == B
    rig.hear(0, A, 1, at_ns=SECOND)
    assert rig.current == B, "a late copy says nothing new"


def test_a_measured_candidate_beats_an_unmeasured_one(rig: Rig) -> None:
    rig.hear(0, A, 1)
    rig.hear(0, B, 2)
    rig.measure(0, B, 500)
    assert rig.current == B


@pytest.mark.parametrize(("latency_us", "leaves"), [(451, False), (450, True), (100, True)])
def test_a_score_must_be_a_tenth_lower_to_leave_the_upstream(latency_us: int, leaves: bool) -> None:
    rig = Rig()
    rig.hear(0, A, 2)
    rig.measure(0, A, 500)
    rig.hear(0, B, 2)
    rig.measure(0, B, latency_us)
    assert (rig.current == B) is leaves


def test_fewer_hops_are_reason_enough_for_a_better_score(rig: Rig) -> None:
    rig.hear(0, A, 3)
    rig.measure(0, A, 500)
    rig.hear(0, B, 2)
    rig.measure(0, B, 499)
    assert rig.current == B


def test_a_choice_is_stable_while_nothing_changes(rig: Rig) -> None:
    rig.hear(0, A, 3)
    rig.measure(0, A, 100)
    rig.hear(0, B, 1)
    rig.measure(0, B, 900)
    chosen = rig.current
    changes = rig.changes
    for hello_id in range(1, 5):
        rig.hear(hello_id, A, 3)
        rig.hear(hello_id, B, 1)
    assert rig.current == chosen
    assert rig.changes == changes


def test_measurements_go_with_their_heartbeat() -> None:
    rig = Rig(hello_history=2)
    rig.hear(0, A, 1)
    rig.hear(0, B, 2)
    rig.measure(0, B, 500)
    rig.hear(1, A, 1)
    assert rig.current == B
    rig.hear(2, A, 1)
    assert rig.current == A
    assert rig.forgotten == [(RSU, 0)]


def test_who_answers_through_us_is_no_candidate_until_it_hears_from_elsewhere(rig: Rig) -> None:
    rig.hear(0, A, 1)
    rig.hear(0, B, 2)
    rig.answered_through_us(0, B)
    assert rig.macs == [A]
    # The heartbeat comes first, the answer to it just behind.
    rig.hear(1, B, 2)
    assert rig.macs == [A, B]
    rig.answered_through_us(1, B)
    assert rig.macs == [A]


def test_downstream_for_one_rsu_may_be_upstream_for_another(rig: Rig) -> None:
    rig.hear(0, A, 1)
    rig.hear(0, B, 2)
    rig.answered_through_us(0, B)
    rig.hear(0, B, 3, rsu=OTHER_RSU)
    assert [(c.mac, c.rsu, c.hops) for c in rig.upstreams.candidates] == [
        (A, RSU, 1),
        (B, OTHER_RSU, 3),
    ]


def test_a_neighbour_counts_with_the_rsu_that_it_serves_best(rig: Rig) -> None:
    rig.hear(0, A, 4)
    rig.hear(7, A, 2, rsu=OTHER_RSU)
    [candidate] = rig.upstreams.candidates
    assert (candidate.rsu, candidate.hops) == (OTHER_RSU, 2)


def test_only_so_many_candidates_are_kept_the_upstream_among_them() -> None:
    rig = Rig(cached_candidates=2)
    for neighbour, hops in ((A, 2), (B, 4), (C, 3), (D, 5)):
        rig.hear(0, neighbour, hops)
    assert rig.macs == [A, C]
    rig.hear(1, D, 2)
    assert rig.macs == [A, D]


def test_a_failed_send_promotes_the_next_candidate_at_once(rig: Rig) -> None:
    for neighbour, hops in ((A, 1), (B, 2), (C, 3)):
        rig.hear(0, neighbour, hops)
    rig.upstreams.send_failed(A, 10)
    assert rig.macs == [B, C, A]
    rig.upstreams.send_failed(B, 20)
    assert rig.current == C
    rig.upstreams.send_failed(C, 30)
    assert rig.current == A, "when all have failed, the one that failed first is tried again"
    rig.hear(1, B, 2)
    assert rig.current == B, "heard again, it has not failed any more"


def test_a_failed_send_leaves_the_only_way_in_place(rig: Rig) -> None:
    rig.hear(0, A, 1)
    rig.upstreams.send_failed(A, 10)
    assert rig.current == A


def test_a_failed_send_to_somebody_else_changes_nothing(rig: Rig) -> None:
    rig.hear(0, A, 1)
    changes = rig.changes
    rig.upstreams.send_failed(D, 10)
    assert rig.macs == [A]
    assert rig.changes == changes


def test_the_next_hop_is_never_where_it_came_from(rig: Rig) -> None:
    rig.hear(0, A, 1)
    assert rig.upstreams.next_hop(A) is None
    rig.hear(0, B, 2)
    assert rig.upstreams.next_hop(A) == B
    assert rig.upstreams.next_hop(B) == A


def test_ten_silent_periods_expire_a_neighbour(rig: Rig) -> None:
    for hello_id in range(5):
        rig.hear(hello_id, A, 1)
    rig.hear(4, B, 2)
    for hello_id in range(5, 15):
        rig.hear(hello_id, B, 2)
        deadline_ns = rig.upstreams.deadline_ns
        assert deadline_ns is not None
        rig.upstreams.expire(hello_id * SECOND)
    assert rig.current == A, "ten periods, but not yet the half that allows for delay"
    rig.upstreams.expire(14 * SECOND + 500 * MS)
    assert rig.macs == [B]


def test_expiry_comes_by_its_own_deadlines_alone(rig: Rig) -> None:
    for hello_id in range(5):
        rig.hear(hello_id, A, 1)
    now_ns = 4 * SECOND
    for _ in range(10):
        deadline_ns = rig.upstreams.deadline_ns
        if deadline_ns is None:
            break
        assert deadline_ns > now_ns
        now_ns = deadline_ns
        rig.upstreams.expire(now_ns)
    assert now_ns == 4 * SECOND + 10_500 * MS
    assert rig.current is None
    assert rig.upstreams.rsus == {}
    assert rig.forgotten == [(RSU, hello_id) for hello_id in range(5)]


def test_until_the_period_is_known_it_is_taken_to_be_five_seconds(rig: Rig) -> None:
    rig.hear(0, A, 1)
    assert rig.upstreams.deadline_ns == 52_500 * MS


def test_once_the_period_is_known_it_holds_for_those_not_heard_since(rig: Rig) -> None:
    rig.hear(0, B, 2)
    for hello_id in range(4):
        rig.hear(hello_id, A, 1)
    assert rig.upstreams.deadline_ns == 10_500 * MS
    rig.upstreams.expire(10_500 * MS)
    assert rig.macs == [A]


def test_a_smaller_id_than_the_oldest_kept_one_is_a_restart() -> None:
    rig = Rig(hello_history=3)
    for hello_id in range(5, 10):
        rig.hear(hello_id, A, 1)
    rig.hear(9, B, 1)
    rig.forgotten.clear()
    assert rig.hear(0, B, 2, at_ns=10 * SECOND) is True
    assert rig.forgotten == [(RSU, 7), (RSU, 8), (RSU, 9)]
    assert rig.macs == [B]


def test_an_old_id_within_the_history_is_only_late(rig: Rig) -> None:
    rig.hear(5, A, 1)
    rig.hear(7, A, 1)
    assert rig.hear(6, B, 2, at_ns=7 * SECOND + MS) is True
    assert rig.forgotten == []


def test_a_known_id_long_after_its_first_copy_is_a_restart(rig: Rig) -> None:
    for hello_id in range(3):
        rig.hear(hello_id, A, 1)
    assert rig.hear(0, A, 1, at_ns=4 * SECOND) is True
    assert rig.forgotten == [(RSU, 0), (RSU, 1), (RSU, 2)]
    assert rig.macs == [A]


def test_a_restart_voids_every_candidate_of_that_rsu_and_no_other() -> None:
    rig = Rig(cached_candidates=2)
    rig.hear(5, A, 1)
    rig.hear(5, B, 2)
    rig.hear(0, C, 4, rsu=OTHER_RSU)
    rig.hear(0, D, 6, at_ns=6 * SECOND)
    assert rig.macs == [C, D]


@pytest.mark.parametrize(
    ("heard", "period_ms"),
    [
        ([(0, 0), (1, 1000), (2, 2000)], None),
        ([(0, 0), (1, 1000), (2, 2000), (3, 3000)], 1000),
        ([(0, 0), (1, 1000), (4, 4000), (5, 5000)], 1000),
        ([(0, 0), (1, 20), (2, 40), (3, 60), (4, 1060)], 1000),
        ([(0, 0), (1, 1000), (0, 0), (2, 2000), (3, 3000)], 1000),
        ([(n, n * 10**30) for n in range(5)], 60_000),
    ],
)
def test_the_hello_period_is_learned(heard: list[tuple[int, int]], period_ms: int | None) -> None:
    period = HelloPeriod(10)
    for hello_id, duration_ms in heard:
        period.heard(hello_id, duration_ms)
    assert period.known is (period_ms is not None)
    assert period.period_ns == (5000 if period_ms is None else period_ms) * MS


def test_invented_rsus_and_neighbours_do_not_grow_the_tables(rig: Rig) -> None:
    rig.hear(0, A, 1)
    for index in range(1000):
        rig.hear(0, mac(2000 + index), 2)
    for index in range(1000):
        for neighbour in range(5):
            rig.hear(0, mac(4000 + neighbour), 2, rsu=mac(3000 + index))
    rsus = rig.upstreams.rsus
    assert len(rsus) == MAX_RSUS
    assert all(len(history.neighbours) <= MAX_NEIGHBOURS for history in rsus.values())
    assert rig.hear(0, mac(9999), 2) is None
    assert rig.current == A


def test_pairs_of_rsu_and_neighbour_are_bounded_in_all(rig: Rig) -> None:
    rig.hear(0, A, 1)
    for index in range(MAX_RSUS - 1):
        for neighbour in range(MAX_ENTRIES // MAX_RSUS + 4):
            rig.hear(0, mac(4000 + neighbour), 2, rsu=mac(3000 + index))
    rsus = rig.upstreams.rsus
    assert sum(len(history.neighbours) for history in rsus.values()) == MAX_ENTRIES
    rig.upstreams.expire(10**18)
    assert rsus == {}
    assert rig.hear(0, A, 1, at_ns=10**18) is True
    assert rig.macs == [A]


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="hello_history"):
        Rig(hello_history=0)
    with pytest.raises(ValueError, match="cached_candidates"):
        Rig(cached_candidates=0)
