"""What an RSU does with each message, frame by frame."""

from __future__ import annotations

import pytest
from sim_network import GROUP, MS, SECOND, inner, mac, tap_mac

from agent.protocol.codec import encode
from agent.protocol.messages import (
    DownstreamData,
    Heartbeat,
    HeartbeatReply,
    Message,
    MessageKind,
    UpstreamData,
)
from agent.protocol.node import MAX_FLOWS
from agent.protocol.replies import Reply, TapFlat, WireFlat
from agent.protocol.rsu import GroupCopies, Rsu

RSU, NEAR, NEAR_2, FAR = mac(1), mac(2), mac(3), mac(4)
RSU_TAP, NEAR_TAP, FAR_TAP, NOBODY = tap_mac(1), tap_mac(2), tap_mac(4), tap_mac(99)


def heartbeat(hello_id: int, duration_ms: int) -> Heartbeat:
    return Heartbeat(
        receiver=GROUP,
        transmitter=RSU,
        duration_ms=duration_ms,
        hello_id=hello_id,
        hops=1,
        rsu=RSU,
    )


def reply(
    sender: bytes,
    *,
    via: bytes | None = None,
    hops: int = 1,
    hello_id: int = 0,
    duration_ms: int = 0,
    rsu: bytes = RSU,
) -> HeartbeatReply:
    return HeartbeatReply(
        receiver=RSU,
        transmitter=via or sender,
        duration_ms=duration_ms,
        hello_id=hello_id,
        hops=hops,
        rsu=rsu,
        sender=sender,
    )


def up(origin: bytes, frame: bytes, *, via: bytes | None = None) -> UpstreamData:
    return UpstreamData(receiver=RSU, transmitter=via or origin, origin=origin, inner=frame)


def down(next_hop: bytes, target: bytes, frame: bytes, *, origin: bytes = RSU) -> WireFlat:
    return WireFlat(
        encode(
            DownstreamData(
                receiver=next_hop, transmitter=RSU, origin=origin, target=target, inner=frame
            )
        )
    )


def hear(rsu: Rsu, *messages: Message, at_ns: int = 5 * MS) -> list[Reply]:
    return rsu.on_wire(b"".join(map(encode, messages)), at_ns)


def dropped(rsu: Rsu) -> dict[str, int]:
    return {str(cause): count for cause, count in rsu.drops.items() if count}


def cell(group_copies: GroupCopies = "reference") -> Rsu:
    """Two OBUs in reach and one behind the first; each TAP's address is known."""
    rsu = Rsu(RSU, boot_ns=0, group_copies=group_copies)
    rsu.on_timer(0)
    hear(rsu, reply(NEAR))
    hear(rsu, reply(NEAR_2))
    hear(rsu, reply(FAR, via=NEAR, hops=2))
    rsu.on_tap(inner(GROUP, RSU_TAP), 0)
    hear(rsu, up(NEAR, inner(GROUP, NEAR_TAP)))
    hear(rsu, up(FAR, inner(GROUP, FAR_TAP), via=NEAR))
    return rsu


@pytest.fixture
def rsu() -> Rsu:
    return cell()


class TestHeartbeats:
    def test_the_first_is_due_at_once_and_then_one_every_period(self) -> None:
        rsu = Rsu(RSU, boot_ns=7 * SECOND, hello_periodicity_ms=1500)
        assert rsu.next_timer_ns() == 7 * SECOND
        assert rsu.on_timer(7 * SECOND) == [WireFlat(encode(heartbeat(0, 0)))]
        assert rsu.on_timer(7 * SECOND) == []
        assert rsu.next_timer_ns() == 8500 * MS
        assert rsu.on_timer(8503 * MS) == [WireFlat(encode(heartbeat(1, 1503)))]
        assert rsu.next_timer_ns() == 10 * SECOND, "lateness does not add up"

    def test_a_late_call_does_not_pile_heartbeats_up(self) -> None:
        rsu = Rsu(RSU, boot_ns=0, hello_periodicity_ms=1000)
        rsu.on_timer(0)
        assert len(rsu.on_timer(7 * SECOND)) == 1
        assert rsu.next_timer_ns() == 8 * SECOND

    def test_one_on_demand_begins_a_new_period(self) -> None:
        rsu = Rsu(RSU, boot_ns=0, hello_periodicity_ms=1000)
        rsu.on_timer(0)
        assert rsu.heartbeat_now(300 * MS) == [WireFlat(encode(heartbeat(1, 300)))]
        assert rsu.next_timer_ns() == 1300 * MS

    def test_others_are_ignored(self, rsu: Rsu) -> None:
        other = Heartbeat(
            receiver=GROUP, transmitter=NEAR, duration_ms=0, hello_id=0, hops=2, rsu=RSU
        )
        assert hear(rsu, other) == []
        assert dropped(rsu) == {"ignored": 1}

    def test_downstream_data_is_ignored(self, rsu: Rsu) -> None:
        message = DownstreamData(
            receiver=RSU, transmitter=NEAR, origin=NEAR, target=RSU, inner=inner(RSU_TAP, NEAR_TAP)
        )
        assert hear(rsu, message) == []
        assert dropped(rsu) == {"ignored": 1}


class TestReplies:
    def test_give_routes_with_latency_from_the_duration(self, rsu: Rsu) -> None:
        routes = {route.node: route for route in rsu.snapshot(0).routes}
        assert (routes[NEAR].next_hop, routes[NEAR].hops, routes[NEAR].score_us) == (
            NEAR,
            1,
            10_000,
        )
        assert (routes[FAR].next_hop, routes[FAR].hops) == (NEAR, 2)

    def test_the_better_score_takes_the_route(self, rsu: Rsu) -> None:
        rsu.on_timer(5 * SECOND)
        hear(
            rsu,
            reply(FAR, via=NEAR_2, hops=2, hello_id=1, duration_ms=5000),
            at_ns=5001 * MS,
        )
        assert rsu.downstream_next_hop(FAR) == NEAR_2

    def test_for_another_rsu_are_ignored(self, rsu: Rsu) -> None:
        assert hear(rsu, reply(NEAR, rsu=mac(77))) == []
        assert dropped(rsu) == {"other_rsu": 1}

    def test_to_an_unsent_heartbeat_are_outdated(self, rsu: Rsu) -> None:
        hear(rsu, reply(NEAR, hello_id=1))
        assert dropped(rsu) == {"outdated": 1}

    def test_to_a_forgotten_heartbeat_are_outdated_and_its_routes_are_gone(self) -> None:
        rsu = Rsu(RSU, boot_ns=0, hello_periodicity_ms=1000, hello_history=2)
        rsu.on_timer(0)
        hear(rsu, reply(NEAR))
        rsu.on_timer(1 * SECOND)
        assert rsu.downstream_next_hop(NEAR) == NEAR
        rsu.on_timer(2 * SECOND)
        assert rsu.downstream_next_hop(NEAR) is None
        hear(rsu, reply(NEAR), at_ns=2 * SECOND)
        assert dropped(rsu) == {"outdated": 1}

    def test_to_a_heartbeat_of_an_earlier_life_are_outdated(self, rsu: Rsu) -> None:
        hear(rsu, reply(NEAR, duration_ms=60_000))
        assert dropped(rsu) == {"outdated": 1}

    def test_in_its_own_name_are_a_loop(self, rsu: Rsu) -> None:
        hear(rsu, reply(RSU, via=NEAR))
        assert dropped(rsu) == {"loop": 1}


# Twice: the second time the decision is remembered.
@pytest.mark.parametrize("times", [1, 3])
class TestUpstreamData:
    def test_for_the_own_tap(self, rsu: Rsu, times: int) -> None:
        frame = inner(RSU_TAP, NEAR_TAP)
        before = rsu.messages[MessageKind.UPSTREAM]
        for _ in range(times):
            assert hear(rsu, up(NEAR, frame)) == [TapFlat(frame)]
        assert rsu.messages[MessageKind.UPSTREAM] - before == times

    def test_for_another_obu_goes_down_through_its_route(self, rsu: Rsu, times: int) -> None:
        frame = inner(FAR_TAP, NEAR_TAP)
        for _ in range(times):
            assert hear(rsu, up(NEAR, frame)) == [down(NEAR, FAR, frame, origin=NEAR)]

    def test_for_a_group_goes_into_the_tap_and_to_every_obu_but_the_origin(
        self, rsu: Rsu, times: int
    ) -> None:
        frame = inner(GROUP, NEAR_TAP)
        for _ in range(times):
            assert hear(rsu, up(NEAR, frame)) == [
                down(NEAR_2, GROUP, frame, origin=NEAR),
                down(NEAR, GROUP, frame, origin=NEAR),
                TapFlat(frame),
            ]

    def test_for_an_unknown_client_is_dropped(self, rsu: Rsu, times: int) -> None:
        for _ in range(times):
            assert hear(rsu, up(NEAR, inner(NOBODY, NEAR_TAP))) == []
        assert dropped(rsu) == {"unknown_client": times}

    def test_for_a_client_behind_an_unreachable_obu_is_dropped(self, rsu: Rsu, times: int) -> None:
        hear(rsu, up(mac(50), inner(GROUP, NOBODY)))
        for _ in range(times):
            assert hear(rsu, up(NEAR, inner(NOBODY, NEAR_TAP))) == []
        assert dropped(rsu) == {"no_route": times}

    def test_teaches_where_the_inner_source_lives(self, rsu: Rsu, times: int) -> None:
        frame = inner(RSU_TAP, NOBODY)
        for _ in range(times):
            hear(rsu, up(FAR, frame, via=NEAR))
        assert rsu.node_of(NOBODY) == FAR
        hear(rsu, up(NEAR_2, frame))
        assert rsu.node_of(NOBODY) == NEAR_2
        hear(rsu, up(FAR, frame, via=NEAR))
        assert rsu.node_of(NOBODY) == FAR

    def test_of_its_own_is_a_loop(self, rsu: Rsu, times: int) -> None:
        for _ in range(times):
            assert hear(rsu, up(RSU, inner(RSU_TAP, NEAR_TAP), via=NEAR)) == []
        assert dropped(rsu) == {"loop": times}

    def test_from_an_inner_group_address_is_dropped(self, rsu: Rsu, times: int) -> None:
        for _ in range(times):
            assert hear(rsu, up(NEAR, inner(RSU_TAP, GROUP))) == []
        assert dropped(rsu) == {"bad_address": times}

    def test_too_long_to_be_sent_down_is_dropped_but_not_for_the_tap(
        self, rsu: Rsu, times: int
    ) -> None:
        fits = inner(GROUP, NEAR_TAP).ljust(1514 - 28, b"x")
        long = inner(GROUP, NEAR_TAP).ljust(1514 - 28 + 1, b"x")
        for _ in range(times):
            assert len(hear(rsu, up(NEAR, fits))) == 3
            assert hear(rsu, up(NEAR, long)) == [TapFlat(long)]
        assert dropped(rsu) == {"oversized": 2 * times}

    def test_a_short_one_is_dropped_after_a_whole_one(self, rsu: Rsu, times: int) -> None:
        whole = encode(up(NEAR, inner(RSU_TAP, NEAR_TAP)))
        for _ in range(times):
            rsu.on_wire(whole, 0)
        assert rsu.on_wire(whole[: 22 + 13], 0) == []
        assert dropped(rsu) == {"truncated": 1}


@pytest.mark.parametrize("times", [1, 3])
class TestOwnTap:
    def test_a_known_client_gets_one_frame(self, rsu: Rsu, times: int) -> None:
        frame = inner(FAR_TAP, RSU_TAP)
        for _ in range(times):
            assert rsu.on_tap(frame, 0) == [down(NEAR, FAR, frame)]

    def test_a_known_client_without_a_route_is_tried_directly(self, rsu: Rsu, times: int) -> None:
        hear(rsu, up(mac(50), inner(GROUP, NOBODY)))
        frame = inner(NOBODY, RSU_TAP)
        for _ in range(times):
            assert rsu.on_tap(frame, 0) == [down(mac(50), mac(50), frame)]

    def test_a_group_gets_one_copy_per_obu(self, rsu: Rsu, times: int) -> None:
        frame = inner(GROUP, RSU_TAP)
        for _ in range(times):
            assert rsu.on_tap(frame, 0) == [
                down(NEAR, GROUP, frame),
                down(NEAR_2, GROUP, frame),
                down(NEAR, GROUP, frame),
            ]

    def test_an_unknown_client_is_sought_at_every_obu(self, rsu: Rsu, times: int) -> None:
        frame = inner(NOBODY, RSU_TAP)
        for _ in range(times):
            assert rsu.on_tap(frame, 0) == [
                down(NEAR, NOBODY, frame),
                down(NEAR_2, NOBODY, frame),
                down(NEAR, NOBODY, frame),
            ]

    def test_addressed_copies_name_the_obu_where_the_reference_cannot_reach_it(
        self, times: int
    ) -> None:
        rsu = cell("addressed")
        for _ in range(times):
            group, unknown = inner(GROUP, RSU_TAP), inner(NOBODY, RSU_TAP)
            assert rsu.on_tap(group, 0) == [
                down(NEAR, GROUP, group),
                down(NEAR_2, GROUP, group),
                down(NEAR, FAR, group),
            ]
            assert rsu.on_tap(unknown, 0) == [
                down(NEAR, NEAR, unknown),
                down(NEAR_2, NEAR_2, unknown),
                down(NEAR, FAR, unknown),
            ]

    def test_teaches_that_the_source_lives_here(self, rsu: Rsu, times: int) -> None:
        for _ in range(times):
            rsu.on_tap(inner(GROUP, NOBODY), 0)
        assert rsu.node_of(NOBODY) == RSU

    def test_to_an_address_on_the_same_tap_stays_there(self, rsu: Rsu, times: int) -> None:
        for _ in range(times):
            assert rsu.on_tap(inner(RSU_TAP, NOBODY), 0) == []
        assert dropped(rsu) == {"local": times}

    def test_with_no_obu_at_all_is_dropped(self, times: int) -> None:
        rsu = Rsu(RSU, boot_ns=0)
        for _ in range(times):
            assert rsu.on_tap(inner(GROUP, RSU_TAP), 0) == []
        assert dropped(rsu) == {"no_route": times}

    @pytest.mark.parametrize(
        ("frame", "cause"),
        [
            (bytes(13), "short"),
            (inner(GROUP, RSU_TAP).ljust(1514 - 27, b"x"), "oversized"),
            (inner(GROUP, GROUP), "bad_address"),
        ],
    )
    def test_wrong_frames_are_dropped(self, rsu: Rsu, times: int, frame: bytes, cause: str) -> None:
        for _ in range(times):
            assert rsu.on_tap(frame, 0) == []
        assert dropped(rsu) == {cause: times}

    def test_follows_a_route_that_changes(self, rsu: Rsu, times: int) -> None:
        frame = inner(FAR_TAP, RSU_TAP)
        for _ in range(times):
            rsu.on_tap(frame, 0)
        hear(rsu, reply(FAR, hops=1))
        assert rsu.on_tap(frame, 0) == [down(FAR, FAR, frame)]


@pytest.mark.parametrize("dest", [RSU_TAP, FAR_TAP, GROUP])
def test_later_frames_of_a_flow_are_not_decided_again(
    rsu: Rsu, dest: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    message, frame = up(NEAR_2, inner(dest, NOBODY)), inner(dest, NOBODY)
    upstream = hear(rsu, message)
    monkeypatch.setattr(rsu, "_message", None)
    assert hear(rsu, message) == upstream
    monkeypatch.undo()
    if dest != RSU_TAP:
        from_tap = rsu.on_tap(frame, 0)
        monkeypatch.setattr(rsu, "_tap_headers", None)
        assert rsu.on_tap(frame, 0) == from_tap


def test_remembered_decisions_are_bounded(rsu: Rsu) -> None:
    before = rsu.messages[MessageKind.UPSTREAM]
    for index in range(MAX_FLOWS + 10):
        frame = inner(tap_mac(1), RSU_TAP)
        hear(rsu, up(mac(1000 + index), frame))
        rsu.on_tap(inner(tap_mac(3000 + index), RSU_TAP), 0)
    assert len(rsu._flows) <= MAX_FLOWS
    assert len(rsu._tap_flows) <= MAX_FLOWS
    assert rsu.messages[MessageKind.UPSTREAM] - before == MAX_FLOWS + 10


@pytest.mark.parametrize(
    "options",
    [{"hello_history": 0}, {"hello_periodicity_ms": 0}, {"group_copies": "some"}],
)
def test_options_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Rsu(RSU, boot_ns=0, **options)  # type: ignore[arg-type]


def test_a_failed_send_changes_no_route(rsu: Rsu) -> None:
    before = rsu.snapshot(0)
    rsu.on_send_failed(NEAR, 0)
    assert rsu.snapshot(0) == before
