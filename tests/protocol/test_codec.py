"""The bytes of the protocol: fixed frames, round trips, and everything that cannot be read."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.protocol.codec import encode, parse
from agent.protocol.drops import DropCause
from agent.protocol.messages import (
    DownstreamData,
    Heartbeat,
    HeartbeatReply,
    Message,
    UpstreamData,
)

RSU = bytes.fromhex("0200000000aa")
OBU = bytes.fromhex("0200000000bb")
FAR = bytes.fromhex("0200000000cc")
INNER = bytes.fromhex("020100000001 020100000002 0800") + b"hello"

HEARTBEAT = Heartbeat(
    receiver=b"\xff" * 6, transmitter=OBU, duration_ms=123456789, hello_id=7, hops=2, rsu=RSU
)
REPLY = HeartbeatReply(
    receiver=RSU,
    transmitter=OBU,
    duration_ms=(1 << 64) + 5,
    hello_id=0xDEADBEEF,
    hops=2,
    rsu=RSU,
    sender=FAR,
)
UP = UpstreamData(receiver=RSU, transmitter=OBU, origin=FAR, inner=INNER)
DOWN = DownstreamData(receiver=OBU, transmitter=RSU, origin=RSU, target=FAR, inner=INNER)

GOLDEN = [
    (
        HEARTBEAT,
        (
            "ffffffffffff 0200000000bb 3030 00 00"
            "000000000000000000000000075bcd15 00000007 00000002 0200000000aa"
        ),
        46,
    ),
    (
        REPLY,
        (
            "0200000000aa 0200000000bb 3030 00 01"
            "00000000000000010000000000000005 deadbeef 00000002 0200000000aa 0200000000cc"
        ),
        52,
    ),
    (
        UP,
        (
            "0200000000aa 0200000000bb 3030 01 00 0200000000cc"
            "020100000001 020100000002 0800 68656c6c6f"
        ),
        22 + len(INNER),
    ),
    (
        DOWN,
        (
            "0200000000bb 0200000000aa 3030 01 01 0200000000aa 0200000000cc"
            "020100000001 020100000002 0800 68656c6c6f"
        ),
        28 + len(INNER),
    ),
]


@pytest.mark.parametrize(("message", "text", "size"), GOLDEN)
def test_each_message_has_exactly_these_bytes(message: Message, text: str, size: int) -> None:
    frame = bytes.fromhex(text)
    assert encode(message) == frame
    assert list(parse(frame)) == [message]
    assert len(frame) == size


def test_a_frame_may_hold_several_control_messages_and_data_at_its_end() -> None:
    messages: list[Message] = [HEARTBEAT, REPLY, HEARTBEAT, UP]
    assert list(parse(b"".join(map(encode, messages)))) == messages


def test_a_data_message_swallows_what_follows_it() -> None:
    [swallowed] = parse(encode(UP) + encode(HEARTBEAT))
    assert isinstance(swallowed, UpstreamData)
    assert swallowed.inner == INNER + encode(HEARTBEAT)


@pytest.mark.parametrize(
    ("frame", "causes"),
    [
        (b"", [DropCause.SHORT]),
        (bytes(13), [DropCause.SHORT]),
        (encode(HEARTBEAT)[:14], [DropCause.SHORT]),
        (encode(HEARTBEAT)[:15], [DropCause.SHORT]),
        (bytes(14), [DropCause.FOREIGN]),
        (encode(UP)[:12] + b"\x08\x00" + encode(UP)[14:], [DropCause.FOREIGN]),
        (encode(UP)[:14] + b"\x02\x00" + bytes(40), [DropCause.AUTH]),
        (encode(UP)[:14] + b"\x03\x00" + bytes(40), [DropCause.UNKNOWN_TYPE]),
        (encode(UP)[:14] + b"\x00\x02" + bytes(40), [DropCause.UNKNOWN_TYPE]),
        (encode(UP)[:14] + b"\x01\x02" + bytes(40), [DropCause.UNKNOWN_TYPE]),
        (encode(HEARTBEAT)[:-1], [DropCause.TRUNCATED]),
        (encode(REPLY)[:-1], [DropCause.TRUNCATED]),
        (encode(UP)[: 22 + 13], [DropCause.TRUNCATED]),
        (encode(DOWN)[: 28 + 13], [DropCause.TRUNCATED]),
    ],
)
def test_what_cannot_be_read_has_a_cause(frame: bytes, causes: list[DropCause]) -> None:
    assert list(parse(frame)) == causes


@pytest.mark.parametrize(
    ("frame", "offset"),
    [
        (encode(HEARTBEAT), 6),
        (encode(HEARTBEAT), 40),
        (encode(REPLY), 40),
        (encode(REPLY), 46),
        (encode(UP), 6),
        (encode(UP), 16),
        (encode(DOWN), 16),
    ],
)
def test_a_group_address_is_nobodys_own(frame: bytes, offset: int) -> None:
    forged = bytearray(frame)
    forged[offset] |= 1
    assert list(parse(bytes(forged))) == [DropCause.BAD_ADDRESS]


def test_a_downstream_message_may_be_for_a_group() -> None:
    frame = bytearray(encode(DOWN))
    frame[22:28] = b"\xff" * 6
    [message] = parse(bytes(frame))
    assert isinstance(message, DownstreamData)


def test_a_bad_address_does_not_hide_the_next_message() -> None:
    forged = bytearray(encode(REPLY))
    forged[46] |= 1
    assert list(parse(bytes(forged) + encode(HEARTBEAT))) == [DropCause.BAD_ADDRESS, HEARTBEAT]


@pytest.mark.parametrize(
    ("tail", "cause"),
    [
        (bytes(14), DropCause.PADDING),
        (b"\x00" * 13 + b"\x01", DropCause.TRAILING),
        (bytes(15), DropCause.TRAILING),
        (encode(REPLY)[:20], DropCause.TRUNCATED),
        (encode(UP)[:14] + b"\x02\x00", DropCause.AUTH),
    ],
)
def test_what_follows_the_last_message_is_counted(tail: bytes, cause: DropCause) -> None:
    assert list(parse(encode(HEARTBEAT) + tail)) == [HEARTBEAT, cause]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Heartbeat(
            receiver=RSU, transmitter=OBU, duration_ms=1 << 128, hello_id=0, hops=1, rsu=RSU
        ),
        lambda: Heartbeat(
            receiver=RSU, transmitter=OBU, duration_ms=-1, hello_id=0, hops=1, rsu=RSU
        ),
        lambda: Heartbeat(
            receiver=RSU, transmitter=OBU, duration_ms=0, hello_id=1 << 32, hops=1, rsu=RSU
        ),
        lambda: Heartbeat(
            receiver=RSU, transmitter=OBU, duration_ms=0, hello_id=0, hops=1 << 32, rsu=RSU
        ),
        lambda: UpstreamData(receiver=RSU, transmitter=OBU, origin=b"short", inner=INNER),
        lambda: UpstreamData(receiver=RSU, transmitter=OBU + b"x", origin=OBU, inner=INNER),
    ],
)
def test_what_does_not_fit_its_field_is_not_encoded(wrong: Callable[[], Message]) -> None:
    with pytest.raises(ValueError, match=r"fit|6 bytes"):
        encode(wrong())


u32 = st.integers(0, 0xFFFF_FFFF)
any_mac = st.binary(min_size=6, max_size=6)
own_mac = any_mac.map(lambda mac: bytes([mac[0] & 0xFE]) + mac[1:])
inner_frames = st.binary(min_size=14, max_size=200)
heartbeats = st.builds(
    Heartbeat,
    receiver=any_mac,
    transmitter=own_mac,
    duration_ms=st.integers(0, (1 << 128) - 1),
    hello_id=u32,
    hops=u32,
    rsu=own_mac,
)
replies = st.builds(
    HeartbeatReply,
    receiver=any_mac,
    transmitter=own_mac,
    duration_ms=st.integers(0, (1 << 128) - 1),
    hello_id=u32,
    hops=u32,
    rsu=own_mac,
    sender=own_mac,
)
data = st.builds(
    UpstreamData, receiver=any_mac, transmitter=own_mac, origin=own_mac, inner=inner_frames
) | st.builds(
    DownstreamData,
    receiver=any_mac,
    transmitter=own_mac,
    origin=own_mac,
    target=any_mac,
    inner=inner_frames,
)


@given(st.lists(heartbeats | replies, max_size=5), st.none() | data)
def test_messages_come_back_as_they_were(control: list[Message], last: Message | None) -> None:
    messages = [*control, *([] if last is None else [last])]
    if messages:
        assert list(parse(b"".join(map(encode, messages)))) == messages


@given(st.binary(max_size=300))
def test_random_bytes_never_raise_and_always_count(frame: bytes) -> None:
    assert len(list(parse(frame))) >= 1


@given(st.binary(max_size=120), st.lists(heartbeats | replies | data, min_size=1, max_size=4))
def test_broken_frames_never_raise_and_always_count(noise: bytes, parts: list[Message]) -> None:
    frame = b"".join(map(encode, parts))
    for cut in (len(frame) // 3, len(frame) // 2, len(frame) - 1):
        broken = frame[:cut] + noise
        items = list(parse(broken))
        assert items
        # What was read is in the frame as it stands; at most the last item ends it unread.
        read = b"".join(encode(item) for item in items if not isinstance(item, DropCause))
        if not any(item is DropCause.BAD_ADDRESS for item in items):
            assert broken.startswith(read)
            assert all(not isinstance(item, DropCause) for item in items[:-1])
