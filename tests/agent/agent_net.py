"""Namespaces, links and agents for tests; none of them has a name outside of these namespaces."""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.linux import netif

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000

RADIO = "radio0"
TAP = "tap0"


def wait_for(predicate: Callable[[], Any], what: str, timeout: float = 20.0) -> Any:
    """The first true answer of `predicate`; the test fails if there is none in time."""
    deadline = time.monotonic() + timeout
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout:g} s: {what}")
        time.sleep(0.01)


class Namespace:
    """A network namespace without a name, alive as long as this object is open."""

    def __init__(self) -> None:
        made: list[int] = []

        def make() -> None:
            if _libc.unshare(_CLONE_NEWNET) == 0:
                made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if not made:
            pytest.fail("cannot make a network namespace")
        self.fd = made[0]
        self.path = f"/proc/{os.getpid()}/fd/{self.fd}"
        with self.entered():
            netif.set_up("lo")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread is in the namespace; sockets and processes made here stay in it."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            assert _libc.setns(self.fd, _CLONE_NEWNET) == 0
            yield
        finally:
            assert _libc.setns(before, _CLONE_NEWNET) == 0
            os.close(before)

    def ip(self, *arguments: str) -> None:
        self.run("ip", *arguments)

    def run(self, *command: str) -> str:
        with self.entered():
            done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def mac(self, ifname: str = RADIO) -> bytes:
        with self.entered():
            return netif.mac(ifname)

    def raw(self, ifname: str = RADIO, *, protocol: int = 0x3030) -> socket.socket:
        """A plain packet socket of the test's own: no filter, non-blocking."""
        with self.entered():
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
            sock.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)
            sock.bind((ifname, protocol))
        return sock

    def close(self) -> None:
        os.close(self.fd)


@dataclass
class Agent:
    """A running agent, its events and its control socket."""

    process: subprocess.Popen[bytes]
    namespace: Namespace
    events_fd: int
    control: Path
    stats_file: Path
    log: Path
    events: list[dict[str, Any]] = field(default_factory=list)
    _rest: bytes = b""

    @property
    def pid(self) -> int:
        return self.process.pid

    def poll_events(self) -> list[dict[str, Any]]:
        while select.select([self.events_fd], [], [], 0)[0]:
            data = os.read(self.events_fd, 1 << 16)
            if not data:
                break
            self._rest += data
        *lines, self._rest = self._rest.split(b"\n")
        self.events += [json.loads(line) for line in lines]
        return self.events

    def wait_event(self, kind: str, timeout: float = 20.0, **wanted: Any) -> dict[str, Any]:
        """The first event of that kind with those values, heard by now or in time."""

        def find() -> dict[str, Any] | None:
            if self.process.poll() is not None and kind != "stopped":
                self.poll_events()
            for event in self.poll_events():
                if event["event"] == kind and wanted.items() <= event.items():
                    return event
            if self.process.poll() is not None:
                pytest.fail(f"the agent ended with {self.process.poll()}: {self.log.read_text()}")
            return None

        return wait_for(find, f"event {kind} {wanted}", timeout)

    def ask(self, cmd: str) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(5)
            sock.connect(str(self.control))
            sock.sendall(json.dumps({"cmd": cmd}).encode() + b"\n")
            with sock.makefile() as file:
                return json.loads(file.readline())

    def stats(self) -> dict[str, Any]:
        return self.ask("stats")

    def stop(self, timeout: float = 20.0) -> int:
        """SIGTERM, and the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)


class Net:
    """Makes namespaces, links and agents, and takes all of them away again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._namespaces: list[Namespace] = []
        self._agents: list[Agent] = []
        self._sockets: list[socket.socket] = []

    def namespace(self) -> Namespace:
        made = Namespace()
        self._namespaces.append(made)
        return made

    def pair(self) -> tuple[Namespace, Namespace]:
        """Two namespaces whose radio interfaces hear each other."""
        one, other = self.namespace(), self.namespace()
        self._veth(one, RADIO, other, RADIO)
        return one, other

    def line(self, count: int) -> list[Namespace]:
        """Three namespaces in a line: the middle one hears both others, they only the middle."""
        assert count == 3
        medium = self.namespace()
        medium.ip("link", "add", "name", "air", "type", "bridge", "mcast_snooping", "0")
        medium.ip("link", "set", "dev", "air", "up")
        nodes = []
        for number in range(count):
            node = self.namespace()
            nodes.append(node)
            port = f"p{number}"
            self._veth(medium, port, node, RADIO)
            medium.ip("link", "set", "dev", port, "master", "air")
            isolated = "off" if number == 1 else "on"
            medium.ip("link", "set", "dev", port, "type", "bridge_slave", "isolated", isolated)
        return nodes

    @staticmethod
    def _veth(one: Namespace, name: str, other: Namespace, other_name: str) -> None:
        one.ip(*f"link add name {name} type veth peer name {other_name} netns {other.path}".split())
        for namespace, ifname in ((one, name), (other, other_name)):
            with namespace.entered():
                netif.set_ipv6_option(ifname, "disable_ipv6", 1)
                netif.set_up(ifname)
        # A link that came up drops what it is given first.
        protocol = 0x88B6
        probe = b"\xff" * 6 + one.mac(name) + protocol.to_bytes(2, "big") + bytes(46)
        with one.raw(name, protocol=protocol) as a, other.raw(other_name, protocol=protocol) as b:
            for sender, hearer in ((a, b), (b, a)):
                wait_for(
                    lambda s=sender, h=hearer: (
                        s.send(probe) and select.select([h], [], [], 0.01)[0]
                    ),
                    f"the link {name} carries frames",
                )

    def agent(self, namespace: Namespace, kind: str, *options: str, ready: bool = True) -> Agent:
        """`testbed-agent KIND --bind radio0 …` in that namespace; ready when this returns."""
        number = len(self._agents)
        control = self._directory / f"a{number}.sock"
        stats_file = self._directory / f"a{number}.json"
        log = self._directory / f"a{number}.log"
        events, events_end = os.pipe()
        own = ["--control", control, "--stats-file", stats_file, "--event-fd", events_end]
        command = [sys.executable, "-m", "agent.cli", kind, "--bind", RADIO, "--tap-name", TAP]
        with namespace.entered(), log.open("wb") as file:
            process = subprocess.Popen(
                [*command, *map(str, own), *options],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                pass_fds=[events_end],
            )
        os.close(events_end)
        agent = Agent(process, namespace, events, control, stats_file, log)
        self._agents.append(agent)
        if ready:
            agent.wait_event("ready")
        return agent

    def close(self) -> None:
        for agent in self._agents:
            if agent.process.poll() is None:
                agent.process.kill()
            agent.process.wait()
            os.close(agent.events_fd)
        for namespace in self._namespaces:
            namespace.close()


def ping(source: Namespace, address: str, *, count: int = 3, timeout: float = 5.0) -> int:
    """Echo requests answered, of `count` sent one after the other."""
    six = ":" in address
    family, protocol = (
        (socket.AF_INET6, socket.IPPROTO_ICMPV6) if six else (socket.AF_INET, socket.IPPROTO_ICMP)
    )
    with source.entered():
        sock = socket.socket(family, socket.SOCK_RAW, protocol)
    answered = 0
    identity = os.getpid() & 0xFFFF
    with sock:
        for number in range(count):
            body = struct.pack("!HH", identity, number) + b"are you there?"
            request, reply = (128, 129) if six else (8, 0)
            packet = struct.pack("!BBH", request, 0, 0) + body
            if not six:  # the kernel fills in ICMPv6's own
                packet = struct.pack("!BBH", request, 0, _checksum(packet)) + body
            sock.sendto(packet, (address, 0))
            deadline = time.monotonic() + timeout
            while (left := deadline - time.monotonic()) > 0:
                if not select.select([sock], [], [], left)[0]:
                    break
                data = sock.recv(2048)
                data = data if six else data[(data[0] & 15) * 4 :]
                if data[0] == reply and data[4:] == body:
                    answered += 1
                    break
    return answered


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
