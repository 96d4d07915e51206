"""Sending from AF_XDP's own memory: what it takes, what goes another way, and that none is lost."""

from __future__ import annotations

import select
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import cast

import numpy as np
import pytest
from engine_rig import GROUP, OTHER, PEER, Rig, frame_of, ip, wait_carries

from agent.batch import HEADROOM, FrameBatch
from agent.engines.base import SendResult, Side
from agent.engines.xsk import SLOTS, XskEngine
from agent.linux import netif, packet

LIMIT = 1514


class Sender:
    """An engine, and memory that it has lent."""

    def __init__(self, rig: Rig, batch_size: int = 64) -> None:
        self.rig = rig
        self.engine = rig.open(batch_size, frame_limit=LIMIT)
        lent = self.engine.lend_batch(LIMIT + 1)
        assert lent is not None
        self.lent = lent

    def send(self, frames: Sequence[bytes]) -> SendResult:
        self.lent.clear()
        self.lent.extend(frames)
        return self.engine.send_rows(self.lent)

    @property
    def calls(self) -> dict[str, int]:
        return dict(self.engine.read_counters().syscalls)


@pytest.fixture(params=["xsk", "xsk-tx"])
def sender(request: pytest.FixtureRequest, make_rig: Callable[[str, Side], Rig]) -> Sender:
    return Sender(make_rig(request.param, Side.WIRE))


def test_a_batch_goes_by_one_call_and_its_memory_is_free_at_once(sender: Sender) -> None:
    frames = [frame_of(n, 14 + 23 * n) for n in range(64)]
    assert sender.send(frames) == SendResult(64)
    sender.lent.data[:] = 0xEE
    assert sender.rig.taken() == frames
    assert sender.calls == {"sendto": 1}
    counters = sender.engine.counters
    assert (counters.tx_frames, counters.tx_bytes) == (64, sum(map(len, frames)))


def test_rings_that_wrap_keep_order_and_content(sender: Sender) -> None:
    for turn in range(3 * SLOTS // 50):
        frames = [frame_of(turn + n, 64 + n) for n in range(50)]
        assert sender.send(frames) == SendResult(50)
        assert sender.rig.taken() == frames
    assert set(sender.calls) == {"sendto"}


def test_what_was_received_is_sent_from_where_it_lies(sender: Sender) -> None:
    batch = sender.engine.new_batch()
    header = np.frombuffer(GROUP + OTHER + b"\x30\x30\x01\x00", np.uint8)
    for turn in range(SLOTS // 20 + 5):
        frames = [frame_of(turn + n, 100 + n) for n in range(20)]
        sender.rig.offer(*frames)
        taken = 0
        while taken < 20:
            assert select.select([sender.engine.fileno()], [], [], 2)[0]
            taken += sender.engine.recv_batch(batch)
            batch.data[: batch.count, HEADROOM - 16 : HEADROOM] = header
            batch.move(slice(0, batch.count), -16)
            assert sender.engine.send_rows(batch).dropped == 0
        sender.engine.release()
        assert sender.rig.taken() == [header.tobytes() + frame for frame in frames]
    assert sender.calls["sendto"] >= SLOTS // 20


def test_a_frame_that_is_too_long_is_the_only_one_that_does_not_go(sender: Sender) -> None:
    frames = [frame_of(n) for n in range(20)]
    batch = [*frames[:8], frame_of(99, LIMIT + 1), *frames[8:]]
    assert sender.send(batch) == SendResult(20, 1)
    assert sender.rig.taken() == frames
    assert sender.engine.read_counters().drops == {"send_too_long": 1}


def test_on_a_link_that_is_down_each_next_hop_is_told_and_nothing_stays_queued(
    sender: Sender,
) -> None:
    frames = [frame_of(n, to=OTHER if n % 2 else GROUP) for n in range(40)]
    sender.rig.link("down")
    for _ in range(2 * SLOTS // 40):  # more than the ring would hold
        assert sender.send(frames) == SendResult(0, 40, (GROUP, OTHER))
    sender.rig.link("up")
    sender.rig.taken()
    # The packet socket tells once that the link was down.
    with suppress(OSError):
        sender.engine.recv_batch(sender.engine.new_batch())
    assert sender.send(frames) == SendResult(40)
    assert sender.rig.taken() == frames
    before = sender.calls["sendto"]
    assert sender.send(frames) == SendResult(40)
    assert sender.calls["sendto"] == before + 1
    assert sender.rig.taken() == frames


def test_a_neighbour_that_is_down_takes_nothing_twice(sender: Sender) -> None:
    frames = [frame_of(n) for n in range(20)]
    ip("link", "set", "dev", PEER, "down")
    result = sender.send(frames)
    assert result.sent + result.dropped == 20
    ip("link", "set", "dev", PEER, "up")
    with packet.open_packet_socket("tbt-w", protocol=0) as sock:
        wait_carries(sock.send, PEER)
    sender.rig.taken()
    again = [frame_of(100 + n) for n in range(20)]
    assert sender.send(again) == SendResult(20)
    assert sender.rig.taken() == again


def test_frames_that_stay_on_their_way_leave_the_next_to_sendmmsg(sender: Sender) -> None:
    # Behind the neighbour's ingress a shaper holds them: 200 kbit/s, 60 ms for each.
    run = sender.rig.run
    run("ip", *["link", "add", "name", "tbt-x", "type", "veth", "peer", "name", "tbt-y"])
    for name in ("tbt-x", "tbt-y"):
        netif.set_ipv6_option(name, "disable_ipv6", 1)
        netif.set_up(name)
    tbf = "qdisc add dev tbt-x root tbf rate 200kbit burst 2000 limit 1000000"
    run("tc", *tbf.split(" "))
    run("tc", *f"qdisc add dev {PEER} ingress".split(" "))
    to = f"filter add dev {PEER} parent ffff: protocol all u32 match u32 0 0 action mirred egress"
    run("tc", *f"{to} redirect dev tbt-x".split(" "))
    frames = [frame_of(n, 1500) for n in range(40)]
    for _ in range(12):
        result = sender.send(frames)
        assert result.sent + result.dropped == 40
    assert sender.calls["sendmmsg"] > 0
    run("tc", *f"qdisc del dev {PEER} ingress".split(" "))
    run("ip", "link", "del", "dev", "tbt-x")
    sender.rig.taken()
    again = [frame_of(n) for n in range(40)]
    assert sender.send(again) == SendResult(40)
    assert sender.rig.taken() == again


def test_few_frames_and_those_from_elsewhere_go_by_sendmmsg(sender: Sender) -> None:
    frames = [frame_of(n) for n in range(20)]
    assert sender.send(frames[:4]) == SendResult(4)
    other = FrameBatch(20, LIMIT + 1)
    other.extend(frames)
    assert sender.engine.send_rows(other) == SendResult(20)
    assert sender.rig.taken() == [*frames[:4], *frames]
    assert sender.calls == {"sendmmsg": 2}


def test_chosen_and_repeated_rows_go_in_the_order_given(sender: Sender) -> None:
    frames = [frame_of(n, 100 + n) for n in range(20)]
    sender.lent.clear()
    sender.lent.extend(frames)
    chosen = np.repeat(np.arange(19, 9, -1), 2)
    assert sender.engine.send_rows(sender.lent, chosen) == SendResult(20)
    assert sender.rig.taken() == [frames[row] for row in chosen]
    assert sender.calls == {"sendto": 1}


def test_a_queue_on_the_interface_is_not_passed_by(make_rig: Callable[[str, Side], Rig]) -> None:
    rig = make_rig("xsk", Side.WIRE)
    tc = "qdisc add dev tbt-w root pfifo limit 100"
    rig.run("tc", *tc.split())
    engine = cast(XskEngine, rig.open(frame_limit=LIMIT))
    assert "pfifo" in engine.why_not_sending
    assert engine.lend_batch(LIMIT + 1) is None
    frames = [frame_of(n) for n in range(20)]
    rig.offer(*frames)
    batch = engine.new_batch()
    assert select.select([engine.fileno()], [], [], 2)[0]
    assert engine.recv_batch(batch) == 20
    assert engine.send_rows(batch) == SendResult(20)
    assert rig.taken() == frames
    assert engine.read_counters().syscalls == {"sendmmsg": 1}


def test_where_af_xdp_would_pass_by_a_queue_xsk_tx_is_refused(
    make_rig: Callable[[str, Side], Rig],
) -> None:
    rig = make_rig("xsk-tx", Side.WIRE)
    rig.run("tc", *["qdisc", "add", "dev", "tbt-w", "root", "pfifo", "limit", "100"])
    with pytest.raises(NotImplementedError, match="pass by its queue, pfifo"):
        rig.open()


def test_several_receive_queues_are_refused(make_rig: Callable[[str, Side], Rig]) -> None:
    rig = make_rig("xsk", Side.WIRE)
    rig.run("ip", "link", "del", "dev", "tbt-w")
    ip(*f"link add name tbt-w numrxqueues 2 type veth peer name {PEER} numrxqueues 2".split())
    rig.run("ip", "link", "show")
    with pytest.raises(NotImplementedError, match="2 receive queues"):
        rig.open()
