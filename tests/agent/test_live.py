"""What a running agent withstands, and how it ends."""

from __future__ import annotations

import json
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EMSGSIZE
from pathlib import Path

import pytest
from agent_net import RADIO, TAP, Agent, Namespace, Net, wait_for

from agent.linux import netif, rights
from agent.protocol.codec import encode
from agent.protocol.messages import DownstreamData, Heartbeat, HeartbeatReply, UpstreamData

BROADCAST = b"\xff" * 6
CHILD = b"\x02\x00\x00\x00\x00\xbb"
RSU = b"\x02\x00\x00\x00\x00\xcc"
NOBODY = 65534
HANDLERS = ["per-packet", "batched"]


def heartbeat(peer: bytes, number: int = 1) -> bytes:
    return encode(
        Heartbeat(
            receiver=BROADCAST,
            transmitter=peer,
            duration_ms=number * 5000,
            hello_id=number,
            hops=1,
            rsu=RSU,
        )
    )


def upstream(to: bytes, size: int = 100, number: int = 0) -> bytes:
    inner = RSU + CHILD + b"\x88\xb5" + number.to_bytes(4, "big") + bytes(size)
    return encode(UpstreamData(receiver=to, transmitter=CHILD, origin=CHILD, inner=inner))


def joined(net: Net, *options: str, kind: str = "obu") -> tuple[Agent, Namespace]:
    """An agent that has the other end of its link as upstream, and that end."""
    node, peer = net.pair()
    agent = net.agent(node, kind, "--quiet-tap", *options)
    with peer.raw() as sock:
        sock.send(heartbeat(peer.mac()))
    agent.wait_event("upstream", mac=peer.mac().hex(":"))
    return agent, peer


@contextmanager
def load(peer: Namespace, to: bytes) -> Iterator[None]:
    """Frames to relay, as fast as one thread sends them, meanwhile."""
    stop = threading.Event()
    sock = peer.raw(protocol=0)
    sock.setblocking(True)
    frame = upstream(to)

    def send() -> None:
        while not stop.is_set():
            try:
                sock.send(frame)
            except OSError:
                time.sleep(0.001)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        sock.close()


def relayed(agent: Agent) -> int:
    return int(agent.stats()["wire"]["tx_frames"])


@pytest.mark.parametrize("handler", HANDLERS)
def test_every_frame_is_forwarded_or_counted(net: Net, handler: str) -> None:
    agent, peer = joined(net, "--handler", handler)
    own, upstream_mac = agent.namespace.mac(), peer.mac()
    sent = 5000
    with peer.raw() as hear, peer.raw(protocol=0) as sock:
        before = agent.stats()
        for number in range(sent):
            sock.send(upstream(own, number % 1000, number))
        wait_for(
            lambda: (
                agent.stats()["messages"].get("upstream", 0) + agent.stats()["wire"]["kernel_drops"]
                == sent
            ),
            "all are seen",
        )
        after = agent.stats()
        numbers = []
        while True:
            try:
                frame = hear.recv(2048)
            except BlockingIOError:
                break
            if frame[:6] == upstream_mac and frame[14:16] == b"\x01\x00":
                assert frame[6:12] == own
                numbers.append(int.from_bytes(frame[36:40], "big"))
    forwarded = after["wire"]["tx_frames"] - before["wire"]["tx_frames"]
    assert forwarded == sent - after["wire"]["kernel_drops"]
    assert sorted(set(numbers)) == sorted(numbers)
    assert len(numbers) == forwarded
    assert after["handler"] == handler


@pytest.mark.parametrize("kind", ["obu", "rsu"])
@pytest.mark.parametrize("handler", HANDLERS)
def test_random_cut_and_oversized_frames_are_counted_and_never_end_it(
    net: Net, kind: str, handler: str
) -> None:
    options = ["--handler", handler, "--quiet-tap"]
    node, peer = net.pair()
    agent = net.agent(node, kind, *options, *(["-p", "100"] if kind == "rsu" else []))
    # Longer frames than the agent was made for can come only from a link that was changed later.
    for namespace in (node, peer):
        namespace.ip("link", "set", "dev", RADIO, "mtu", "9000")
    own = node.mac()
    rng = random.Random(20)
    macs = [own, own, peer.mac(), CHILD, RSU, BROADCAST]
    sent = 0
    with peer.raw() as sock:
        for number in range(4000):
            inner = rng.randbytes(rng.choice([0, 5, 14, 60, 600]))
            good = [
                heartbeat(rng.choice(macs), rng.randrange(5)),
                upstream(rng.choice(macs), rng.randrange(1400), number),
                encode(
                    HeartbeatReply(
                        receiver=rng.choice(macs),
                        transmitter=rng.choice(macs),
                        duration_ms=rng.choice([0, 1, 2**128 - 1]),
                        hello_id=rng.choice([0, 1, 2**32 - 1]),
                        hops=rng.choice([0, 1, 2**32 - 1]),
                        rsu=rng.choice(macs),
                        sender=rng.choice(macs),
                    )
                ),
                encode(
                    DownstreamData(
                        receiver=rng.choice(macs),
                        transmitter=rng.choice(macs),
                        origin=rng.choice(macs),
                        target=rng.choice(macs),
                        inner=inner,
                    )
                ),
            ]
            frame = bytearray(rng.choice(good))
            match rng.randrange(6):
                case 0:
                    frame = frame[: rng.randrange(14, len(frame) + 1)]
                case 1:
                    for _ in range(4):
                        frame[rng.randrange(len(frame))] = rng.randrange(256)
                case 2:
                    frame += rng.choice(good)
                case 3:
                    frame = bytearray(own + RSU + b"\x30\x30" + rng.randbytes(rng.randrange(200)))
                case 4:
                    frame += bytes(rng.randrange(1500, 8000))
            frame[12:14] = b"\x30\x30"
            try:
                sock.send(frame)
                sent += 1
            except OSError as error:
                if error.errno != EMSGSIZE:
                    raise
    # Every frame that the kernel let through was read; nothing is left and the agent works.
    wait_for(lambda: agent.stats()["wire"]["rx_frames"] > 1000, "frames are read")
    rx = agent.stats()["wire"]["rx_frames"]
    wait_for(lambda: agent.stats()["wire"]["rx_frames"] == rx, "it has read all")
    drops = agent.stats()["drops"]
    assert drops["oversized"] > 100
    assert drops["truncated"] > 10
    assert drops["unknown_type"] > 10
    assert agent.process.poll() is None
    if kind == "obu":
        with peer.raw() as sock:
            sock.send(heartbeat(peer.mac(), 1000))
        before = relayed(agent)
        wait_for(lambda: _offer(peer, own) and relayed(agent) > before, "it relays again")
    assert agent.stop() == 0


def _offer(peer: Namespace, own: bytes) -> int:
    with peer.raw(protocol=0) as sock:
        return sock.send(upstream(own))


@pytest.mark.parametrize("user", [None, "nobody:nogroup"])
def test_rights_are_gone_while_traffic_flows(net: Net, user: str | None) -> None:
    agent, peer = joined(net, *(["--user", user] if user else []))
    with load(peer, agent.namespace.mac()):
        before = relayed(agent)
        wait_for(lambda: relayed(agent) > before + 100, "it relays")
        left = rights.rights_of(agent.pid)
        assert left.none_left
        if user:
            assert left.uids == (NOBODY,) * 4
            assert left.gids == (NOBODY,) * 4
            assert left.groups == ()
    assert agent.stop() == 0
    # Written although the directory was root's alone.
    assert json.loads(agent.stats_file.read_text())["wire"]["tx_frames"] > before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("handler", HANDLERS)
def test_a_signal_under_load_ends_it_with_its_counters_written(
    net: Net, handler: str, number: signal.Signals
) -> None:
    agent, peer = joined(net, "--handler", handler)
    with load(peer, agent.namespace.mac()):
        wait_for(lambda: relayed(agent) > 1000, "it is under load")
        agent.process.send_signal(number)
        assert agent.process.wait(10) == 0
    stats = json.loads(agent.stats_file.read_text())
    # What it had taken in is through, beside its own heartbeat and reply.
    own = stats["tap"]["rx_frames"] - stats["drops"].get("no_upstream", 0)
    assert stats["wire"]["tx_frames"] == stats["messages"]["upstream"] + own + 2
    assert stats["wire"]["rx_frames"] == sum(stats["messages"].values())
    assert agent.poll_events()[-1] == {"event": "stopped"}
    assert not agent.control.exists()
    with agent.namespace.entered(), pytest.raises(OSError, match="No such device"):
        netif.index(TAP)


@pytest.mark.parametrize("handler", HANDLERS)
def test_a_link_that_goes_down_and_up_under_load_is_survived(net: Net, handler: str) -> None:
    agent, peer = joined(net, "--handler", handler)
    own = agent.namespace.mac()
    with load(peer, own):
        for turn in range(3):
            before = relayed(agent)
            wait_for(lambda n=before: relayed(agent) > n + 100, "it relays")
            agent.namespace.ip("link", "set", "dev", RADIO, "down")
            agent.namespace.ip("link", "set", "dev", RADIO, "up")
            # A failed send has taken the upstream away; the next heartbeat brings it back.
            wait_for(
                lambda t=turn: _hello(peer, t) and agent.stats()["upstream"] is not None,
                "it has an upstream",
            )
    assert "link down" in agent.log.read_text()
    assert agent.stop() == 0
    stats = json.loads(agent.stats_file.read_text())
    failed = stats["drops"].get("wire_send_unreachable", 0)
    no_way = stats["drops"].get("no_upstream", 0)
    assert stats["messages"]["upstream"] <= stats["wire"]["tx_frames"] + failed + no_way


def _hello(peer: Namespace, turn: int) -> bool:
    with peer.raw(protocol=0) as sock:
        sock.send(heartbeat(peer.mac(), 10 + turn))
    return True


def test_a_send_that_fails_makes_the_next_candidate_the_upstream(net: Net) -> None:
    agent, peer = joined(net, "--handler", "per-packet")
    other = b"\x02\x00\x00\x00\x00\x77"
    with peer.raw() as sock:
        sock.send(heartbeat(other))
        wait_for(lambda: len(agent.stats()["candidates"]) == 2, "two candidates")
        agent.namespace.ip("link", "set", "dev", RADIO, "down")
        with agent.namespace.raw(TAP, protocol=0) as inside:
            inside.send(BROADCAST + agent.namespace.mac(TAP) + b"\x88\xb5" + bytes(50))
        agent.wait_event("upstream", mac=other.hex(":"))
    assert agent.stats()["drops"]["wire_send_unreachable"] >= 1


@pytest.mark.parametrize("ifname", [RADIO, TAP])
@pytest.mark.parametrize("handler", HANDLERS)
def test_an_interface_that_is_removed_ends_it_with_one_clear_line(
    net: Net, handler: str, ifname: str
) -> None:
    agent, _ = joined(net, "--handler", handler)
    agent.namespace.ip("link", "del", "dev", ifname)
    assert agent.process.wait(10) == 1
    assert f"interface {ifname} was removed" in agent.log.read_text().splitlines()[-1]
    assert json.loads(agent.stats_file.read_text())["schema"] == 1


def test_control_answers_and_survives_nonsense(net: Net, tmp_path: Path) -> None:
    node, peer = net.pair()
    agent = net.agent(node, "rsu", "-p", "60000", "--name", "r1")
    stats = agent.stats()
    assert (stats["schema"], stats["name"], stats["kind"], stats["pid"]) == (
        1,
        "r1",
        "rsu",
        agent.pid,
    )
    assert stats["mac"] == node.mac().hex(":")
    assert stats["engines"]["wire"]["requested"] == "auto"
    assert stats["engines"]["tap"]["why"]
    with peer.raw() as sock:
        assert agent.ask("hello") == {"ok": True}
        wait_for(lambda: _is_heartbeat(sock), "a heartbeat out of turn")
    assert "unknown command" in agent.ask("fly")["error"]
    for line in (b"{\n", b"[1]\n", b"\xff\n", b"[" * 3000 + b"\n", b"x" * 20000, b""):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(agent.control))
            client.sendall(line)
            client.shutdown(socket.SHUT_WR)
            answer = client.makefile().read()
            assert not line or "error" in json.loads(answer.splitlines()[0])
    assert agent.stats()["kind"] == "rsu"
    assert agent.control.stat().st_mode & 0o777 == 0o600


def _is_heartbeat(sock: socket.socket) -> bool:
    try:
        return sock.recv(100)[14:16] == b"\0\0"
    except BlockingIOError:
        return False
