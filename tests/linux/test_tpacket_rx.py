"""Every frame arrives in a mapped receive ring once, in order and unchanged."""

from __future__ import annotations

import os
import select
import socket
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from linux_rig import (
    MTU_FRAME,
    SIZES,
    WIRE,
    WIRE_PEER,
    carries,
    frames_of,
    hear,
    ip,
    listen,
    speak,
)

from agent.linux import bpf, packet, tpacket
from agent.linux.tpacket import BlockRing, RxRing
from agent.linux.tpacket_blocks import walk

Ring = RxRing | BlockRing


def _take(ring: Ring, limit: int = 32) -> list[bytes]:
    """What is there, at most one batch of it, released."""
    if isinstance(ring, RxRing):
        count = ring.ready(limit)
        rows = range(ring.head, ring.head + count)
        frames = [
            bytes(ring.frames[row, ring.start[row] : ring.start[row] + ring.length[row]])
            for row in rows
        ]
        ring.release(count)
        return frames
    block = ring.next()
    if block is None:
        return []
    pairs = zip(block.start.tolist(), block.length.tolist(), strict=True)
    frames = [bytes(ring.memory[start : start + length]) for start, length in pairs]
    ring.release()
    return frames


def _receive(sock: socket.socket, ring: Ring, count: int, limit: int = 32) -> list[bytes]:
    frames: list[bytes] = []
    deadline = time.monotonic() + 5
    while len(frames) < count and time.monotonic() < deadline:
        got = _take(ring, limit)
        if not got:
            select.select([sock], [], [], 0.05)
        frames += got
    assert _take(ring) == []
    return frames


@pytest.fixture(params=["slots", "blocks"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _open(kind: str, sock: socket.socket, *, small: bool = False) -> Ring:
    if kind == "slots":
        return RxRing(sock, slots=8 if small else 256)
    return BlockRing(sock, blocks=2 if small else 32, block_bytes=8192, block_timeout_ms=1)


def test_the_probe_says_yes_here_and_leaves_nothing(root: None) -> None:
    before = set(os.listdir("/proc/self/fd"))
    assert tpacket.probe() == (True, "")
    assert set(os.listdir("/proc/self/fd")) == before


def test_frames_of_all_sizes_arrive_once_in_order_unchanged(kind: str, veth: None) -> None:
    with listen(WIRE) as sock, speak(WIRE_PEER) as far:
        ring = _open(kind, sock)
        sent = frames_of(1000, SIZES)
        received: list[bytes] = []
        for first in range(0, len(sent), 100):
            for frame in sent[first : first + 100]:
                far.send(frame)
            received += _receive(sock, ring, 100)
        assert received == sent
        assert packet.packet_statistics(sock) == (1000, 0)
        ring.close()


@pytest.mark.parametrize("size", [14, 64, 256, 1000, MTU_FRAME])
def test_frames_of_one_size_too(kind: str, veth: None, size: int) -> None:
    with listen(WIRE) as sock, speak(WIRE_PEER) as far:
        ring = _open(kind, sock)
        sent = frames_of(120, (size,))
        for frame in sent:
            far.send(frame)
        assert _receive(sock, ring, 120) == sent
        ring.close()


def test_only_what_the_filter_takes_arrives(kind: str, veth: None) -> None:
    wanted = frames_of(10)
    foreign = b"\x02\xaa\xaa\xaa\xaa\xaa" + wanted[0][6:]
    other = wanted[0][:12] + b"\x08\x06" + wanted[0][14:]
    with (
        packet.open_packet_socket(WIRE, filter=bpf.own_or_group_filter()) as sock,
        speak(WIRE_PEER) as far,
    ):
        ring = _open(kind, sock)
        for frame in wanted:
            far.send(foreign)
            far.send(frame)
            far.send(other)
        assert _receive(sock, ring, 10) == wanted
        ring.close()


def test_a_full_ring_drops_counts_what_it_dropped_and_goes_on(kind: str, veth: None) -> None:
    with listen(WIRE) as sock, speak(WIRE_PEER) as far:
        ring = _open(kind, sock, small=True)
        sent = frames_of(200, (200,))
        for frame in sent:
            far.send(frame)
        received = _receive(sock, ring, 200 if kind == "blocks" else 8)[:200]
        packets, drops = packet.packet_statistics(sock)
        assert packets == 200
        assert 0 < drops < 200
        assert received == sent[: 200 - drops]
        for frame in sent[:5]:
            far.send(frame)
        assert _receive(sock, ring, 5) == sent[:5]
        ring.close()


def test_it_goes_on_after_the_link_was_down(kind: str, veth: None) -> None:
    with listen(WIRE) as sock:
        ring = _open(kind, sock)
        sent = frames_of(20)
        with speak(WIRE_PEER) as far:
            for frame in sent[:10]:
                far.send(frame)
        assert _receive(sock, ring, 10) == sent[:10]
        ip("link", "set", "dev", WIRE, "down")
        ip("link", "set", "dev", WIRE, "up")
        carries(WIRE, WIRE_PEER)
        with speak(WIRE_PEER) as far:
            for frame in sent[10:]:
                far.send(frame)
        assert _receive(sock, ring, 10) == sent[10:]
        ring.close()


def test_poll_says_when_there_is_something(kind: str, veth: None) -> None:
    with listen(WIRE) as sock, speak(WIRE_PEER) as far:
        ring = _open(kind, sock)
        assert select.select([sock], [], [], 0)[0] == []
        far.send(frames_of(1)[0])
        assert select.select([sock], [], [], 5)[0] == [sock]
        assert len(_take(ring)) == 1
        if kind == "slots":
            assert select.select([sock], [], [], 0)[0] == []
        ring.close()


def test_after_closing_the_socket_receives_by_itself_again(kind: str, veth: None) -> None:
    with listen(WIRE) as sock, speak(WIRE_PEER) as far:
        ring = _open(kind, sock)
        view = ring.frames if isinstance(ring, RxRing) else ring.memory
        far.send(frames_of(1)[0])
        assert len(_receive(sock, ring, 1)) == 1
        ring.close()
        ring.close()
        assert not view.any()
        assert "socket:" not in Path("/proc/self/maps").read_text()
        for frame in frames_of(3):
            far.send(frame)
        assert hear(sock, 3) == frames_of(3)


def test_a_ring_can_outlive_its_socket(kind: str, veth: None) -> None:
    sock = listen(WIRE)
    ring = _open(kind, sock)
    sock.close()
    assert _take(ring) == []
    ring.close()


@pytest.mark.parametrize(
    "arguments", [{"slots": 3}, {"slots": 0}, {"slot_bytes": 128}, {"slot_bytes": 3000}]
)
def test_sizes_that_are_no_powers_of_two_are_refused(root: None, arguments: dict[str, int]) -> None:
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock,
        pytest.raises(ValueError, match="powers of two"),
    ):
        RxRing(sock, **arguments)


# -- slots alone --------------------------------------------------------------------------------


def test_a_batch_is_rows_columns_and_room_in_front(veth: None) -> None:
    with listen(WIRE) as sock, speak(WIRE_PEER) as far:
        ring = RxRing(sock, slots=64, headroom_bytes=96)
        for frame in frames_of(10, (100,)):
            far.send(frame)
        assert ring.ready(4) == 4
        assert ring.ready(32) == 10
        rows = slice(ring.head, ring.head + 10)
        assert (ring.start[rows] == ring.frame_start).all()
        assert (ring.length[rows] == 100).all()
        assert (ring.wire_length[rows] == 100).all()
        # The room in front is the caller's; the ring goes on after it was written.
        ring.frames[rows, ring.frame_start - 96 : ring.frame_start] = 0xEE
        ring.release(10)
        for frame in frames_of(10, (100,)):
            far.send(frame)
        assert _receive(sock, ring, 10) == frames_of(10, (100,))
        ring.close()


def test_frames_longer_than_a_slot_are_cut_off_and_say_so(veth: None) -> None:
    with listen(WIRE) as sock, speak(WIRE_PEER) as far:
        ring = RxRing(sock, slots=16, slot_bytes=512)
        sent = frames_of(2, (1000, 100))
        for frame in sent:
            far.send(frame)
        assert ring.ready(8) == 2
        assert ring.wire_length[:2].tolist() == [1000, 100]
        assert ring.length[:2].tolist() == [512 - ring.frame_start, 100]
        first = ring.frames[0, ring.frame_start :]
        assert bytes(first) == sent[0][: len(first)]
        ring.release(2)
        ring.close()


def test_rows_held_back_are_not_overwritten(veth: None) -> None:
    with listen(WIRE) as sock, speak(WIRE_PEER) as far:
        ring = RxRing(sock, slots=8)
        sent = frames_of(40, (300,))
        for frame in sent[:6]:
            far.send(frame)
        assert ring.ready(8) == 6
        held = [bytes(ring.frames[row, ring.frame_start :][:300]) for row in range(6)]
        for frame in sent[6:]:
            far.send(frame)
        assert [bytes(ring.frames[row, ring.frame_start :][:300]) for row in range(6)] == held
        assert held == sent[:6]
        assert packet.packet_statistics(sock)[1] == 32
        ring.close()


# -- blocks alone -------------------------------------------------------------------------------


def test_a_lonely_frame_waits_for_the_block_timer_and_no_longer(veth: None) -> None:
    with listen(WIRE) as sock, speak(WIRE_PEER) as far:
        ring = BlockRing(sock, block_timeout_ms=50)
        waits = []
        for frame in frames_of(5):
            began = time.monotonic()
            far.send(frame)
            while (block := ring.next()) is None:
                select.select([sock], [], [], 1)
            waits.append(time.monotonic() - began)
            assert block.timed_out
            assert len(block.start) == 1
            ring.release()
        assert max(waits) < 1
        assert max(waits) > 0.01
        ring.close()


def test_a_full_block_comes_before_its_timer(veth: None) -> None:
    with listen(WIRE) as sock, speak(WIRE_PEER) as far:
        ring = BlockRing(sock, block_bytes=4096, block_timeout_ms=10_000)
        for frame in frames_of(12, (1000,)):
            far.send(frame)
        block = ring.next()
        assert block is not None
        assert not block.timed_out
        assert len(block.start) == 3
        ring.close()


def test_no_timeout_is_refused(root: None) -> None:
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock,
        pytest.raises(ValueError, match="block_timeout_ms"),
    ):
        BlockRing(sock, block_timeout_ms=0)


@given(
    st.lists(st.integers(2, 20), min_size=1, max_size=60)
    | st.builds(lambda step, many: [step] * many, st.integers(2, 20), st.integers(1, 100)),
    st.integers(3, 8),
    st.integers(0, 1000),
)
def test_a_block_is_walked_as_its_headers_say(steps: list[int], first: int, seed: int) -> None:
    """Frames at any distances (multiples of 16 bytes), the last one saying 0, garbage between."""
    view = np.random.default_rng(seed).integers(0, 1 << 32, 1 << 14, np.uint32)
    positions = (16 * (first + np.concatenate(([0], np.cumsum(steps[:-1], dtype=int))))).tolist()
    for position, step in zip(positions, steps, strict=True):
        view[position // 4] = step * 16
    view[positions[-1] // 4] = 0
    assert walk(view.data, view, first * 16, len(positions)).tolist() == positions
