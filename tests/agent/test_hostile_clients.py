"""Whatever is said to an agent's sockets, it goes on relaying and answering."""

from __future__ import annotations

import json
import random
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

from agent_net import Agent, Namespace, Net, wait_for
from test_live import joined, load, relayed

from agent.control import MAX_CLIENTS, MAX_UNSENT_BYTES
from agent.linux.rights import rights_of

METRICS = "127.0.0.1:9100"


def connect(agent: Agent) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(str(agent.control))
    return client


def memory_kib(agent: Agent) -> int:
    text = Path(f"/proc/{agent.pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS"))


def answers(agent: Agent) -> bool:
    try:
        return bool(agent.stats())
    except (OSError, ValueError):
        return False


def still_well(agent: Agent) -> None:
    before = relayed(agent)
    wait_for(lambda: relayed(agent) > before + 100, "it relays")


def nonsense(rng: random.Random) -> bytes:
    """A line, several, or none, of what is no request."""
    kinds = [
        lambda: rng.randbytes(rng.randrange(1, 3000)),
        lambda: b"[" * rng.randrange(1, 4000) + b"\n",
        lambda: b'{"cmd": ' * rng.randrange(1, 400) + b"\n",
        lambda: b'{"cmd": ["stats"], "cmd": {"x": 1e999}}\n',
        lambda: b'{"cmd": ' + b"9" * rng.randrange(1, 4000) + b"}\n",
        lambda: b'{"cmd": "\\ud800"}\n',
        lambda: b'{"cmd": null}\n\n\n\0\n{}\n',
        lambda: b"x" * rng.randrange(4000, 100_000),
        lambda: b"GET / HTTP/1.1\r\n\r\n",
    ]
    return b"".join(rng.choice(kinds)() for _ in range(rng.randrange(1, 4)))


def test_nonsense_on_the_control_socket_is_answered_or_cut_off(net: Net, seed: int) -> None:
    agent, peer = joined(net)
    rng = random.Random(seed)
    with load(peer, agent.namespace.mac()):
        for _ in range(300):
            with connect(agent) as client, suppress(BrokenPipeError, ConnectionResetError):
                client.sendall(nonsense(rng))
                if rng.random() < 0.5:
                    client.shutdown(socket.SHUT_WR)
                    answers = client.makefile("rb").read().splitlines()
                    assert all("error" in json.loads(answer) for answer in answers)
        still_well(agent)
    assert agent.stop() == 0


def test_clients_that_say_nothing_keep_others_out_only_while_they_stay(net: Net) -> None:
    agent, peer = joined(net)
    with load(peer, agent.namespace.mac()):
        still_well(agent)
        with ExitStack() as stack:
            silent = [stack.enter_context(connect(agent)) for _ in range(MAX_CLIENTS)]
            for client in silent:
                client.sendall(b'{"cmd": ')
            with connect(agent) as one_more:
                assert one_more.recv(1) == b""  # it is told by being closed
        wait_for(lambda: answers(agent), "there is room again")
        still_well(agent)


def test_a_client_that_asks_and_does_not_read_costs_no_memory_and_no_frames(net: Net) -> None:
    agent, peer = joined(net)
    wanted = b'{"cmd": "stats"}\n' * 20_000
    answer_bytes = len(json.dumps(agent.stats()))
    assert len(wanted) // 17 * answer_bytes > 100 * MAX_UNSENT_BYTES
    with load(peer, agent.namespace.mac()), ExitStack() as stack:
        before_kib = memory_kib(agent)
        clients = [stack.enter_context(connect(agent)) for _ in range(4)]
        for client in clients:
            client.setblocking(False)
            with suppress(BlockingIOError):
                sent = 0
                while sent < len(wanted):
                    sent += client.send(wanted[sent:])
        still_well(agent)
        assert memory_kib(agent) < before_kib + 16 * 1024
        # What is taken is followed by more, in order and whole.
        clients[0].setblocking(True)
        clients[0].settimeout(10)
        lines = clients[0].makefile("rb")
        for _ in range(200):
            assert json.loads(lines.readline())["kind"] == "obu"


def test_slow_and_broken_http_clients_are_left_behind(net: Net, seed: int) -> None:
    agent, peer = joined(net, "--metrics", METRICS)
    rng = random.Random(seed)
    with load(peer, agent.namespace.mac()):
        for _ in range(30):
            with http(agent.namespace) as client, suppress(OSError):
                client.sendall(rng.randbytes(rng.randrange(1, 2000)) + b"\r\n\r\n")
                client.shutdown(socket.SHUT_WR)
                answer = client.makefile("rb").read()
                assert answer == b"" or answer.split(b" ", 2)[1] in (b"400", b"405")
        with http(agent.namespace) as endless, suppress(OSError):
            for _ in range(100):
                endless.sendall(b"GET /metrics HTTP/1.1\r\nx: " + b"y" * 1000)
        still_well(agent)
        with http(agent.namespace) as client:
            client.sendall(b"GET /stats HTTP/1.1\r\n\r\n")
            assert client.makefile("rb").read().startswith(b"HTTP/1.1 200 OK")
        assert rights_of(agent.pid).none_left


def http(namespace: Namespace) -> socket.socket:
    with namespace.entered():
        return socket.create_connection(("127.0.0.1", 9100), timeout=10)
