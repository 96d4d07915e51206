"""Nodes started by hand with the documented options join, forward, and speak with a reference."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable

import pytest
from agent_net import TAP, Net, ping, wait_for

from agent.protocol.codec import encode, parse
from agent.protocol.messages import (
    DownstreamData,
    Heartbeat,
    HeartbeatReply,
    Message,
    UpstreamData,
)

BROADCAST = b"\xff" * 6
HANDLERS = ["per-packet", "batched"]


def hear(sock: socket.socket, wanted: Callable[[Message], bool], timeout: float = 5.0) -> Message:
    """The first message on the wire that is wanted."""
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > 0:
        if select.select([sock], [], [], left)[0]:
            for message in parse(sock.recv(4096)):
                if not isinstance(message, str) and wanted(message):
                    return message
    pytest.fail("the wanted message was not heard")


@pytest.mark.parametrize("handler", HANDLERS)
def test_a_line_of_three_joins_and_carries_ipv4_and_ipv6(net: Net, handler: str) -> None:
    rsu_ns, near_ns, far_ns = net.line(3)
    near = net.agent(near_ns, "obu", "--ip", "10.9.0.2", "--ip", "fd00:9::2", "--handler", handler)
    far = net.agent(far_ns, "obu", "-i", "10.9.0.3", "-i", "fd00:9::3", "--handler", handler)
    rsu = net.agent(
        rsu_ns, "rsu", "-p", "1000", "-i", "10.9.0.1", "-i", "fd00:9::1", "--handler", handler
    )
    near.wait_event("upstream", mac=rsu_ns.mac().hex(":"), hops=1)
    far.wait_event("upstream", mac=near_ns.mac().hex(":"), hops=2)
    for address in ("10.9.0.1", "fd00:9::1"):
        assert ping(near_ns, address) == 3
        assert ping(far_ns, address) == 3
    # The two ends never hear each other: what the far one sent was forwarded.
    assert near.stats()["messages"]["upstream"] >= 6
    assert near.stats()["messages"]["downstream"] >= 6
    routes = {route["node"]: route["hops"] for route in rsu.stats()["routes"]}
    assert routes == {near_ns.mac().hex(":"): 1, far_ns.mac().hex(":"): 2}
    for agent in (near, far, rsu):
        assert agent.stop() == 0


@pytest.mark.parametrize("handler", HANDLERS)
def test_a_reference_node_that_sends_heartbeat_and_reply_in_one_frame_is_joined(
    net: Net, handler: str
) -> None:
    rsu_ns, near_ns, far_ns = net.line(3)
    near = net.agent(near_ns, "obu", "--handler", handler)
    rsu = net.agent(rsu_ns, "rsu", "-p", "500", "--handler", handler)
    near.wait_event("upstream")
    mac = far_ns.mac()
    inner_mac = b"\x06\x00\x00\x00\x00\x77"
    with far_ns.raw() as sock:
        first = hear(sock, lambda message: isinstance(message, Heartbeat))
        assert isinstance(first, Heartbeat)
        assert first.transmitter == near_ns.mac()
        assert first.hops == 2
        again = Heartbeat(
            receiver=BROADCAST,
            transmitter=mac,
            duration_ms=first.duration_ms,
            hello_id=first.hello_id,
            hops=first.hops + 1,
            rsu=first.rsu,
        )
        reply = HeartbeatReply(
            receiver=first.transmitter,
            transmitter=mac,
            duration_ms=first.duration_ms,
            hello_id=first.hello_id,
            hops=first.hops,
            rsu=first.rsu,
            sender=mac,
        )
        sock.send(encode(again) + encode(reply))
        wait_for(
            lambda: mac.hex(":") in [route["node"] for route in rsu.stats()["routes"]],
            "the RSU has a route to the reference node",
        )
        assert "trailing" not in near.stats()["drops"]

        # Data both ways, through the node in the middle.
        with rsu_ns.raw(TAP, protocol=0x88B5) as tap:
            inner = BROADCAST + inner_mac + b"\x88\xb5" + b"up" * 20
            data = UpstreamData(receiver=near_ns.mac(), transmitter=mac, origin=mac, inner=inner)
            sock.send(encode(data))
            assert select.select([tap], [], [], 5)[0]
            assert tap.recv(2048) == inner
            down = inner_mac + rsu_ns.mac(TAP) + b"\x88\xb5" + b"down" * 20
            tap.send(down)
        got = hear(sock, lambda message: isinstance(message, DownstreamData))
        assert isinstance(got, DownstreamData)
        assert (got.target, got.inner, got.transmitter) == (mac, down, near_ns.mac())


def test_a_reply_for_somebody_else_in_front_does_not_hide_what_is_for_us(net: Net) -> None:
    node_ns, peer_ns = net.pair()
    agent = net.agent(node_ns, "obu")
    peer, own, other = peer_ns.mac(), node_ns.mac(), b"\x02\x00\x00\x00\x00\x55"
    rsu = b"\x02\x00\x00\x00\x00\x66"
    reply = HeartbeatReply(
        receiver=other,
        transmitter=peer,
        duration_ms=1,
        hello_id=1,
        hops=1,
        rsu=rsu,
        sender=peer,
    )
    heartbeat = Heartbeat(
        receiver=own, transmitter=peer, duration_ms=1, hello_id=1, hops=1, rsu=rsu
    )
    with peer_ns.raw() as sock:
        sock.send(encode(reply))  # for somebody else alone: kept off by the kernel
        sock.send(encode(reply) + encode(heartbeat))
    agent.wait_event("upstream", mac=peer.hex(":"))
    stats = agent.stats()
    assert stats["drops"]["overheard"] == 1
    assert stats["wire"]["rx_frames"] == 1
