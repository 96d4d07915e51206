"""Live nodes whose frames carry several messages: what others hear of them, and what gets lost."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterator

import pytest
from agent_net import RADIO, TAP, Agent, Namespace, Net, ping, wait_for

from agent.linux import bpf, packet
from agent.protocol.codec import encode, parse
from agent.protocol.messages import DownstreamData, Heartbeat, HeartbeatReply, Message, UpstreamData

BROADCAST = b"\xff" * 6
ETHERTYPE = 0x88B5
UNREADABLE = {"short", "foreign", "unknown_type", "truncated", "trailing", "bad_address"}
HANDLERS = pytest.mark.parametrize("handler", ["per-packet", "batched"])
RSU = b"\x02\x00\x00\x00\x09\xf0"
NEIGHBOUR = b"\x02\x00\x00\x00\x09\xf1"


@pytest.fixture(autouse=True)
def _one_cpu() -> Iterator[None]:
    """Test and agents stay on one CPU: between two, the kernel lets frames overtake each other."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    yield
    os.sched_setaffinity(0, before)


def hear(sock: socket.socket, count: int, timeout: float = 5.0) -> list[bytes]:
    """`count` frames, or those that came in time."""
    frames: list[bytes] = []
    deadline = time.monotonic() + timeout
    while len(frames) < count and (left := deadline - time.monotonic()) > 0:
        if select.select([sock], [], [], left)[0]:
            frames.append(sock.recv(1 << 16))
    return frames


def messages(frame: bytes) -> list[Message]:
    return [message for message in parse(frame) if not isinstance(message, str)]


def beat(hello_id: int, transmitter: bytes = RSU) -> bytes:
    return encode(
        Heartbeat(
            receiver=BROADCAST,
            transmitter=transmitter,
            duration_ms=1,
            hello_id=hello_id,
            hops=1,
            rsu=RSU,
        )
    )


def inner(number: int, size: int = 60) -> bytes:
    head = BROADCAST + b"\x06\x00\x00\x00\x09\x01" + ETHERTYPE.to_bytes(2, "big")
    return (head + number.to_bytes(4, "big")).ljust(size, b"\x5a")


def warm(agent: Agent, sock: socket.socket, frame: bytes, answers: socket.socket) -> None:
    """Have the agent look for more than one frame: after lone ones it does not each time."""
    burst(agent, sock, [frame] * 16)
    while hear(answers, 1, 0.05):
        pass


def burst(agent: Agent, sock: socket.socket, frames: list[bytes]) -> None:
    """Let the agent find all of `frames` at once."""
    before = agent.stats()["wire"]["rx_frames"] + agent.stats()["tap"]["rx_frames"]
    os.kill(agent.pid, 19)  # SIGSTOP
    try:
        for frame in frames:
            sock.send(frame)
    finally:
        os.kill(agent.pid, 18)  # SIGCONT

    def taken() -> bool:
        stats = agent.stats()
        return bool(stats["wire"]["rx_frames"] + stats["tap"]["rx_frames"] == before + len(frames))

    wait_for(taken, "the agent takes the burst")


def joined(net: Net, engine: str, handler: str) -> tuple[Agent, Namespace, socket.socket]:
    """An OBU whose upstream is the test, and the test's socket on the wire."""
    obu_ns, air = net.pair()
    options = ["--engine", engine, "--tap-engine", engine, "--handler", handler, "--quiet-tap"]
    obu = net.agent(obu_ns, "obu", *options)
    sock = air.raw()
    sock.send(beat(0))
    obu.wait_event("upstream", mac=RSU.hex(":"))
    return obu, obu_ns, sock


@HANDLERS
@pytest.mark.parametrize("engine", ["aggregate", "writev"])
def test_a_heartbeat_passed_on_and_the_reply_to_it_share_one_frame(
    net: Net, engine: str, handler: str
) -> None:
    obu, obu_ns, sock = joined(net, engine, handler)
    with sock:
        (frame,) = hear(sock, 1)
        again, reply = messages(frame)
        assert isinstance(again, Heartbeat)
        assert isinstance(reply, HeartbeatReply)
        assert (again.receiver, again.transmitter, again.hops) == (BROADCAST, obu_ns.mac(), 2)
        assert (reply.receiver, reply.sender) == (RSU, obu_ns.mac())
        # The kernel's filter of any neighbour takes the frame by its first message.
        assert frame[:6] == BROADCAST
    stats = obu.stats()
    assert stats["wire"]["tx_frames"] == 1
    assert stats["carried"] == {"wire": {"2": 1}, "tap": {}}
    assert stats["engines"]["wire"]["used"] == engine
    assert obu.stop() == 0


@HANDLERS
def test_heartbeats_that_wait_together_are_answered_in_one_frame(net: Net, handler: str) -> None:
    obu, _, sock = joined(net, "aggregate", handler)
    with sock:
        warm(obu, sock, beat(0), sock)
        burst(obu, sock, [beat(1), beat(2, NEIGHBOUR), beat(3)])
        frames = hear(sock, 1 if handler == "batched" else 3)
        found = [message for frame in frames for message in messages(frame)]
        assert sorted(one.hello_id for one in found if isinstance(one, Heartbeat)) == [1, 2, 3]
        assert sorted(one.hello_id for one in found if isinstance(one, HeartbeatReply)) == [1, 2, 3]
        assert not hear(sock, 1, 0.05)


@HANDLERS
def test_a_line_of_aggregating_nodes_joins_and_carries_traffic(net: Net, handler: str) -> None:
    rsu_ns, near_ns, far_ns = net.line(3)
    options = ["--engine", "aggregate", "--handler", handler]
    near = net.agent(near_ns, "obu", "--ip", "10.9.0.2", *options)
    # Its neighbours may be anybody: here one that sends every message in a frame of its own.
    far = net.agent(far_ns, "obu", "--ip", "10.9.0.3")
    rsu = net.agent(rsu_ns, "rsu", "-p", "500", "--ip", "10.9.0.1", *options)
    near.wait_event("upstream", mac=rsu_ns.mac().hex(":"), hops=1)
    far.wait_event("upstream", mac=near_ns.mac().hex(":"), hops=2)
    assert ping(near_ns, "10.9.0.1") == 3
    assert ping(far_ns, "10.9.0.1") == 3
    wait_for(lambda: len(rsu.stats()["routes"]) == 2, "the RSU has routes to both")
    assert near.stats()["carried"]["wire"]
    for agent in (near, far, rsu):
        assert not agent.stats()["drops"].keys() & UNREADABLE
        assert agent.stop() == 0


def test_of_a_burst_from_the_tap_one_packet_arrives(net: Net) -> None:
    obu, obu_ns, sock = joined(net, "writev", "batched")
    frames = [inner(number) for number in range(8)]
    with sock, obu_ns.raw(TAP, protocol=ETHERTYPE) as tap:
        warm(obu, tap, inner(0), sock)
        before = obu.stats()
        burst(obu, tap, frames)
        (frame,) = hear(sock, 1)
        assert not hear(sock, 1, 0.05)
    (message,) = messages(frame)
    assert isinstance(message, UpstreamData)
    head = RSU + obu_ns.mac() + b"\x30\x30\x01\x00" + obu_ns.mac()
    assert head + message.inner == b"".join(head + frame for frame in frames)
    stats = obu.stats()
    assert stats["carried"]["wire"]["8"] == 1
    assert stats["drops"]["wire_swallowed"] - before["drops"]["wire_swallowed"] == 7
    assert stats["wire"]["tx_frames"] - before["wire"]["tx_frames"] == 1


def test_a_burst_past_the_mtu_is_lost_whole(net: Net) -> None:
    obu, obu_ns, sock = joined(net, "writev", "batched")
    with sock, obu_ns.raw(TAP, protocol=ETHERTYPE) as tap:
        warm(obu, tap, inner(0), sock)
        burst(obu, tap, [inner(number, 400) for number in range(8)])
        assert not hear(sock, 1, 0.05)
        assert obu.stats()["drops"]["wire_batch_too_long"] == 8
        # It goes on with the next.
        tap.send(inner(9))
        (frame,) = hear(sock, 1)
        assert frame.endswith(inner(9))


def test_of_a_burst_for_the_tap_one_packet_arrives(net: Net) -> None:
    obu, obu_ns, sock = joined(net, "writev", "batched")
    frames = [inner(number) for number in range(8)]
    data = [
        encode(
            DownstreamData(
                receiver=obu_ns.mac(), transmitter=RSU, origin=RSU, target=BROADCAST, inner=frame
            )
        )
        for frame in frames
    ]
    with sock, obu_ns.raw(TAP, protocol=ETHERTYPE) as tap:
        warm(obu, sock, data[0], tap)
        before = obu.stats()
        burst(obu, sock, data)
        assert hear(tap, 1) == [b"".join(frames)]
        assert not hear(tap, 1, 0.05)
    stats = obu.stats()
    assert stats["tap"]["tx_frames"] - before["tap"]["tx_frames"] == 1
    assert stats["drops"]["tap_swallowed"] - before["drops"]["tap_swallowed"] == 7


@HANDLERS
def test_group_traffic_of_an_rsu_reaches_one_obu(net: Net, handler: str) -> None:
    """Each of the others would have had a copy of its own."""
    rsu_ns, air = net.pair()
    rsu = net.agent(
        rsu_ns, "rsu", "-p", "60000", "--engine", "writev", "--handler", handler, "--quiet-tap"
    )
    obus = [bytes([2, 0, 0, 0, 9, number]) for number in range(3)]
    with air.raw() as sock, rsu_ns.raw(TAP, protocol=ETHERTYPE) as tap:
        frame = wait_for(lambda: rsu.ask("hello") and hear(sock, 1), "a heartbeat")[0]
        (heard,) = messages(frame)
        assert isinstance(heard, Heartbeat)
        for obu in obus:
            reply = HeartbeatReply(
                receiver=rsu_ns.mac(),
                transmitter=obu,
                duration_ms=heard.duration_ms,
                hello_id=heard.hello_id,
                hops=1,
                rsu=rsu_ns.mac(),
                sender=obu,
            )
            sock.send(encode(reply))
        wait_for(lambda: len(rsu.stats()["routes"]) == 3, "all OBUs are known")
        tap.send(inner(1))
        (copy,) = hear(sock, 1)
        (message,) = messages(copy)
        assert isinstance(message, DownstreamData)
        assert message.receiver == obus[0]
        assert len(copy) == 3 * (28 + 60)
        assert not hear(sock, 1, 0.05)
        # Any other OBU's socket would not even see it: data for somebody else.
        with air.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as other:
            packet.attach_filter(other, bpf.own_or_group_filter())
            other.bind((RADIO, 0x3030))
            other.setblocking(False)
            tap.send(inner(2))
            assert hear(sock, 1)
            assert not select.select([other], [], [], 0)[0]
    assert rsu.stats()["drops"]["wire_swallowed"] == 4
