"""What one writev for a whole batch does: one frame, of which one packet arrives."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from engine_rig import GROUP, MTU, OTHER, Rig, frame_of
from writev_contract import BROKEN_BY_WRITEV

from agent.batch import FrameBatch
from agent.engines.base import SendResult, Side
from agent.engines.registry import AUTO, ENGINES, PREFERENCE, probe, select
from agent.protocol.codec import encode, parse
from agent.protocol.messages import Heartbeat, HeartbeatReply, UpstreamData

MakeRig = Callable[[str, Side], Rig]
SIDES = pytest.mark.parametrize("side", list(Side))
RSU = b"\x02\x00\x00\x00\x00\x01"
HERE = b"\x02\x00\x00\x00\x00\x02"

BEAT = Heartbeat(receiver=GROUP, transmitter=HERE, duration_ms=1, hello_id=7, hops=2, rsu=RSU)
REPLY = HeartbeatReply(
    receiver=RSU, transmitter=HERE, duration_ms=1, hello_id=7, hops=1, rsu=RSU, sender=HERE
)
DATA = UpstreamData(receiver=RSU, transmitter=HERE, origin=HERE, inner=frame_of(1))


def filled(frames: list[bytes]) -> FrameBatch:
    batch = FrameBatch(len(frames), MTU + 19)
    batch.extend(frames)
    return batch


@SIDES
@pytest.mark.parametrize("as_batch", [True, False], ids=["rows", "frames"])
def test_several_frames_leave_as_one_and_the_first_arrives_with_the_others_as_its_tail(
    make_rig: MakeRig, side: Side, as_batch: bool
) -> None:
    rig = make_rig("writev", side)
    engine = rig.open(8)
    frames = [frame_of(n, 100) for n in range(8)]
    result = engine.send_batch(filled(frames) if as_batch else frames)
    assert rig.taken() == [b"".join(frames)]
    assert result == SendResult(1, 7)
    counters = engine.read_counters()
    assert (counters.tx_frames, counters.tx_bytes) == (1, 800)
    assert counters.syscalls == {"writev": 1}
    assert counters.carried == {8: 1}
    assert counters.drops == {"swallowed": 7}


@SIDES
def test_one_frame_at_a_time_arrives_as_it_is(make_rig: MakeRig, side: Side) -> None:
    rig = make_rig("writev", side)
    engine = rig.open()
    frames = [frame_of(n, 14 + n) for n in range(20)]
    for frame in frames:
        assert engine.send_batch([frame]) == SendResult(1)
    assert engine.send_batch([]) == SendResult(0)
    assert rig.taken() == frames
    counters = engine.read_counters()
    assert counters.syscalls == {"writev": 20}
    assert not counters.carried
    assert not counters.drops


def test_past_the_mtu_the_whole_batch_is_lost_on_the_wire(make_rig: MakeRig) -> None:
    rig = make_rig("writev", Side.WIRE)
    engine = rig.open()
    fits = [frame_of(n, 300) for n in range(5)]
    assert engine.send_batch(fits) == SendResult(1, 4)
    assert engine.send_batch([*fits, frame_of(5, 300)]) == SendResult(0, 6)
    assert rig.taken() == [b"".join(fits)]
    counters = engine.read_counters()
    assert counters.drops == {"swallowed": 4, "batch_too_long": 6}
    assert counters.tx_frames == 1


def test_one_frame_that_is_too_long_by_itself_says_so(make_rig: MakeRig) -> None:
    engine = make_rig("writev", Side.WIRE).open()
    assert engine.send_batch([frame_of(1, MTU + 19)]) == SendResult(0, 1)
    assert engine.read_counters().drops == {"send_too_long": 1}


def test_a_tap_takes_far_more_than_its_mtu_as_one_frame(make_rig: MakeRig) -> None:
    rig = make_rig("writev", Side.TAP)
    engine = rig.open(32)
    frames = [frame_of(n, 1400) for n in range(32)]
    assert engine.send_batch(frames) == SendResult(1, 31)
    assert rig.taken() == [b"".join(frames)]


def test_control_messages_can_be_read_and_data_ends_what_can(make_rig: MakeRig) -> None:
    rig = make_rig("writev", Side.WIRE)
    engine = rig.open()
    control, data = [encode(BEAT), encode(REPLY)], encode(DATA)
    assert engine.send_batch(control) == SendResult(2)
    assert engine.send_batch([*control, data]) == SendResult(3)
    assert engine.send_batch([data, *control]) == SendResult(1, 2)
    first, second, third = rig.taken()
    assert list(parse(first)) == [BEAT, REPLY]
    assert list(parse(second)) == [BEAT, REPLY, DATA]
    (alone,) = parse(third)
    assert isinstance(alone, UpstreamData)
    assert alone.inner == DATA.inner + b"".join(control)
    assert engine.read_counters().drops == {"swallowed": 2}


@SIDES
def test_a_link_that_is_down_loses_all_and_names_each_next_hop(
    make_rig: MakeRig, side: Side
) -> None:
    rig = make_rig("writev", side)
    engine = rig.open()
    frames = [frame_of(1), frame_of(2, to=OTHER), frame_of(3)]
    rig.link("down")
    result = engine.send_batch(frames)
    wire = side is Side.WIRE
    assert result == SendResult(0, 3, (GROUP, OTHER) if wire else ())
    counters = engine.read_counters()
    assert counters.drops == {"send_unreachable" if wire else "send_eio": 3}
    assert counters.tx_frames == 0


def test_one_frame_that_the_wire_refuses_takes_the_others_with_it(make_rig: MakeRig) -> None:
    rig = make_rig("writev", Side.WIRE)
    engine = rig.open()
    assert engine.send_batch([frame_of(1), frame_of(2, MTU + 19)]) == SendResult(0, 2)
    assert rig.taken() == []
    assert engine.read_counters().drops == {"batch_too_long": 2}


def test_one_frame_that_a_tap_refuses_is_a_tail_where_it_is_not_the_first(
    make_rig: MakeRig,
) -> None:
    rig = make_rig("writev", Side.TAP)
    engine = rig.open()
    assert engine.send_batch([b"short"]) == SendResult(0, 1)
    assert engine.send_batch([frame_of(1), b"short"]) == SendResult(1, 1)
    assert rig.taken() == [frame_of(1) + b"short"]
    assert engine.read_counters().drops == {"send_einval": 1, "swallowed": 1}


def test_a_full_queue_is_waited_for_and_then_loses_the_whole_batch(make_rig: MakeRig) -> None:
    rig = make_rig("writev", Side.WIRE)
    shaper = "qdisc add dev tbt-w root tbf rate 200kbit burst 2000 limit 4000"
    subprocess.run(["tc", *shaper.split()], check=True, capture_output=True)
    engine = rig.open()
    frames = [frame_of(n, 400) for n in range(3)]
    results = [engine.send_batch(frames) for _ in range(12)]
    assert set(results) == {SendResult(1, 2), SendResult(0, 3)}
    went = results.count(SendResult(1, 2))
    counters = engine.read_counters()
    assert counters.tx_frames == went
    assert counters.drops == {"swallowed": 2 * went, "send_queue_full": 3 * (12 - went)}
    assert counters.syscalls["writev"] > 12


@SIDES
def test_it_is_there_by_name_alone(side: Side) -> None:
    found = probe("writev", side)
    assert found.available
    assert found.note is not None
    assert "never chosen by auto" in found.note
    assert "writev" not in PREFERENCE[side]
    assert select(side, AUTO).used != "writev"
    assert select(side, "writev").used == "writev"
    assert ENGINES["writev"].batches


def test_what_it_breaks_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "engines.md").read_text()
    points = [name.removeprefix("test_").replace("_", " ") for name in BROKEN_BY_WRITEV]
    assert [point for point in points if point not in text] == []
