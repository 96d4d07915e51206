"""Every frame arrives in a mapped receive ring once, in order and unchanged."""

from __future__ import annotations

import os
import select
import socket
import time
from pathlib import Path

import pytest
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
from agent.linux.tpacket import RxRing


def _take(ring: RxRing, limit: int = 32) -> list[bytes]:
    """What is there, at most one batch of it, released."""
    count = ring.ready(limit)
    rows = range(ring.head, ring.head + count)
    frames = [
        bytes(ring.frames[row, ring.start[row] : ring.start[row] + ring.length[row]])
        for row in rows
    ]
    ring.release(count)
    return frames


def _receive(sock: socket.socket, ring: RxRing, count: int, limit: int = 32) -> list[bytes]:
    frames: list[bytes] = []
    deadline = time.monotonic() + 5
    while len(frames) < count and time.monotonic() < deadline:
        got = _take(ring, limit)
        if not got:
            select.select([sock], [], [], 0.05)
        frames += got
    assert _take(ring) == []
    return frames


def test_the_probe_says_yes_here_and_leaves_nothing(root: None) -> None:
    before = set(os.listdir("/proc/self/fd"))
    assert tpacket.probe() == (True, "")
    assert set(os.listdir("/proc/self/fd")) == before


def test_frames_of_all_sizes_arrive_once_in_order_unchanged(veth: None) -> None:
    with listen(WIRE) as sock, speak(WIRE_PEER) as far:
        ring = RxRing(sock, slots=256)
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
def test_frames_of_one_size_too(veth: None, size: int) -> None:
    with listen(WIRE) as sock, speak(WIRE_PEER) as far:
        ring = RxRing(sock, slots=256)
        sent = frames_of(120, (size,))
        for frame in sent:
            far.send(frame)
        assert _receive(sock, ring, 120) == sent
        ring.close()


def test_only_what_the_filter_takes_arrives(veth: None) -> None:
    wanted = frames_of(10)
    foreign = b"\x02\xaa\xaa\xaa\xaa\xaa" + wanted[0][6:]
    other = wanted[0][:12] + b"\x08\x06" + wanted[0][14:]
    with (
        packet.open_packet_socket(WIRE, filter=bpf.own_or_group_filter()) as sock,
        speak(WIRE_PEER) as far,
    ):
        ring = RxRing(sock, slots=256)
        for frame in wanted:
            far.send(foreign)
            far.send(frame)
            far.send(other)
        assert _receive(sock, ring, 10) == wanted
        ring.close()


def test_a_full_ring_drops_counts_what_it_dropped_and_goes_on(veth: None) -> None:
    with listen(WIRE) as sock, speak(WIRE_PEER) as far:
        ring = RxRing(sock, slots=8)
        sent = frames_of(200, (200,))
        for frame in sent:
            far.send(frame)
        received = _receive(sock, ring, 8)
        packets, drops = packet.packet_statistics(sock)
        assert packets == 200
        assert drops == 192
        assert received == sent[:8]
        for frame in sent[:5]:
            far.send(frame)
        assert _receive(sock, ring, 5) == sent[:5]
        ring.close()


def test_it_goes_on_after_the_link_was_down(veth: None) -> None:
    with listen(WIRE) as sock:
        ring = RxRing(sock, slots=256)
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


def test_poll_says_when_there_is_something(veth: None) -> None:
    with listen(WIRE) as sock, speak(WIRE_PEER) as far:
        ring = RxRing(sock, slots=256)
        assert select.select([sock], [], [], 0)[0] == []
        far.send(frames_of(1)[0])
        assert select.select([sock], [], [], 5)[0] == [sock]
        assert len(_take(ring)) == 1
        assert select.select([sock], [], [], 0)[0] == []
        ring.close()


def test_after_closing_the_socket_receives_by_itself_again(veth: None) -> None:
    with listen(WIRE) as sock, speak(WIRE_PEER) as far:
        ring = RxRing(sock, slots=256)
        view = ring.frames
        far.send(frames_of(1)[0])
        assert len(_receive(sock, ring, 1)) == 1
        ring.close()
        ring.close()
        assert not view.any()
        assert "socket:" not in Path("/proc/self/maps").read_text()
        for frame in frames_of(3):
            far.send(frame)
        assert hear(sock, 3) == frames_of(3)


def test_a_ring_can_outlive_its_socket(veth: None) -> None:
    sock = listen(WIRE)
    ring = RxRing(sock, slots=256)
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
