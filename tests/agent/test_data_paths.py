"""Every path that data takes through live nodes: all of it arrives, in order, with any engine."""

from __future__ import annotations

import os
import random
import select
import socket
import time
from collections.abc import Iterator, Sequence

import pytest
from agent_net import RADIO, TAP, Agent, Net, wait_for

from agent.engines.base import Side
from agent.engines.registry import ENGINES
from agent.protocol.codec import encode
from agent.protocol.messages import DownstreamData, Heartbeat, UpstreamData

BROADCAST = b"\xff" * 6
ETHERTYPE = 0x88B5
COMBINATIONS = [
    ("per-packet", "per-packet"),
    ("per-packet", "batched"),
    ("mmsg", "per-packet"),
    ("mmsg", "batched"),
    ("aggregate", "per-packet"),
    ("aggregate", "batched"),
    ("uring", "per-packet"),
    ("uring", "batched"),
    ("ring", "per-packet"),
    ("ring", "batched"),
    ("xsk", "per-packet"),
    ("xsk", "batched"),
    ("xsk-tx", "batched"),
]


def _tap(engine: str) -> list[str]:
    return ["--tap-engine", engine] if Side.TAP in ENGINES[engine].sides else []


combinations = pytest.mark.parametrize(("engine", "handler"), COMBINATIONS)


def _frames(to: bytes, source: bytes, sizes: Sequence[int]) -> list[bytes]:
    head = to + source + ETHERTYPE.to_bytes(2, "big")
    return [
        (head + number.to_bytes(4, "big") + bytes(size))[: max(size, 14)]
        for number, size in enumerate(sizes)
    ]


def _receive(
    sock: socket.socket, count: int, timeout: float = 10.0, *, kind: bytes = b""
) -> list[bytes]:
    """`count` frames, or those that came in time; of that kind (their bytes 14 and 15) if given."""
    frames: list[bytes] = []
    deadline = time.monotonic() + timeout
    while len(frames) < count and (left := deadline - time.monotonic()) > 0:
        if select.select([sock], [], [], left)[0]:
            frame = sock.recv(4096)
            if frame[14:16].startswith(kind):
                frames.append(frame)
    return frames


def _by_next_hop(frames: list[bytes]) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for frame in frames:
        found.setdefault(frame[:6], []).append(frame)
    return found


@pytest.fixture(autouse=True)
def _one_cpu() -> Iterator[None]:
    """Test and agents stay on one CPU: between two, the kernel lets frames overtake each other."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    yield
    os.sched_setaffinity(0, before)


@combinations
def test_inner_frames_of_every_size_cross_both_ways(net: Net, engine: str, handler: str) -> None:
    obu_ns, rsu_ns = net.pair()
    options = ["--engine", engine, *_tap(engine), "--handler", handler, "--quiet-tap"]
    obu = net.agent(obu_ns, "obu", *options)
    rsu = net.agent(rsu_ns, "rsu", "-p", "60000", *options)
    obu.wait_event("upstream")
    wait_for(lambda: rsu.stats()["routes"], "the RSU knows the OBU")
    sizes = list(range(14, 1436 + 15, 3))
    with (
        obu_ns.raw(TAP, protocol=ETHERTYPE) as obu_tap,
        rsu_ns.raw(TAP, protocol=ETHERTYPE) as rsu_tap,
    ):
        up = (obu_ns.mac(TAP), obu_tap, rsu_tap)
        down = (rsu_ns.mac(TAP), rsu_tap, obu_tap)
        # Group traffic first: from it the RSU learns who lives where.
        for target, (source, sender, hearer) in (
            (BROADCAST, up),
            (BROADCAST, down),
            (rsu_ns.mac(TAP), up),
            (obu_ns.mac(TAP), down),
        ):
            frames = _frames(target, source, sizes)
            for frame in frames:
                sender.send(frame)
            assert _receive(hearer, len(frames)) == frames
    for agent in (obu, rsu):
        stats = agent.stats()
        # An RSU hears its own heartbeat come back.
        assert stats["drops"].keys() <= {"ignored"}
        assert stats["engines"]["wire"]["used"] == engine
        assert agent.stop() == 0


@combinations
def test_group_traffic_reaches_every_obu_once(net: Net, engine: str, handler: str) -> None:
    rsu_ns, air = net.pair()
    options = ["--engine", engine, *_tap(engine), "--handler", handler, "--quiet-tap"]
    rsu = net.agent(rsu_ns, "rsu", "-p", "60000", *options)
    rsu_mac = rsu_ns.mac()
    obus = [bytes([2, 0, 0, 0, 9, n]) for n in range(5)]
    with air.raw() as sock, rsu_ns.raw(TAP, protocol=ETHERTYPE) as tap:
        beat = wait_for(lambda: rsu.ask("hello") and _receive(sock, 1), "a heartbeat")[0]
        for obu in obus:
            reply = rsu_mac + obu + b"\x30\x30\x00\x01" + beat[16:46] + obu
            sock.send(reply)
        wait_for(lambda: len(rsu.stats()["routes"]) == 5, "all OBUs are known")
        frames = _frames(BROADCAST, rsu_ns.mac(TAP), [60] * 100)
        for frame in frames:
            tap.send(frame)
        copies = _receive(sock, 500, kind=b"\x01\x01")
        for obu in obus:
            assert [frame[28:] for frame in copies if frame[:6] == obu] == frames
        # From one of them: into the own TAP, and to all the others.
        for frame in _frames(BROADCAST, b"\x06" + obus[0][1:], [80] * 50):
            data = UpstreamData(receiver=rsu_mac, transmitter=obus[0], origin=obus[0], inner=frame)
            sock.send(encode(data))
        assert len(_receive(tap, 50)) == 50
        copies = _receive(sock, 200, kind=b"\x01\x01")
        assert {frame[:6] for frame in copies} == set(obus[1:])
        assert len(copies) == 200
    assert rsu.stats()["drops"] == {}


def test_batched_and_per_packet_put_the_same_bytes_on_the_air(net: Net) -> None:
    """The same frames at two nodes with the same address: what they send is captured, compared."""
    rng = random.Random(5)
    own = b"\x02\x00\x00\x00\x07\x01"
    neighbours = [bytes([2, 0, 0, 0, 7, n]) for n in (2, 3, 4)]
    rsu = b"\x02\x00\x00\x00\x07\x99"

    def heartbeat(number: int) -> bytes:
        return encode(
            Heartbeat(
                receiver=BROADCAST,
                transmitter=neighbours[number % 2],
                duration_ms=number // 2 * 5000,  # a period that no test outlasts
                hello_id=number // 2,
                hops=1,
                rsu=rsu,
            )
        )

    def data(number: int) -> bytes:
        sender = rng.choice(neighbours)
        inner = rsu + sender + b"\x88\xb5" + number.to_bytes(4, "big") + bytes(rng.randrange(900))
        if rng.random() < 0.3:
            target = rng.choice([own, BROADCAST, neighbours[2]])
            return encode(
                DownstreamData(
                    receiver=own, transmitter=sender, origin=rsu, target=target, inner=inner
                )
            )
        return encode(UpstreamData(receiver=own, transmitter=sender, origin=sender, inner=inner))

    script = [heartbeat(0), heartbeat(1)]
    for number in range(600):
        script += [data(number)] * rng.choice([1, 1, 3, 12])
        if number % 50 == 49:
            # The same heartbeat from both, at once: a late copy would mean that the RSU restarted.
            script += [heartbeat(number // 50 * 2 + 2), heartbeat(number // 50 * 2 + 3)]
        if number % 70 == 69:
            script.append(data(number)[: rng.randrange(14, 40)])

    captured: list[list[bytes]] = []
    inside: list[list[bytes]] = []
    counted: list[tuple[object, object]] = []
    for handler in ("per-packet", "batched"):
        node, air = net.pair()
        node.ip("link", "set", "dev", RADIO, "address", ":".join(f"{byte:02x}" for byte in own))
        agent: Agent = net.agent(node, "obu", "--handler", handler, "--quiet-tap")
        with air.raw() as sock, node.raw(TAP, protocol=ETHERTYPE) as tap:
            for start in range(0, len(script), 64):
                for frame in script[start : start + 64]:
                    sock.send(frame)
                done = min(start + 64, len(script))
                wait_for(lambda n=done, a=agent: a.stats()["wire"]["rx_frames"] == n, "all read")
            stats = agent.stats()
            captured.append(_receive(sock, stats["wire"]["tx_frames"]))
            inside.append(_receive(tap, stats["tap"]["tx_frames"]))
            counted.append((stats["messages"], stats["drops"]))
    assert _by_next_hop(captured[0]) == _by_next_hop(captured[1])
    assert inside[0] == inside[1]
    assert counted[0] == counted[1]
    assert len(captured[0]) > 1000
    assert len(inside[0]) > 100
