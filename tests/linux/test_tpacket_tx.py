"""Every frame written into a mapped transmit ring goes out once, in order and unchanged."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from linux_rig import (
    MTU_FRAME,
    SIZES,
    WIRE,
    WIRE_PEER,
    carries,
    frame_of,
    frames_of,
    hear,
    ip,
    lengths_of,
    listen,
    speak,
    until,
)

from agent.linux import packet
from agent.linux.tpacket import TxRing


@pytest.fixture
def far(veth: None) -> Iterator[socket.socket]:
    with listen(WIRE_PEER) as sock:
        yield sock


@pytest.fixture
def ring(far: socket.socket) -> Iterator[TxRing]:
    with speak(WIRE) as sock:
        made = TxRing(sock, frame_limit=MTU_FRAME, slots=64)
        yield made
        made.close()


def _write(ring: TxRing, frames: Sequence[bytes]) -> int:
    """Commit as many of the frames as there is room for; how many."""
    done = 0
    while done < len(frames) and (count := ring.room(len(frames) - done)):
        part = frames[done : done + count]
        for row, frame in enumerate(part, ring.tail):
            start = ring.frame_start
            ring.frames[row, start : start + len(frame)] = np.frombuffer(frame, np.uint8)
        ring.commit(lengths_of(part), count)
        done += count
    return done


def test_frames_of_all_sizes_go_once_in_order_unchanged(ring: TxRing, far: socket.socket) -> None:
    sent = frames_of(1000, SIZES)
    done = 0
    while done < len(sent):
        count = _write(ring, sent[done : done + 40])
        assert ring.unsent == count
        assert ring.kick() == count
        assert ring.unsent == 0
        done += count
        if done % 200 == 0:
            assert hear(far, 200) == sent[done - 200 : done]


def test_one_call_sends_a_batch(ring: TxRing, far: socket.socket) -> None:
    sent = frames_of(50, (MTU_FRAME,))
    assert _write(ring, sent) == 50
    ring._socket.send(b"", socket.MSG_DONTWAIT)
    assert hear(far, 50) == sent


def test_frames_still_queued_at_the_far_end_keep_their_bytes(
    ring: TxRing, far: socket.socket
) -> None:
    """A slot that is free again may be written while the frame sent from it waits somewhere."""
    sent = frames_of(300, (1000,))
    done = 0
    while done < 300:
        done += _write(ring, sent[done:])
        ring.kick()
        ring.frames[:, ring.frame_start : ring.frame_start + 1000] = 0xEE
    assert hear(far, 300) == sent


def test_the_ring_takes_no_more_than_it_has_room_for(ring: TxRing, far: socket.socket) -> None:
    sent = frames_of(100)
    assert _write(ring, sent) == 63
    assert ring.room(10) == 0
    assert ring.kick() == 63
    assert ring.room(100) == 1  # the last row; then it goes on at the first
    assert _write(ring, sent[63:]) == 37
    assert ring.kick() == 37
    assert hear(far, 100) == sent


@pytest.mark.parametrize("length", [0, 13, MTU_FRAME + 1, 2000])
def test_impossible_lengths_are_refused(ring: TxRing, far: socket.socket, length: int) -> None:
    with pytest.raises(ValueError, match="14 to 1514"):
        ring.commit(np.array([64, length]), 2)
    assert ring.unsent == 0
    assert ring.kick() == 0
    assert _write(ring, frames_of(2)) == 2
    assert ring.kick() == 2
    assert hear(far, 2) == frames_of(2)


def test_a_frame_limit_past_the_slot_is_refused(veth: None) -> None:
    with speak(WIRE) as sock, pytest.raises(ValueError, match="does not fit"):
        TxRing(sock, frame_limit=2000)


@pytest.mark.parametrize("then", ["kick", "withdraw"])
def test_while_the_link_is_down_frames_stay_committed(
    ring: TxRing, far: socket.socket, then: str
) -> None:
    before, after = frames_of(5), [frame_of(100 + n, 80) for n in range(5)]
    ip("link", "set", "dev", WIRE, "down")
    assert _write(ring, before) == 5
    with pytest.raises(OSError, match="down") as raised:
        ring.kick()
    assert raised.value.errno == errno.ENETDOWN
    assert ring.unsent == 5
    if then == "withdraw":
        assert ring.withdraw() == 5
        assert ring.unsent == 0
    ip("link", "set", "dev", WIRE, "up")
    carries(WIRE, WIRE_PEER)
    assert _write(ring, after) == 5
    with listen(WIRE_PEER) as again:
        expected = after if then == "withdraw" else before + after
        assert ring.kick() == len(expected)
        assert hear(again, len(expected)) == expected


def test_slots_in_flight_are_not_handed_out(veth: None) -> None:
    """Frames wait in a slow queue: their slots stay the kernel's, or were copied and are free."""
    command = f"tc qdisc add dev {WIRE} root tbf rate 8mbit burst 2000 limit 1000000"
    subprocess.run(command.split(), check=True)
    with speak(WIRE) as sock, listen(WIRE_PEER) as far:
        ring = TxRing(sock, frame_limit=MTU_FRAME, slots=16)
        sent = frames_of(100, (1000,))
        done = 0

        def go_on() -> bool:
            nonlocal done
            done += _write(ring, sent[done:])
            ring.kick()
            return done == 100 and ring.unsent == 0

        until(go_on)
        assert hear(far, 100) == sent
        ring.close()


def test_without_room_in_the_socket_frames_wait_their_turn(veth: None) -> None:
    command = f"tc qdisc add dev {WIRE} root tbf rate 8mbit burst 2000 limit 1000000"
    subprocess.run(command.split(), check=True)
    with packet.open_packet_socket(WIRE, protocol=0) as sock, listen(WIRE_PEER) as far:
        packet.set_send_buffer(sock, 4608)
        ring = TxRing(sock, frame_limit=MTU_FRAME, slots=64)
        sent = frames_of(40, (1000,))
        assert _write(ring, sent) == 40
        assert ring.kick() < 40

        def empty() -> bool:
            ring.kick()
            return ring.unsent == 0

        until(empty)
        assert hear(far, 40) == sent
        ring.close()


def test_closing_leaves_nothing_and_the_socket_sends_by_itself_again(
    veth: None,
) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with listen(WIRE_PEER) as far:
        with speak(WIRE) as sock:
            ring = TxRing(sock, frame_limit=MTU_FRAME)
            view = ring.frames
            view[:] = 1
            ring.close()
            ring.close()
            assert not view.any()
            sock.setsockopt(263, 15, 0)  # PACKET_VNET_HDR off
            sock.send(frame_of(1, 64))
        assert hear(far, 1) == [frame_of(1, 64)]
    assert set(os.listdir("/proc/self/fd")) == before
