"""Running agents tell what they count: by HTTP, on the control socket, and in the log."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from agent_net import Agent, Namespace, Net, wait_for
from test_live import heartbeat, joined, load, relayed, upstream

HANDLERS = ["per-packet", "batched"]
PORT = 9100
LISTEN = f"127.0.0.1:{PORT}"


def connect(namespace: Namespace, address: str = "127.0.0.1") -> socket.socket:
    with namespace.entered():
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        sock.settimeout(10)
        try:
            sock.connect((address, PORT))
        except OSError:
            sock.close()
            raise
    return sock


def get(
    namespace: Namespace, path: str, *, address: str = "127.0.0.1", method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and content."""
    with connect(namespace, address) as sock:
        sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = b""
        while part := sock.recv(1 << 16):
            answer += part
    head, _, content = answer.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in rest)
    return int(first.split()[1]), headers, content


def test_http_serves_metrics_and_json_in_the_own_namespace(net: Net) -> None:
    agent, peer = joined(net, "--metrics", LISTEN)
    with peer.raw(protocol=0) as sock:
        for number in range(50):
            sock.send(upstream(agent.namespace.mac(), 50, number))
    wait_for(lambda: relayed(agent) >= 50, "all are relayed")
    status, headers, content = get(agent.namespace, "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    assert int(headers["Content-Length"]) == len(content)
    assert b'testbed_agent_received_packets_total{side="wire"} 51.0' in content
    assert b'testbed_agent_candidate_hops{current="true"' in content
    status, headers, content = get(agent.namespace, "/stats")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    told, asked = json.loads(content), agent.stats()
    assert told["wire"] == asked["wire"]
    assert told.keys() == asked.keys()
    with pytest.raises(ConnectionRefusedError):
        get(peer, "/metrics")
    assert agent.stop() == 0


@pytest.mark.parametrize(
    ("listen", "addresses"),
    [(f"[::1]:{PORT}", ["::1"]), (f":{PORT}", ["::1", "127.0.0.1", "10.7.0.2"])],
)
def test_where_it_listens(net: Net, listen: str, addresses: list[str]) -> None:
    agent, _ = joined(net, "--metrics", listen, "--ip", "10.7.0.2/24")
    for address in addresses:
        assert get(agent.namespace, "/metrics", address=address)[0] == 200


def test_what_is_no_question_gets_an_answer_too(net: Net) -> None:
    agent, _ = joined(net, "--metrics", LISTEN)
    assert get(agent.namespace, "/")[0] == 404
    assert get(agent.namespace, "/metrics", method="POST")[0] == 405
    status, headers, content = get(agent.namespace, "/metrics", method="HEAD")
    assert (status, content) == (200, b"")
    assert int(headers["Content-Length"]) > 1000
    for request in (b"\r\n\r\n", b"fly away please\r\n\r\n", b"\xff\x00\r\n\r\n"):
        with connect(agent.namespace) as sock:
            sock.sendall(request)
            assert b"400" in sock.recv(1000).split(b"\r\n")[0]
    with connect(agent.namespace) as sock:
        sock.sendall(b"GET /metrics HTTP/1.1\r\n")  # and goes away in the middle
    with connect(agent.namespace) as endless:
        # A line without an end is cut off.
        endless.sendall(b"x" * 10_000)
        assert closed(endless)
    assert get(agent.namespace, "/metrics")[0] == 200


def closed(sock: socket.socket) -> bool:
    """Whether the other side ended it without a word."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_client_that_says_nothing_keeps_the_others_waiting_for_a_bounded_time(net: Net) -> None:
    agent, _ = joined(net, "--metrics", LISTEN)
    with connect(agent.namespace):
        begun = time.monotonic()
        assert get(agent.namespace, "/metrics")[0] == 200
        assert time.monotonic() - begun < 8
        asked = time.monotonic()
        agent.stats()
        assert time.monotonic() - asked < 1
    with connect(agent.namespace):
        begun = time.monotonic()
        assert agent.stop() == 0
        assert time.monotonic() - begun < 8


def test_an_address_that_nobody_has_is_refused_at_once(net: Net) -> None:
    node, _ = net.pair()
    agent = net.agent(node, "obu", "--metrics", "192.0.2.1:9100", ready=False)
    assert agent.process.wait(20) == 2
    assert "metrics: cannot listen on 192.0.2.1:9100" in agent.log.read_text()
    taken = net.agent(node, "obu", "--metrics", "nonsense", ready=False)
    assert taken.process.wait(20) == 2
    assert "expected an address and a port" in taken.log.read_text()


def test_nothing_listens_unless_asked_to(net: Net) -> None:
    agent, _ = joined(net)
    assert agent.namespace.run("ss", "-Hltn") == ""


def test_the_control_socket_has_them_too(net: Net) -> None:
    agent, _ = joined(net)
    answer = agent.ask("metrics")
    assert answer["content_type"].startswith("text/plain")
    assert "testbed_agent_info{" in answer["text"]
    assert agent.stats()["kind"] == "obu"


def test_answers_keep_the_order_of_the_questions(net: Net) -> None:
    agent, _ = joined(net)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(agent.control))
        client.sendall(b'{"cmd":"metrics"}\n{"cmd":"stats"}\n{"cmd":"metrics"}\n{"cmd":"fly"}\n')
        client.shutdown(socket.SHUT_WR)
        answers = [json.loads(line) for line in client.makefile()]
    assert [set(one) & {"text", "wakeups", "error"} for one in answers] == [
        {"text"},
        {"wakeups"},
        {"text"},
        {"error"},
    ]


def test_clients_that_leave_before_their_answer_do_no_harm(net: Net) -> None:
    agent, _ = joined(net)
    for _ in range(30):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(agent.control))
            client.sendall(b'{"cmd":"metrics"}\n')
    wait_for(lambda: "text" in agent.ask("metrics"), "it still answers")
    assert agent.stop() == 0
    assert "Traceback" not in agent.log.read_text()


@pytest.mark.parametrize("handler", HANDLERS)
def test_scrapes_under_load_lose_nothing(net: Net, handler: str) -> None:
    agent, peer = joined(net, "--metrics", LISTEN, "--handler", handler)
    stop = threading.Event()
    scraped: list[int] = []

    def scrape() -> None:
        while not stop.is_set():
            scraped.append(get(agent.namespace, "/metrics")[0])

    with load(peer, agent.namespace.mac()), background(scrape, stop):
        time.sleep(0.5)
        asked = agent.stats()
        assert asked["wire"]["rx_frames"] > 100
    wait_for(lambda: len(scraped) > 3, "scrapes came back")
    assert set(scraped) == {200}
    assert agent.stop() == 0


@contextmanager
def background(work: object, stop: threading.Event) -> Iterator[None]:
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_queues_show_what_waits_in_the_kernel(net: Net) -> None:
    agent, _ = joined(net)
    queues = agent.stats()["queues"]
    assert queues["tap"] is None
    assert queues["wire"]["receive"]["bytes"] == 0
    assert queues["wire"]["receive"]["limit_bytes"] >= 1 << 20


def lines(agent: Agent) -> list[dict[str, int]]:
    """The trace lines of the log, as numbers."""
    found = re.findall(
        r"batch sent wire_count=(\d+) tap_count=(\d+) wire_bytes=(\d+) tap_bytes=(\d+)$",
        agent.log.read_text(),
        re.MULTILINE,
    )
    names = ("wire_count", "tap_count", "wire_bytes", "tap_bytes")
    return [dict(zip(names, map(int, one), strict=True)) for one in found]


@pytest.mark.parametrize("handler", HANDLERS)
def test_each_batch_is_traced(net: Net, handler: str) -> None:
    agent, peer = joined(net, "--log-level", "trace", "--handler", handler)
    with peer.raw(protocol=0) as sock:
        for number in range(100):
            sock.send(upstream(agent.namespace.mac(), 50, number))
    wait_for(lambda: relayed(agent) >= 100, "all are relayed")
    assert agent.stop() == 0
    traced = lines(agent)
    sent = json.loads(agent.stats_file.read_text())
    # What the node sends by itself has no line: nothing does here but the heartbeat's answer.
    assert sum(one["wire_count"] for one in traced) == sent["wire"]["tx_frames"]
    assert sum(one["wire_bytes"] for one in traced) == sent["wire"]["tx_bytes"]
    assert all(one["tap_count"] == one["tap_bytes"] == 0 for one in traced)


def test_a_level_above_has_no_trace(net: Net) -> None:
    agent, peer = joined(net, "--log-level", "debug")
    with peer.raw() as sock:
        sock.send(heartbeat(peer.mac(), 2))
    wait_for(lambda: relayed(agent) >= 3, "it is passed on")
    assert agent.stop() == 0
    assert lines(agent) == []
