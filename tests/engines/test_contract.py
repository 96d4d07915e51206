"""What every engine promises, on real veth and TAP devices."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Callable
from itertools import islice

import numpy as np
import pytest
from engine_rig import GROUP, MTU, OTHER, Rig, frame_of

from agent.batch import HEADROOM, FrameBatch
from agent.engines.base import Engine, SendResult, Side

SIZES = range(14, MTU + 15)
BATCHES = [1, 2, 8, 32, 256]


def _filled(frames: list[bytes]) -> FrameBatch:
    batch = FrameBatch(len(frames), MTU + 19)
    batch.extend(frames)
    return batch


def _chunks(frames: list[bytes], size: int) -> list[list[bytes]]:
    source = iter(frames)
    return list(iter(lambda: list(islice(source, size)), []))


def test_nothing_there_is_zero_and_returns_at_once(rig: Rig) -> None:
    engine = rig.open()
    batch = engine.new_batch()
    assert engine.recv_batch(batch) == 0
    assert batch.count == 0
    assert not select.select([engine.fileno()], [], [], 0)[0]


def test_its_descriptor_is_readable_when_a_frame_is_there(rig: Rig) -> None:
    engine = rig.open()
    rig.offer(frame_of(1))
    assert select.select([engine.fileno()], [], [], 2)[0]
    assert rig.received(engine, 1) == [frame_of(1)]


@pytest.mark.parametrize("batch_size", BATCHES)
def test_received_frames_keep_order_and_content(rig: Rig, batch_size: int) -> None:
    engine = rig.open(batch_size)
    frames = [frame_of(n, 14 + n % 400) for n in range(300)]
    rig.offer(*frames)
    assert rig.received(engine, len(frames)) == frames


@pytest.mark.parametrize("batch_size", BATCHES)
@pytest.mark.parametrize("as_batch", [True, False], ids=["rows", "frames"])
def test_sent_frames_keep_order_and_content(rig: Rig, batch_size: int, as_batch: bool) -> None:
    engine = rig.open(batch_size)
    frames = [frame_of(n, 14 + n % 400) for n in range(300)]
    for chunk in _chunks(frames, batch_size):
        result = engine.send_batch(_filled(chunk) if as_batch else chunk)
        assert result == SendResult(len(chunk))
    assert rig.taken() == frames


def test_more_frames_than_one_batch_takes_go_in_one_call(rig: Rig) -> None:
    engine = rig.open(8)
    frames = [frame_of(n) for n in range(50)]
    assert engine.send_batch(frames) == SendResult(50)
    assert engine.send_batch(_filled(frames)) == SendResult(50)
    assert rig.taken() == frames * 2


def test_every_size_from_a_bare_header_to_the_mtu(rig: Rig) -> None:
    engine = rig.open()
    frames = [frame_of(size, size) for size in SIZES]
    for chunk in _chunks(frames, 64):
        assert engine.send_batch(chunk) == SendResult(len(chunk))
        assert rig.taken() == chunk
        rig.offer(*chunk)
        assert rig.received(engine, len(chunk)) == chunk


def test_a_frame_above_the_limit_arrives_one_byte_above_it(rig: Rig) -> None:
    engine = rig.open(frame_limit=600)
    rig.offer(frame_of(1), frame_of(2, 600), frame_of(3, 601), frame_of(4, 900), frame_of(5))
    sizes = [len(frame) for frame in rig.received(engine, 5)]
    assert sizes == [64, 600, 601, 601, 64]


def test_one_frame_at_a_time(rig: Rig) -> None:
    engine = rig.open()
    rig.offer(frame_of(1), frame_of(2))
    assert engine.recv_one(2048) == frame_of(1)
    assert engine.recv_one(20) == frame_of(2)[:20]
    try:
        nothing = engine.recv_one(2048)
    except BlockingIOError:
        nothing = None
    assert nothing is None
    assert engine.send_one(frame_of(3)) == 64
    assert rig.taken() == [frame_of(3)]


def test_rows_go_out_from_where_they_were_received_with_a_header_pushed_in_front(rig: Rig) -> None:
    engine = rig.open()
    frames = [frame_of(n, 100 + n) for n in range(20)]
    rig.offer(*frames)
    batch = engine.new_batch()
    assert engine.recv_batch(batch) == 20
    header = GROUP + OTHER + b"\x30\x30" + b"\x01\x00" + b"origin"
    batch.data[:20, HEADROOM - 22 : HEADROOM] = np.frombuffer(header, np.uint8)
    batch.move(slice(0, 20), -22)
    assert engine.send_rows(batch) == SendResult(20)
    assert rig.taken() == [header + frame for frame in frames]


def test_batches_of_one_length_and_of_several_follow_each_other(rig: Rig) -> None:
    engine = rig.open(8)
    batch = engine.new_batch()
    alike, mixed = [100] * 8, [60, 61, 100, 100, 100, 100, 1000, 60]
    for sizes in (alike, alike[:5], mixed, alike, alike[:7], [200] * 8, mixed, alike):
        frames = [frame_of(n, size) for n, size in enumerate(sizes)]
        rig.offer(*frames)
        while frames:
            assert select.select([engine.fileno()], [], [], 2)[0]
            count = engine.recv_batch(batch)
            assert batch.total_bytes == sum(map(len, frames[:count]))
            assert engine.send_rows(batch) == SendResult(count)
            engine.release()
            assert rig.taken() == frames[:count]
            del frames[:count]


def test_chosen_rows_go_out_in_the_order_given(rig: Rig) -> None:
    engine = rig.open()
    frames = [frame_of(n, 100 + n) for n in range(20)]
    batch = _filled(frames)
    assert engine.send_rows(batch, np.array([7, 3, 3, 19])) == SendResult(4)
    assert engine.send_rows(batch, slice(4, 6)) == SendResult(2)
    assert engine.send_rows(batch, slice(0, 0)) == SendResult(0)
    assert rig.taken() == [frames[n] for n in (7, 3, 3, 19, 4, 5)]


@pytest.mark.parametrize("as_batch", [True, False], ids=["rows", "frames"])
def test_a_frame_that_cannot_go_does_not_stop_the_others(rig: Rig, as_batch: bool) -> None:
    engine = rig.open()
    frames = [frame_of(n) for n in range(20)]
    # Too long for the wire, too short for a TAP: the kernel takes neither.
    bad = frame_of(0, MTU + 19) if rig.side is Side.WIRE else b"short"
    for place in (0, 7, 8, 20):
        frames.insert(place, bad)
    result = engine.send_batch(_filled(frames) if as_batch else frames)
    assert result == SendResult(20, 4)
    assert rig.taken() == [frame for frame in frames if frame != bad]
    cause = "send_too_long" if rig.side is Side.WIRE else "send_einval"
    counters = engine.read_counters()
    assert counters.drops == {cause: 4}
    assert counters.tx_frames == 20
    assert counters.tx_bytes == 20 * 64


def test_a_frame_far_too_long_is_dropped_and_counted(make_rig: Callable[..., Rig]) -> None:
    for name in ("per-packet", "aggregate", "mmsg", "uring", "ring", "xsk", "xsk-tx"):
        rig = make_rig(name, Side.WIRE)
        engine = rig.open()
        result = engine.send_batch([frame_of(1), frame_of(2, 9000), frame_of(3)])
        assert result == SendResult(2, 1)
        assert rig.taken() == [frame_of(1), frame_of(3)]
        assert engine.read_counters().drops == {"send_too_long": 1}
        subprocess.run(["ip", "link", "del", "dev", "tbt-w"], check=True)


@pytest.mark.parametrize("as_batch", [True, False], ids=["rows", "frames"])
def test_a_link_that_is_down_fails_its_next_hops_and_works_again_when_up(
    rig: Rig, as_batch: bool
) -> None:
    engine = rig.open()
    other = b"\x02\x00\x00\x00\x00\x55"
    frames = [frame_of(1), frame_of(2, to=OTHER), frame_of(3, to=OTHER), frame_of(4, to=other)]
    rig.link("down")
    result = engine.send_batch(_filled(frames) if as_batch else frames)
    if rig.side is Side.WIRE:
        assert result == SendResult(0, 4, (GROUP, OTHER, other))
        assert engine.read_counters().drops == {"send_unreachable": 4}
    else:
        assert result == SendResult(0, 4)
        assert engine.read_counters().drops == {"send_eio": 4}
    rig.link("up")
    # The socket tells once that the link was down.
    _until_quiet(rig, engine)
    rig.taken()
    assert engine.send_batch(_filled(frames) if as_batch else frames) == SendResult(4)
    assert rig.taken() == frames
    heard = [frame_of(number) for number in range(4)]
    rig.offer(*heard)
    assert rig.received(engine, len(heard)) == heard


def _until_quiet(rig: Rig, engine: Engine) -> None:
    for _ in range(5):
        try:
            rig.received(engine, 0)
        except OSError:
            continue
        return
    pytest.fail("the engine does not stop reporting errors")


def test_one_frame_on_a_link_that_is_down(rig: Rig) -> None:
    engine = rig.open()
    rig.link("down")
    with pytest.raises(OSError, match=r".") as caught:
        engine.send_one(frame_of(1, to=OTHER))
    result = engine.settle(frame_of(1, to=OTHER), caught.value)
    assert result == SendResult(0, 1, (OTHER,) if rig.side is Side.WIRE else ())


@pytest.mark.parametrize("as_batch", [True, False], ids=["rows", "frames"])
def test_a_full_queue_loses_nothing_silently_and_sends_nothing_twice(
    make_rig: Callable[..., Rig], as_batch: bool
) -> None:
    for name in ("per-packet", "aggregate", "mmsg", "uring", "ring", "xsk"):
        rig = make_rig(name, Side.WIRE)
        # 200 kbit/s with room for about 20 frames of 1000 bytes.
        tbf = [
            "qdisc",
            "add",
            "dev",
            "tbt-w",
            "root",
            "tbf",
            "rate",
            "200kbit",
            "burst",
            "2000",
            "limit",
            "20000",
        ]
        subprocess.run(["tc", *tbf], check=True, capture_output=True)
        engine = rig.open()
        frames = [frame_of(n, 1000) for n in range(64)]
        result = engine.send_batch(_filled(frames) if as_batch else frames)
        assert result.sent + result.dropped == 64
        assert result.dropped > 20
        counters = engine.read_counters()
        assert counters.drops == {"send_queue_full": result.dropped}
        assert counters.tx_frames == result.sent
        subprocess.run(["tc", "qdisc", "del", "dev", "tbt-w", "root"], check=True)
        # What the queue still held went with it; what has come is in order, and once.
        arrived = [frames.index(frame) for frame in rig.taken()]
        assert arrived == sorted(set(arrived))
        assert 0 < len(arrived) <= result.sent
        subprocess.run(["ip", "link", "del", "dev", "tbt-w"], check=True)


def test_it_counts_frames_bytes_fill_and_its_own_calls(rig: Rig) -> None:
    engine = rig.open(8)
    frames = [frame_of(n, 100) for n in range(20)]
    rig.offer(*frames)
    assert rig.received(engine, len(frames)) == frames
    engine.send_batch(frames)
    counters = engine.read_counters()
    assert (counters.rx_frames, counters.rx_bytes) == (20, 2000)
    assert (counters.tx_frames, counters.tx_bytes) == (20, 2000)
    assert {n: times for n, times in enumerate(counters.fill) if n and times} == {8: 2, 4: 1}
    if engine.name in ("aggregate", "mmsg", "xsk-tx"):
        assert counters.syscalls == {"recvmmsg": 4, "sendmmsg": 3}
    if engine.name == "uring":
        # The first look is by plain calls; each of the rest of the batch, and of the last, is one.
        assert counters.syscalls["io_uring_enter"] == 5
        assert counters.syscalls[engine.recv_call] <= 8
    if engine.name in ("ring", "xsk"):
        assert counters.syscalls == {"getsockopt": 1, "sendmmsg": 3}
    if engine.name == "per-packet":
        # The last batch, and the one after it, each end with a call that finds nothing.
        assert counters.syscalls == {engine.recv_call: 22, engine.send_call: 20}
    assert engine.read_counters() == counters


def test_closing_leaves_the_descriptor_to_its_owner(rig: Rig) -> None:
    engine = rig.open()
    engine.close()
    os.fstat(rig.port.fd)
    again = rig.open()
    rig.offer(frame_of(1))
    assert rig.received(again, 1) == [frame_of(1)]
