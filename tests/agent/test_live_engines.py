"""Agents on engines of their own kernel memory: without rights, through trouble, to a quick end."""

from __future__ import annotations

import os
import signal
import socket
import time

import pytest
from agent_net import RADIO, TAP, Agent, Namespace, Net, wait_for

from agent.linux import rights
from agent.protocol.codec import encode
from agent.protocol.messages import Heartbeat, UpstreamData

BROADCAST = b"\xff" * 6
CHILD = b"\x02\x00\x00\x00\x00\xbb"
RSU = b"\x02\x00\x00\x00\x00\xcc"
NOBODY = 65534
ETHERTYPE = 0x88B5
ENGINES = [
    pytest.param(("uring", "uring"), id="uring"),
    pytest.param(("ring", "uring"), id="ring"),
    pytest.param(("xsk", "uring"), id="xsk"),
    pytest.param(("xsk-tx", "uring"), id="xsk-tx"),
]


def _joined(net: Net, engines: tuple[str, str], *options: str) -> tuple[Agent, Namespace]:
    node, peer = net.pair()
    wire, tap = engines
    agent = net.agent(node, "obu", "--quiet-tap", "--engine", wire, "--tap-engine", tap, *options)
    _hello(agent, peer)
    return agent, peer


def _hello(agent: Agent, peer: Namespace) -> None:
    heartbeat = Heartbeat(
        receiver=BROADCAST,
        transmitter=peer.mac(),
        duration_ms=5000,
        hello_id=1,
        hops=1,
        rsu=RSU,
    )
    with peer.raw() as sock:
        sock.send(encode(heartbeat))
    agent.wait_event("upstream", mac=peer.mac().hex(":"))


def _upstream(to: bytes, number: int) -> bytes:
    inner = RSU + CHILD + ETHERTYPE.to_bytes(2, "big") + number.to_bytes(4, "big") + bytes(40)
    return encode(UpstreamData(receiver=to, transmitter=CHILD, origin=CHILD, inner=inner))


def _numbers(sock: socket.socket, own: bytes) -> list[int]:
    """What the agent has relayed so far, by number."""
    numbers = []
    while True:
        try:
            frame = sock.recv(2048)
        except OSError:
            return numbers
        if frame[6:12] == own and frame[14:16] == b"\x01\x00":
            numbers.append(int.from_bytes(frame[36:40], "big"))


@pytest.mark.parametrize("engines", ENGINES)
def test_it_works_on_without_any_rights(net: Net, engines: tuple[str, str]) -> None:
    agent, peer = _joined(net, engines, "--user", f"{NOBODY}:{NOBODY}")
    left = rights.rights_of(agent.pid)
    assert left.none_left
    assert left.uids == (NOBODY,) * 4
    own = agent.namespace.mac()
    with (
        peer.raw() as heard,
        peer.raw(protocol=0) as sock,
        agent.namespace.raw(TAP, protocol=0) as application,
    ):
        for number in range(200):
            sock.send(_upstream(own, number))
        relayed: list[int] = []
        wait_for(lambda: relayed.extend(_numbers(heard, own)) or len(relayed) >= 200, "relayed")
        assert relayed == list(range(200))
        inner = BROADCAST + agent.namespace.mac(TAP) + ETHERTYPE.to_bytes(2, "big")
        for number in range(200):
            application.send(inner + number.to_bytes(4, "big") + bytes(40))
        wait_for(lambda: relayed.extend(_numbers(heard, own)) or len(relayed) >= 400, "from TAP")
    stats = agent.stats()
    assert stats["engines"]["wire"]["used"], stats["engines"]["tap"]["used"] == engines
    assert stats["drops"] == {}


@pytest.mark.parametrize("engines", ENGINES)
def test_the_radio_may_go_down_and_up_under_load(net: Net, engines: tuple[str, str]) -> None:
    agent, peer = _joined(net, engines)
    own = agent.namespace.mac()
    with peer.raw() as heard, peer.raw(protocol=0) as sock:
        numbers: list[int] = []
        for turn in range(3):
            for number in range(300):
                _try(sock, _upstream(own, 1000 * turn + number))
                if number == 150:
                    agent.namespace.ip("link", "set", "dev", RADIO, "down")
            agent.namespace.ip("link", "set", "dev", RADIO, "up")
            last = 1000 * turn + 999

            def passes(last: int = last) -> bool:
                _try(sock, _upstream(own, last))
                numbers.extend(_numbers(heard, own))
                return last in numbers

            wait_for(passes, "traffic again after the link is up")
    plain = [number for number in numbers if number % 1000 != 999]
    assert plain == sorted(set(plain))

    # It sleeps again: a socket whose error nobody takes would keep it awake.
    def quiet() -> bool:
        before = agent.stats()["wakeups"]
        time.sleep(0.2)
        return bool(agent.stats()["wakeups"] - before < 10)

    wait_for(quiet, "no wake-ups without traffic")
    assert agent.stop() == 0


def _try(sock: socket.socket, frame: bytes) -> None:
    try:
        sock.send(frame)
    except OSError:
        time.sleep(0.001)


@pytest.mark.parametrize("engines", ENGINES)
def test_what_finds_no_room_while_it_sleeps_is_counted(net: Net, engines: tuple[str, str]) -> None:
    agent, peer = _joined(net, engines)
    own = agent.namespace.mac()
    sent = 16_000
    with peer.raw() as heard, peer.raw(protocol=0) as sock:
        os.kill(agent.pid, signal.SIGSTOP)
        for number in range(sent):
            sock.send(_upstream(own, number))
        os.kill(agent.pid, signal.SIGCONT)
        numbers: list[int] = []

        def settled() -> bool:
            numbers.extend(_numbers(heard, own))
            stats = agent.stats()
            lost = stats["wire"]["kernel_drops"] + stats["drops"].get("wire_receive_ring_full", 0)
            return bool(lost and stats["messages"].get("upstream", 0) + lost == sent)

        wait_for(settled, "all are forwarded or counted")
        numbers.extend(_numbers(heard, own))
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("engines", ENGINES)
def test_one_that_is_killed_leaves_its_interfaces_to_the_next(
    net: Net, engines: tuple[str, str]
) -> None:
    agent, _ = _joined(net, engines, "--tap-name", TAP)
    for _ in range(3):
        os.kill(agent.pid, signal.SIGKILL)
        agent.process.wait()
        agent = net.agent(
            agent.namespace,
            "obu",
            "--quiet-tap",
            "--tap-name",
            TAP,
            "--engine",
            engines[0],
            "--tap-engine",
            engines[1],
        )
    assert agent.stop() == 0


def test_a_tap_is_read_and_written_in_batches(net: Net) -> None:
    agent, peer = _joined(net, ("mmsg", "auto"))
    assert agent.stats()["engines"]["tap"]["used"] == "uring"
    own = agent.namespace.mac()
    with peer.raw() as heard, agent.namespace.raw(TAP, protocol=0) as application:
        os.kill(agent.pid, signal.SIGSTOP)
        inner = BROADCAST + agent.namespace.mac(TAP) + ETHERTYPE.to_bytes(2, "big")
        for number in range(320):
            application.send(inner + number.to_bytes(4, "big") + bytes(40))
        os.kill(agent.pid, signal.SIGCONT)
        relayed: list[int] = []
        wait_for(lambda: relayed.extend(_numbers(heard, own)) or len(relayed) >= 320, "relayed")
    assert relayed == list(range(320))
    calls = agent.stats()["syscalls"]
    assert calls["io_uring_enter"] <= 13
    assert calls["read"] <= 10


def test_frame_by_frame_a_tap_is_left_to_plain_calls(net: Net) -> None:
    agent, _ = _joined(net, ("auto", "auto"), "--handler", "per-packet")
    used = {side: one["used"] for side, one in agent.stats()["engines"].items()}
    assert used == {"wire": "per-packet", "tap": "per-packet"}
