"""Running agents that let frames gather: fewer wake-ups, everything delivered, all of it told."""

from __future__ import annotations

import threading
import time

import pytest
from agent_net import Agent, Namespace, Net, wait_for
from test_live import joined, relayed, upstream

from agent.config import AgentConfig
from agent.linux import timers


def send_smoothly(peer: Namespace, to: bytes, *, frames: int, rate_pps: int) -> float:
    """Frames to relay, one by one at that pace; the pace that it came to."""
    start = time.monotonic()
    with peer.raw(protocol=0) as sock:
        for number in range(frames):
            pause = start + number / rate_pps - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            sock.send(upstream(to, 50, number))
    return frames / (time.monotonic() - start)


def relay(agent: Agent, peer: Namespace, *, frames: int, rate_pps: int) -> tuple[dict, dict, float]:
    """What the agent has counted before and after it relayed that traffic, and its real pace."""
    before = agent.stats()
    pace = send_smoothly(peer, agent.namespace.mac(), frames=frames, rate_pps=rate_pps)
    done = before["wire"]["tx_frames"] + frames
    wait_for(lambda: relayed(agent) >= done, "all are relayed")
    after = agent.stats()
    assert after["wire"]["kernel_drops"] == 0
    return before, after, pace


@pytest.mark.parametrize("handler", ["per-packet", "batched"])
@pytest.mark.parametrize("mode", ["fixed", "adaptive"])
def test_frames_gather_and_all_of_them_pass(net: Net, mode: str, handler: str) -> None:
    agent, peer = joined(net, "--coalesce", mode, "--max-wait", "5000", "--handler", handler)
    before, after, pace = relay(agent, peer, frames=3000, rate_pps=4000)
    told = after["coalescing"]
    assert (told["mode"], told["max_wait_us"]) == (mode, 5000)
    assert told["decisions"]["waited"] > 10
    assert told["waits"] >= told["decisions"]["waited"] - 1
    woken = after["wakeups"] - before["wakeups"]
    # Even a crowded machine leaves it half of what the arithmetic promises.
    assert woken < 3000 / (1 + 0.0025 * pace) * 2
    assert 0 < after["waited_ns"] - before["waited_ns"] < after["uptime_ns"]
    assert after["syscalls"]["clock_nanosleep"] == told["waits"]
    assert after["syscalls"]["epoll_wait"] == after["wakeups"]
    assert agent.stop() == 0


def send_together(agent: Agent, peer: Namespace, frames: int) -> None:
    """Frames to relay, as fast as they can be sent; back when all of them are."""
    done = relayed(agent) + frames
    own = agent.namespace.mac()
    with peer.raw(protocol=0) as sock:
        for number in range(frames):
            sock.send(upstream(own, 50, number))
    wait_for(lambda: relayed(agent) >= done, "all are relayed")


def test_few_frames_after_a_wait_are_taken_one_by_one_and_many_as_a_batch(net: Net) -> None:
    options = ("--coalesce", "fixed", "--max-wait", "10000", "--engine", "mmsg")
    agent, peer = joined(net, *options, "--handler", "batched")
    send_together(agent, peer, 5)  # from now on it is known that they are few
    before = agent.stats()["syscalls"]
    for _ in range(10):
        send_together(agent, peer, 5)
    few = agent.stats()["syscalls"]
    assert few["recvfrom"] - before["recvfrom"] >= 50
    assert few["recvmmsg"] == before["recvmmsg"]
    send_together(agent, peer, 200)
    many = agent.stats()["syscalls"]
    assert many["recvmmsg"] > few["recvmmsg"]
    assert many["recvfrom"] - few["recvfrom"] < 200


def test_what_is_to_leave_together_is_taken_as_a_batch_however_few(net: Net) -> None:
    options = ("--coalesce", "fixed", "--max-wait", "10000", "--engine", "aggregate")
    agent, peer = joined(net, *options, "--handler", "batched")
    send_together(agent, peer, 5)
    before = agent.stats()["syscalls"]
    for _ in range(10):
        send_together(agent, peer, 5)
    after = agent.stats()["syscalls"]
    assert after["recvmmsg"] - before["recvmmsg"] >= 10
    assert after.get("recvfrom", 0) == before.get("recvfrom", 0)


def test_adaptive_leaves_rare_frames_alone(net: Net) -> None:
    agent, peer = joined(net, "--coalesce", "adaptive", "--max-wait", "1000")
    _, after, _ = relay(agent, peer, frames=200, rate_pps=300)
    told = after["coalescing"]
    assert told["decisions"].get("waited", 0) == 0
    assert told["decisions"]["not_worth"] >= 190
    assert after["waited_ns"] == 0


@pytest.mark.parametrize("options", [[], ["--coalesce", "off", "--max-wait", "5000"]])
def test_off_is_the_default_and_never_waits(net: Net, options: list[str]) -> None:
    agent, peer = joined(net, *options)
    _, after, _ = relay(agent, peer, frames=500, rate_pps=4000)
    assert after["coalescing"]["mode"] == "off"
    assert after["coalescing"]["decisions"] == {}
    assert after["waited_ns"] == 0
    assert "clock_nanosleep" not in after["syscalls"]


def test_a_bound_alone_means_a_fixed_wait() -> None:
    assert AgentConfig(kind="obu", bind="radio0", max_wait_us=200).coalescing == "fixed"
    assert AgentConfig(kind="obu", bind="radio0").coalescing == "off"
    assert AgentConfig(kind="obu", bind="radio0", coalesce="off", max_wait_us=9).coalescing == "off"


def test_requests_and_heartbeats_are_not_forgotten_while_frames_gather(net: Net) -> None:
    node, peer = net.pair()
    agent = net.agent(node, "rsu", "-p", "50", "--coalesce", "fixed", "--max-wait", "10000")
    stop = threading.Event()
    own = node.mac()

    def load() -> None:
        while not stop.is_set():
            send_smoothly(peer, own, frames=100, rate_pps=2000)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        with peer.raw() as sock:
            heard = 0
            deadline = time.monotonic() + 20
            while heard < 10 and time.monotonic() < deadline:
                try:
                    heard += sock.recv(100)[14:16] == b"\0\0"
                except BlockingIOError:
                    time.sleep(0.001)
                assert agent.process.poll() is None
            assert heard == 10
        asked = time.monotonic()
        assert agent.stats()["coalescing"]["waits"] > 0
        assert time.monotonic() - asked < 2
    finally:
        stop.set()
        thread.join()
    assert agent.stop() == 0


def test_the_slack_of_timers_can_be_taken_away() -> None:
    found: list[int] = []

    def work() -> None:
        timers.set_slack_ns(1)
        found.append(timers.slack_ns())

    before = timers.slack_ns()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [1]
    assert timers.slack_ns() == before
    with pytest.raises(ValueError, match="least slack"):
        timers.set_slack_ns(0)
