"""Control messages of one moment share frames; data never does."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from engine_rig import GROUP, MTU, OTHER, Rig, frame_of
from hypothesis import given
from hypothesis import strategies as st

from agent.engines.aggregate import packed
from agent.engines.base import SendResult, Side
from agent.engines.joining import ends_itself, readable
from agent.engines.registry import AUTO, select
from agent.linux import packet
from agent.linux.bpf import own_or_group_filter
from agent.protocol.codec import encode, parse
from agent.protocol.messages import DownstreamData, Heartbeat, HeartbeatReply, Message, UpstreamData

LIMIT = MTU + 14
RSU = b"\x02\x00\x00\x00\x00\x01"
HERE = b"\x02\x00\x00\x00\x00\x02"
NEAR, FAR = b"\x02\x00\x00\x00\x00\x03", b"\x02\x00\x00\x00\x00\x04"


def beat(hello_id: int = 7) -> bytes:
    return encode(
        Heartbeat(
            receiver=GROUP, transmitter=HERE, duration_ms=1, hello_id=hello_id, hops=2, rsu=RSU
        )
    )


def reply(to: bytes = NEAR, hello_id: int = 7) -> bytes:
    return encode(
        HeartbeatReply(
            receiver=to,
            transmitter=HERE,
            duration_ms=1,
            hello_id=hello_id,
            hops=1,
            rsu=RSU,
            sender=HERE,
        )
    )


def data(to: bytes = NEAR, size: int = 64) -> bytes:
    return encode(UpstreamData(receiver=to, transmitter=HERE, origin=HERE, inner=frame_of(1, size)))


@pytest.fixture
def wire(make_rig: Callable[[str, Side], Rig]) -> Rig:
    return make_rig("aggregate", Side.WIRE)


def test_a_heartbeat_and_the_reply_behind_it_leave_as_one_frame(wire: Rig) -> None:
    engine = wire.open()
    assert engine.send_batch([beat(), reply()]) == SendResult(2)
    assert wire.taken() == [beat() + reply()]
    counters = engine.read_counters()
    assert (counters.tx_frames, counters.tx_bytes) == (1, 98)
    assert counters.syscalls == {"sendto": 1}
    assert counters.carried == {2: 1}


def test_data_is_never_followed_and_follows_nothing(wire: Rig) -> None:
    engine = wire.open()
    frames = [data(), beat(), data(FAR), reply(FAR), data(NEAR, 900), reply()]
    assert engine.send_batch(frames) == SendResult(6)
    assert wire.taken() == [
        beat() + reply(FAR) + reply(),
        data(),
        data(FAR),
        data(NEAR, 900),
    ]
    assert engine.read_counters().tx_frames == 4


def test_one_control_message_among_data_stays_where_it_is(wire: Rig) -> None:
    engine = wire.open()
    for frames in ([data(), reply()], [data(), reply(), data(FAR), data()]):
        assert engine.send_batch(frames) == SendResult(len(frames))
        assert wire.taken() == frames
    assert not engine.read_counters().carried


def test_what_is_heard_by_all_stands_first(wire: Rig) -> None:
    engine = wire.open()
    assert engine.send_batch([reply(NEAR), reply(FAR), beat(1), beat(2)]) == SendResult(4)
    assert wire.taken() == [beat(1) + beat(2) + reply(NEAR) + reply(FAR)]


def test_replies_alone_share_a_frame_only_with_those_to_the_same_neighbour(wire: Rig) -> None:
    engine = wire.open()
    replies = [reply(NEAR, 1), reply(FAR, 1), reply(NEAR, 2)]
    assert engine.send_batch(replies) == SendResult(3)
    assert wire.taken() == [reply(NEAR, 1) + reply(NEAR, 2), reply(FAR, 1)]


def test_the_filter_of_every_neighbour_lets_the_frame_pass(wire: Rig) -> None:
    """Also of one that only a later message in it is for."""
    engine = wire.open()
    with packet.open_packet_socket("tbt-p", filter=own_or_group_filter()) as heard:
        engine.send_batch([beat(), reply(FAR)])
        assert wire.taken() == [beat() + reply(FAR)]
        assert heard.recv(2048) == beat() + reply(FAR)


def test_more_than_a_frame_holds_goes_on_in_the_next(wire: Rig) -> None:
    engine = wire.open(frame_limit=LIMIT)
    beats = [beat(n) for n in range(70)]
    replies = [reply(NEAR, n) for n in range(70)]
    assert engine.send_batch(beats + replies) == SendResult(140)
    frames = wire.taken()
    # 32 heartbeats, 32 more, the last 6 with 23 replies behind them, and the rest of the replies.
    assert [len(frame) for frame in frames] == [
        32 * 46,
        32 * 46,
        6 * 46 + 23 * 52,
        29 * 52,
        18 * 52,
    ]
    assert b"".join(frames) == b"".join(beats + replies)


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_data_goes_as_with_mmsg(make_rig: Callable[[str, Side], Rig], count: int) -> None:
    frames = [data(size=60 + n) for n in range(count)]
    told = []
    for name in ("mmsg", "aggregate"):
        rig = make_rig(name, Side.WIRE)
        engine = rig.open()
        if count > 2:
            assert engine.send_batch(frames) == SendResult(count)
        else:
            for frame in frames:
                assert engine.send_one(frame) == len(frame)
        assert rig.taken() == frames
        told.append(engine.read_counters())
        subprocess.run(["ip", "link", "del", "dev", "tbt-w"], check=True)
    assert told[0] == told[1]


def test_a_link_that_is_down_fails_every_message_and_names_each_neighbour(wire: Rig) -> None:
    engine = wire.open()
    wire.link("down")
    frames = [beat(), reply(NEAR), reply(FAR), data(OTHER)]
    assert engine.send_batch(frames) == SendResult(0, 4, (GROUP, NEAR, FAR, OTHER))
    counters = engine.read_counters()
    assert counters.drops == {"send_unreachable": 4}
    assert counters.tx_frames == 0
    assert not counters.carried


def test_an_interface_that_carries_less_than_before_gets_the_messages_one_by_one(
    wire: Rig,
) -> None:
    engine = wire.open()
    subprocess.run(["ip", "link", "set", "dev", "tbt-w", "mtu", "70"], check=True)
    assert engine.send_batch([beat(), reply()]) == SendResult(2)
    assert wire.taken() == [beat(), reply()]
    assert not engine.read_counters().drops


def test_a_full_queue_drops_messages_together_and_counts_each(wire: Rig) -> None:
    shaper = "qdisc add dev tbt-w root tbf rate 8kbit burst 1600 limit 1700"
    subprocess.run(["tc", *shaper.split()], check=True, capture_output=True)
    engine = wire.open()
    frames = [beat(n) for n in range(20)]
    results = [engine.send_batch(frames) for _ in range(12)]
    assert set(results) == {SendResult(20), SendResult(0, 20)}
    went = results.count(SendResult(20))
    counters = engine.read_counters()
    assert counters.drops == {"send_queue_full": 20 * (12 - went)}
    assert counters.carried == {20: went}
    assert counters.tx_frames == went


def test_it_is_chosen_by_name_and_leaves_the_tap_to_another() -> None:
    assert select(Side.WIRE, "aggregate").used == "aggregate"
    assert select(Side.WIRE, AUTO).used == "xsk-tx"
    tap = select(Side.TAP, "aggregate")
    assert tap.used == select(Side.TAP, AUTO).used
    assert "aggregate does not serve the tap" in tap.why


# -- what ends itself, and how it is packed --------------------------------------------------------


@pytest.mark.parametrize("cut", [False, True])
def test_a_control_message_ends_itself_and_nothing_else_does(cut: bool) -> None:
    down = DownstreamData(
        receiver=NEAR, transmitter=HERE, origin=HERE, target=FAR, inner=frame_of(1)
    )
    short = UpstreamData(receiver=NEAR, transmitter=HERE, origin=HERE, inner=frame_of(1, 14))
    for frame, expected in (
        (beat(), not cut),
        (reply(), not cut),
        (encode(down), False),
        (encode(short), False),
        (beat() + reply(), False),
        (b"", False),
    ):
        given_frame = frame[:-1] if cut else frame
        assert ends_itself(given_frame) is expected
        assert ends_itself(memoryview(given_frame)) is expected


def _messages(frame: bytes) -> list[Message]:
    return [message for message in parse(frame) if not isinstance(message, str)]


_control = st.lists(
    st.one_of(
        st.builds(beat, st.integers(0, 3)),
        st.builds(reply, st.sampled_from([NEAR, FAR]), st.integers(0, 3)),
    ),
    max_size=120,
)


@given(_control, st.integers(98, LIMIT))
def test_packing_keeps_every_message_once_and_readable(messages: list[bytes], limit: int) -> None:
    frames = [b"".join(frame) for frame in packed(messages, limit)]
    assert all(0 < len(frame) <= limit for frame in frames)
    out = [message for frame in frames for message in _messages(frame)]
    assert sorted(map(encode, out)) == sorted(messages)
    # For each receiver, in the order given.
    for receiver in (GROUP, NEAR, FAR):
        expected = [message for message in messages if message[:6] == receiver]
        assert [encode(one) for one in out if one.receiver == receiver] == expected
    # Whoever a message is for is addressed by the frame, or the frame is for all.
    for frame in frames:
        if not frame[0] & 1:
            assert {message.receiver for message in _messages(frame)} == {frame[:6]}


@given(_control, st.integers(0, 5))
def test_readable_agrees_with_the_parser(messages: list[bytes], place: int) -> None:
    messages = messages[:20]
    frames = [*messages[:place], data(), *messages[place:]]
    for given_frames in (messages, frames):
        if given_frames:
            assert readable(given_frames) == len(_messages(b"".join(given_frames)))
