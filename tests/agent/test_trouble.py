"""Damaged frames, and a radio that goes down and up in the middle of a batch, with every engine.

Whatever happens, the agent goes on, and each message that it took in has left or is counted.
"""

from __future__ import annotations

import os
import random
import signal
import socket
from typing import Any

import pytest
from agent_net import RADIO, TAP, Agent, Namespace, Net, wait_for

from agent.engines.base import Side
from agent.engines.registry import ENGINES
from agent.protocol.codec import encode
from agent.protocol.messages import DownstreamData, Heartbeat, UpstreamData

BROADCAST = b"\xff" * 6
CHILD = b"\x02\x00\x00\x00\x00\xbb"
RSU = b"\x02\x00\x00\x00\x00\xcc"
ETHERTYPE = b"\x88\xb5"
TURNS = 3
MODES = [
    pytest.param(name, "per-packet" if name == "per-packet" else "batched", id=name)
    for name, engine in ENGINES.items()
    if Side.WIRE in engine.sides
]


def _hello(peer: Namespace, hello_id: int) -> None:
    heartbeat = Heartbeat(
        receiver=BROADCAST,
        transmitter=peer.mac(),
        duration_ms=5000,
        hello_id=hello_id,
        hops=1,
        rsu=RSU,
    )
    with peer.raw(protocol=0) as sock:
        sock.send(encode(heartbeat))


def _upstream(to: bytes, number: int, size: int = 40) -> bytes:
    inner = RSU + CHILD + ETHERTYPE + number.to_bytes(4, "big") + bytes(size)
    return encode(UpstreamData(receiver=to, transmitter=CHILD, origin=CHILD, inner=inner))


def _damaged(rng: random.Random, own: bytes) -> bytes:
    """A frame that is for this node and that nobody can use; never a control message."""
    match rng.randrange(4):
        case 0:  # cut
            return _upstream(own, 0)[: rng.randrange(14, 36)]
        case 1:  # of a kind that does not exist
            frame = bytearray(_upstream(own, 0, rng.randrange(1400)))
            frame[14] = rng.randrange(2, 256)
            return bytes(frame)
        case 2:  # to nowhere
            inner = rng.randbytes(rng.randrange(14, 200))
            target = b"\x02" + rng.randbytes(5)
            data = DownstreamData(
                receiver=own, transmitter=CHILD, origin=CHILD, target=target, inner=inner
            )
            return encode(data)
        case _:  # noise
            return own + CHILD + b"\x30\x30" + bytes([rng.randrange(3, 256)]) + rng.randbytes(90)


def _numbers(sock: socket.socket, own: bytes) -> list[int]:
    numbers = []
    while True:
        try:
            frame = sock.recv(2048)
        except OSError:
            return numbers
        if frame[6:12] == own and frame[14:16] == b"\x01\x00" and frame[34:36] == ETHERTYPE:
            numbers.append(int.from_bytes(frame[36:40], "big"))


def _unaccounted(stats: dict[str, Any]) -> int:
    """Messages taken in that neither left nor are counted; the agent's own ones left."""
    drops = stats["drops"]
    joined = sum((int(n) - 1) * times for n, times in stats["carried"]["wire"].items())
    left = stats["wire"]["tx_frames"] + joined
    unsent = sum(n for cause, n in drops.items() if cause.startswith("wire_send_"))
    unsent += drops.get("wire_batch_too_long", 0)
    unused = sum(drops.get(cause, 0) for cause in ("no_upstream", "loop"))
    own = 2 * stats["messages"].get("heartbeat", 0)
    return int(
        stats["messages"]["upstream"] + stats["tap"]["rx_frames"] + own - unused - left - unsent
    )


@pytest.mark.parametrize(("engine", "handler"), MODES)
def test_damaged_frames_and_a_radio_that_goes_and_comes_back(
    net: Net, engine: str, handler: str
) -> None:
    node, peer = net.pair()
    agent = net.agent(node, "obu", "--quiet-tap", "--engine", engine, "--handler", handler)
    own = node.mac()
    rng = random.Random(4)
    with (
        peer.raw() as heard,
        peer.raw(protocol=0) as sock,
        node.raw(TAP, protocol=0) as application,
    ):
        numbers: list[int] = []
        for turn in range(TURNS):
            _join(agent, peer, turn)
            # So that batches form, and the radio is down before the first of them is sent.
            os.kill(agent.pid, signal.SIGSTOP)
            for number in range(200):
                sock.send(_upstream(own, 1000 * turn + number, rng.randrange(10, 1400)))
                if number % 3 == 0:
                    sock.send(_damaged(rng, own))
                if number % 5 == 0:
                    application.send(RSU + node.mac(TAP) + b"\x08\x00" + rng.randbytes(100))
            node.ip("link", "set", "dev", RADIO, "down")
            os.kill(agent.pid, signal.SIGCONT)
            # What AF_XDP holds it shows again when the radio is back.
            wait_for(
                lambda t=turn: (
                    agent.stats()["tap"]["rx_frames"] == 40 * (t + 1)
                    and (engine == "xsk" or _handled(agent) == 200 * (t + 1))
                ),
                "all is taken",
            )
            node.ip("link", "set", "dev", RADIO, "up")
        _join(agent, peer, TURNS)

        def passes() -> bool:
            sock.send(_upstream(own, 999_999))
            numbers.extend(_numbers(heard, own))
            return 999_999 in numbers

        wait_for(passes, "traffic resumes")
        wait_for(lambda: _handled(agent) > 200 * TURNS, "all has been handled")
        assert agent.process.poll() is None
        stats = agent.stats()
        numbers.extend(_numbers(heard, own))
    plain = [number for number in numbers if number != 999_999]
    assert plain == sorted(set(plain))
    assert stats["drops"]["truncated"] > 10
    assert stats["drops"]["unknown_type"] > 10
    assert stats["drops"]["no_route"] > 10
    assert stats["drops"]["wire_send_unreachable"] > 100
    assert _unaccounted(stats) == 0
    assert agent.stop() == 0


def _handled(agent: Agent) -> int:
    return int(agent.stats()["messages"].get("upstream", 0))


def _join(agent: Agent, peer: Namespace, turn: int) -> None:
    """Heartbeats until one has been heard: the link may have come up only now."""
    ids = iter(range(1000 * turn + 1, 1000 * turn + 1000))
    heard = agent.stats()["messages"].get("heartbeat", 0)

    def joined() -> bool:
        _hello(peer, next(ids))
        return bool(agent.stats()["messages"].get("heartbeat", 0) > heard)

    wait_for(joined, "it has an upstream")
