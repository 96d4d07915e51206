"""What an OBU does with each message, frame by frame."""

from __future__ import annotations

import pytest
from sim_network import GROUP, MS, SECOND, inner, mac, tap_mac

from agent.protocol.codec import U32_MAX, encode
from agent.protocol.drops import DropCause
from agent.protocol.messages import (
    DownstreamData,
    Heartbeat,
    HeartbeatReply,
    Message,
    MessageKind,
    UpstreamData,
)
from agent.protocol.obu import Obu
from agent.protocol.replies import Reply, TapFlat, WireFlat

RSU, OBU, BEHIND, BESIDE, FAR = mac(1), mac(2), mac(3), mac(4), mac(5)
INNER = inner(tap_mac(1), tap_mac(3))


def heartbeat(
    hello_id: int = 0,
    *,
    via: bytes = RSU,
    hops: int = 1,
    rsu: bytes = RSU,
    receiver: bytes = GROUP,
) -> Heartbeat:
    return Heartbeat(
        receiver=receiver,
        transmitter=via,
        duration_ms=hello_id * 1000,
        hello_id=hello_id,
        hops=hops,
        rsu=rsu,
    )


def reply(
    hello_id: int = 0,
    *,
    sender: bytes = BEHIND,
    via: bytes = BEHIND,
    hops: int = 2,
    rsu: bytes = RSU,
    receiver: bytes = OBU,
) -> HeartbeatReply:
    return HeartbeatReply(
        receiver=receiver,
        transmitter=via,
        duration_ms=hello_id * 1000,
        hello_id=hello_id,
        hops=hops,
        rsu=rsu,
        sender=sender,
    )


def up(*, origin: bytes = BEHIND, via: bytes = BEHIND, receiver: bytes = OBU) -> UpstreamData:
    return UpstreamData(receiver=receiver, transmitter=via, origin=origin, inner=INNER)


def down(
    target: bytes, *, origin: bytes = RSU, via: bytes = RSU, receiver: bytes = OBU
) -> DownstreamData:
    return DownstreamData(
        receiver=receiver, transmitter=via, origin=origin, target=target, inner=INNER
    )


def hear(obu: Obu, *messages: Message, at_ns: int = 0) -> list[Reply]:
    """One frame with these messages."""
    return obu.on_wire(b"".join(map(encode, messages)), at_ns)


def dropped(obu: Obu) -> dict[str, int]:
    return {str(cause): count for cause, count in obu.drops.items() if count}


@pytest.fixture
def obu() -> Obu:
    return Obu(OBU)


@pytest.fixture
def joined(obu: Obu) -> Obu:
    """Upstream to the RSU, with one OBU behind and one beside it."""
    hear(obu, heartbeat())
    hear(obu, heartbeat(via=BEHIND, hops=2), reply(), at_ns=1 * MS)
    hear(obu, heartbeat(via=BESIDE, hops=2), at_ns=2 * MS)
    assert dropped(obu) == {}
    return obu


class TestHeartbeats:
    def test_a_new_one_is_passed_on_and_answered_in_two_frames(self, obu: Obu) -> None:
        frames = hear(obu, heartbeat(7, hops=3, via=BESIDE))
        assert frames == [
            WireFlat(encode(heartbeat(7, hops=4, via=OBU))),
            WireFlat(encode(reply(7, hops=3, sender=OBU, via=OBU, receiver=BESIDE))),
        ]

    def test_a_copy_is_not_passed_on(self, obu: Obu) -> None:
        hear(obu, heartbeat())
        assert hear(obu, heartbeat()) == []
        assert hear(obu, heartbeat(via=BESIDE, hops=2)) == []
        assert dropped(obu) == {}
        assert obu.messages[MessageKind.HEARTBEAT] == 3

    def test_its_own_address_as_rsu_is_a_loop(self, obu: Obu) -> None:
        assert hear(obu, heartbeat(rsu=OBU, via=BESIDE)) == []
        assert dropped(obu) == {"loop": 1}

    def test_what_it_sent_itself_is_a_loop(self, obu: Obu) -> None:
        assert hear(obu, heartbeat(via=OBU)) == []
        assert dropped(obu) == {"loop": 1}

    def test_the_last_hop_count_cannot_be_raised(self, obu: Obu) -> None:
        assert hear(obu, heartbeat(hops=U32_MAX)) == []
        assert dropped(obu) == {"hops": 1}

    def test_for_somebody_else_is_overheard(self, obu: Obu) -> None:
        assert hear(obu, heartbeat(receiver=FAR)) == []
        assert dropped(obu) == {"overheard": 1}
        assert obu.messages.total() == 0


class TestReplies:
    def test_is_forwarded_unchanged_to_where_the_heartbeat_came_from(self, obu: Obu) -> None:
        hear(obu, heartbeat(via=BESIDE, hops=2))
        assert hear(obu, reply(hops=3), at_ns=MS) == [
            WireFlat(encode(reply(hops=3, via=OBU, receiver=BESIDE)))
        ]

    def test_heartbeat_and_reply_in_one_frame_both_count(self, obu: Obu) -> None:
        hear(obu, heartbeat())
        frames = hear(obu, heartbeat(via=BEHIND, hops=2), reply(), at_ns=MS)
        assert frames == [WireFlat(encode(reply(via=OBU, receiver=RSU)))]
        assert obu.downstream_next_hop(BEHIND) == BEHIND

    def test_in_one_frame_each_message_has_its_own_destination(self, obu: Obu) -> None:
        hear(obu, heartbeat())
        assert hear(obu, heartbeat(via=BESIDE, hops=2), reply(receiver=FAR)) == []
        assert dropped(obu) == {"overheard": 1}

    @pytest.mark.parametrize("unknown", [reply(hello_id=3), reply(rsu=FAR)])
    def test_to_an_unknown_heartbeat_is_dropped(self, obu: Obu, unknown: HeartbeatReply) -> None:
        hear(obu, heartbeat())
        assert hear(obu, unknown) == []
        assert dropped(obu) == {"unknown_hello": 1}

    def test_to_a_forgotten_heartbeat_is_dropped(self) -> None:
        obu = Obu(OBU, hello_history=1)
        hear(obu, heartbeat(0))
        hear(obu, heartbeat(1))
        assert hear(obu, reply(0)) == []
        assert dropped(obu) == {"unknown_hello": 1}

    def test_from_the_next_hop_itself_is_a_loop(self, obu: Obu) -> None:
        hear(obu, heartbeat(via=BESIDE, hops=2))
        assert hear(obu, reply(sender=BESIDE, via=BEHIND)) == []
        assert dropped(obu) == {"loop": 1}
        assert obu.downstream_next_hop(BESIDE) is None

    def test_its_own_one_coming_back_is_a_loop(self, obu: Obu) -> None:
        hear(obu, heartbeat())
        assert hear(obu, reply(sender=OBU, via=BEHIND)) == []
        assert dropped(obu) == {"loop": 1}

    def test_does_not_go_back_to_where_it_came_from(self, obu: Obu) -> None:
        hear(obu, heartbeat(via=BESIDE, hops=2))
        assert hear(obu, reply(sender=FAR, via=BESIDE)) == []
        assert dropped(obu) == {"loop": 1}
        assert obu.downstream_next_hop(FAR) == BESIDE

    def test_records_the_sender_and_the_neighbour_with_hops_counted_from_here(
        self, obu: Obu
    ) -> None:
        hear(obu, heartbeat(via=BESIDE, hops=4))
        hear(obu, reply(sender=FAR, via=BEHIND, hops=7), at_ns=3 * MS)
        routes = {route.node: route for route in obu.snapshot(0).routes}
        assert (routes[FAR].next_hop, routes[FAR].hops, routes[FAR].score_us) == (BEHIND, 3, 6000)
        assert (routes[BEHIND].next_hop, routes[BEHIND].hops) == (BEHIND, 1)
        assert routes[BEHIND].score_us is None

    def test_for_a_group_measures_the_neighbour_instead_of_ruling_it_out(self, obu: Obu) -> None:
        hear(obu, heartbeat())
        hear(obu, heartbeat(via=BESIDE, hops=2))
        hear(obu, reply(sender=BESIDE, via=BESIDE, receiver=GROUP), at_ns=MS)
        assert obu.upstream is not None
        assert (obu.upstream.mac, obu.upstream.score_us) == (BESIDE, 2000)

    def test_from_an_own_answer_rules_a_neighbour_out(self, joined: Obu) -> None:
        assert [candidate.mac for candidate in joined.snapshot(0).candidates] == [RSU, BESIDE]


class TestOwnTap:
    def test_goes_to_the_current_upstream(self, joined: Obu) -> None:
        [frame] = joined.on_tap(INNER, 0)
        assert frame == WireFlat(encode(up(origin=OBU, via=OBU, receiver=RSU)))

    def test_without_an_upstream_is_dropped(self, obu: Obu) -> None:
        assert obu.on_tap(INNER, 0) == []
        assert dropped(obu) == {"no_upstream": 1}

    def test_follows_a_failed_send_to_the_next_candidate(self, joined: Obu) -> None:
        joined.on_send_failed(RSU, 1)
        [frame] = joined.on_tap(INNER, 0)
        assert frame == WireFlat(encode(up(origin=OBU, via=OBU, receiver=BESIDE)))

    @pytest.mark.parametrize(
        ("size", "cause"), [(0, "short"), (13, "short"), (1514 - 21, "oversized")]
    )
    def test_wrong_sizes_are_dropped(self, joined: Obu, size: int, cause: str) -> None:
        assert joined.on_tap(bytes(size), 0) == []
        assert dropped(joined) == {cause: 1}

    @pytest.mark.parametrize("size", [14, 1514 - 22])
    def test_the_smallest_and_the_largest_pass(self, joined: Obu, size: int) -> None:
        [frame] = joined.on_tap(bytes(size), 0)
        assert isinstance(frame, WireFlat)
        assert len(frame.frame) == size + 22


# Twice: the second time the decision is remembered.
@pytest.mark.parametrize("times", [1, 3])
class TestUpstreamData:
    def test_is_readdressed_to_the_current_upstream(self, joined: Obu, times: int) -> None:
        for _ in range(times):
            assert hear(joined, up()) == [WireFlat(encode(up(via=OBU, receiver=RSU)))]
        assert joined.messages[MessageKind.UPSTREAM] == times

    def test_without_an_upstream_is_dropped(self, obu: Obu, times: int) -> None:
        for _ in range(times):
            assert hear(obu, up()) == []
        assert dropped(obu) == {"no_upstream": times}

    def test_of_its_own_is_a_loop(self, joined: Obu, times: int) -> None:
        for _ in range(times):
            assert hear(joined, up(origin=OBU)) == []
        assert dropped(joined) == {"loop": times}

    def test_never_goes_back_to_where_it_came_from(self, joined: Obu, times: int) -> None:
        for _ in range(times):
            [frame] = hear(joined, up(via=RSU))
            assert frame == WireFlat(encode(up(via=OBU, receiver=BESIDE)))

    def test_with_no_other_way_than_back_is_a_loop(self, obu: Obu, times: int) -> None:
        hear(obu, heartbeat(via=BESIDE, hops=2))
        for _ in range(times):
            assert hear(obu, up(via=BESIDE)) == []
        assert dropped(obu) == {"loop": times}

    def test_for_somebody_else_is_overheard(self, joined: Obu, times: int) -> None:
        for _ in range(times):
            assert hear(joined, up(receiver=FAR)) == []
        assert dropped(joined) == {"overheard": times}

    def test_for_a_group_is_taken(self, joined: Obu, times: int) -> None:
        for _ in range(times):
            assert len(hear(joined, up(receiver=GROUP))) == 1

    def test_follows_the_upstream_when_it_changes(self, joined: Obu, times: int) -> None:
        for _ in range(times):
            hear(joined, up())
        joined.on_send_failed(RSU, 1)
        assert hear(joined, up()) == [WireFlat(encode(up(via=OBU, receiver=BESIDE)))]

    def test_a_short_one_is_dropped_after_a_whole_one(self, joined: Obu, times: int) -> None:
        whole = encode(up())
        for _ in range(times):
            joined.on_wire(whole, 0)
        assert joined.on_wire(whole[: 22 + 13], 0) == []
        assert dropped(joined) == {"truncated": 1}
        assert len(joined.on_wire(whole[: 22 + 14], 0)) == 1

    def test_an_oversized_one_is_dropped(self, joined: Obu, times: int) -> None:
        for _ in range(times):
            assert joined.on_wire(encode(up()).ljust(1515, b"x"), 0) == []
        assert dropped(joined) == {"oversized": times}


@pytest.mark.parametrize("times", [1, 3])
class TestDownstreamData:
    @pytest.mark.parametrize("target", [OBU, GROUP, b"\x33\x33\x00\x00\x00\x01"])
    def test_for_this_obu_or_a_group_goes_into_the_own_tap(
        self, joined: Obu, times: int, target: bytes
    ) -> None:
        for _ in range(times):
            assert hear(joined, down(target)) == [TapFlat(INNER)]
        assert joined.messages[MessageKind.DOWNSTREAM] == times

    def test_for_another_is_readdressed_unchanged(self, joined: Obu, times: int) -> None:
        for _ in range(times):
            [frame] = hear(joined, down(BEHIND))
            assert frame == WireFlat(encode(down(BEHIND, via=OBU, receiver=BEHIND)))

    def test_of_its_own_for_another_is_passed_on(self, joined: Obu, times: int) -> None:
        for _ in range(times):
            [frame] = hear(joined, down(BEHIND, origin=OBU))
            assert frame == WireFlat(encode(down(BEHIND, origin=OBU, via=OBU, receiver=BEHIND)))

    @pytest.mark.parametrize("target", [OBU, GROUP])
    def test_of_its_own_does_not_come_back_into_the_tap(
        self, joined: Obu, times: int, target: bytes
    ) -> None:
        for _ in range(times):
            assert hear(joined, down(target, origin=OBU)) == []
        assert dropped(joined) == {"loop": times}

    def test_without_a_route_is_dropped(self, joined: Obu, times: int) -> None:
        for _ in range(times):
            assert hear(joined, down(FAR)) == []
        assert dropped(joined) == {"no_route": times}

    def test_never_goes_back_to_where_it_came_from(self, joined: Obu, times: int) -> None:
        for _ in range(times):
            assert hear(joined, down(BEHIND, via=BEHIND)) == []
        assert dropped(joined) == {"loop": times}

    def test_loses_its_route_with_the_last_heartbeat_that_brought_it(self, times: int) -> None:
        obu = Obu(OBU, hello_history=2)
        hear(obu, heartbeat(0))
        hear(obu, reply(0), at_ns=MS)
        hear(obu, heartbeat(1), at_ns=SECOND)
        for _ in range(times):
            assert len(hear(obu, down(BEHIND))) == 1
        hear(obu, heartbeat(2), at_ns=2 * SECOND)
        assert hear(obu, down(BEHIND)) == []
        assert dropped(obu) == {"no_route": 1}


class TestFrames:
    def test_control_and_data_share_a_frame(self, obu: Obu) -> None:
        frames = hear(obu, heartbeat(), heartbeat(via=BEHIND, hops=2), reply(), up())
        assert frames[2:] == [
            WireFlat(encode(reply(via=OBU, receiver=RSU))),
            WireFlat(encode(up(via=OBU, receiver=RSU))),
        ]

    def test_rubbish_behind_a_message_is_counted_and_the_message_taken(self, obu: Obu) -> None:
        assert len(obu.on_wire(encode(heartbeat()) + b"rubbish", 0)) == 2
        assert dropped(obu) == {"trailing": 1}

    @pytest.mark.parametrize(
        ("frame", "cause"),
        [
            (b"", DropCause.SHORT),
            (bytes(60), DropCause.FOREIGN),
            (encode(up())[:14] + b"\x02\x00" + bytes(20), DropCause.AUTH),
            (encode(up())[:14] + b"\x07\x00" + bytes(20), DropCause.UNKNOWN_TYPE),
        ],
    )
    def test_what_cannot_be_read_is_counted(
        self, joined: Obu, frame: bytes, cause: DropCause
    ) -> None:
        before = joined.snapshot(0)
        assert joined.on_wire(frame, 0) == []
        assert dropped(joined) == {cause.value: 1}
        assert joined.snapshot(0) == before

    def test_frames_longer_than_the_radio_carries_are_configurable(self) -> None:
        obu = Obu(OBU, max_frame_bytes=9014)
        hear(obu, heartbeat())
        assert len(obu.on_wire(encode(up()).ljust(9014, b"x"), 0)) == 1


class TestRememberedDecisions:
    @pytest.mark.parametrize("message", [up(), down(OBU), down(BEHIND)])
    def test_later_messages_of_a_flow_are_not_decided_again(
        self, joined: Obu, message: Message, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = hear(joined, message)
        monkeypatch.setattr(joined, "_message", None)
        assert hear(joined, message) == first

    def test_are_counted_also_when_the_same_message_is_decided_again(self, joined: Obu) -> None:
        before = joined.messages
        hear(joined, down(OBU))
        hear(joined, down(OBU))
        hear(joined, heartbeat(), down(OBU))
        hear(joined, down(OBU))
        assert joined.messages[MessageKind.DOWNSTREAM] == 4
        hear(joined, heartbeat(1, hops=2))
        assert joined.messages - before == {
            MessageKind.HEARTBEAT: 2,
            MessageKind.DOWNSTREAM: 4,
        }


class TestTime:
    def test_nothing_is_due_before_anything_was_heard(self, obu: Obu) -> None:
        assert obu.next_timer_ns() is None
        assert obu.on_timer(10**18) == []

    def test_silence_takes_the_upstream_away(self, joined: Obu) -> None:
        version = joined.version
        due_ns = joined.next_timer_ns()
        assert due_ns is not None
        joined.on_timer(due_ns - 1)
        assert joined.version == version
        while (due_ns := joined.next_timer_ns()) is not None:
            joined.on_timer(due_ns)
        assert joined.upstream is None
        assert joined.relay_next_hop() is None
        assert joined.downstream_next_hop(BEHIND) is None
        assert joined.on_tap(INNER, 0) == []
        assert joined.version > version

    def test_a_snapshot_changes_nothing_and_says_what_was_heard(self, joined: Obu) -> None:
        version = joined.version
        snapshot = joined.snapshot(52 * MS)
        assert snapshot == joined.snapshot(52 * MS)
        assert joined.version == version
        [rsu] = snapshot.rsus
        assert (rsu.rsu, rsu.last_id, rsu.neighbours) == (RSU, 0, 3)
        assert (rsu.period_ms, rsu.period_known, rsu.silent_ms) == (5000.0, False, 50.0)


def test_the_address_must_be_one_stations_own() -> None:
    with pytest.raises(ValueError, match="unicast"):
        Obu(GROUP)
