"""What users do inside a shipped topology: ping and TCP over the TAPs, seen on the air as well."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from testbed.kernel import netns
from testbed.topology.loader import load_topology
from testbed.topology.model import RADIO_INTERFACE, RADIO_MTU, Topology
from testbed.traffic import layer

pytestmark = pytest.mark.usefixtures("root", "run_dir")

TESTBED = (sys.executable, "-m", "testbed")
ETH_P_ALL = 3
SO_RCVBUFFORCE = 33
ETHERNET_HEADER_BYTES = 14
LITTLE = ("-n", "8M", "--connect-timeout", "2000", "-J")


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (*TESTBED, *arguments), capture_output=True, text=True, check=False, timeout=60
    )


@contextmanager
def up(shipped: str, name: str) -> Iterator[Topology]:
    done = command("up", shipped, "-n", name, "--wait", "30s")
    try:
        assert done.returncode == 0, done.stderr
        yield load_topology(shipped, name=name)
    finally:
        down = command("down", name)
    assert down.returncode == 0, down.stderr


@contextmanager
def heard(namespace: str) -> Iterator[list[bytes]]:
    """What arrives at the radio of one node, as the kernel shows it to a capture.

    And some of what it sends: not what leaves by AF_XDP.
    """
    frames: list[bytes] = []
    sock = netns.run_in(
        namespace, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    )
    with sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)
        sock.bind((RADIO_INTERFACE, ETH_P_ALL))
        sock.settimeout(0.1)
        done = threading.Event()

        def listen() -> None:
            while True:
                try:
                    frames.append(sock.recv(65536))
                except TimeoutError:
                    if done.is_set():
                        return

        listener = threading.Thread(target=listen)
        listener.start()
        try:
            yield frames
        finally:
            done.set()
            listener.join()


@pytest.mark.parametrize("shipped", ["line", "highway"])
def test_every_obu_reaches_its_rsu_with_the_users_own_ping(shipped: str, testbed_name: str) -> None:
    with up(shipped, testbed_name) as topology:
        joined = json.loads(command("inspect", "-n", testbed_name, "--format", "json").stdout)
        rsu_of = {node["name"]: (node["upstream"] or {}).get("rsu") for node in joined["nodes"]}
        for obu in topology.obus:
            rsu = topology.node(rsu_of[obu.name])
            for address in (rsu.ipv4.ip, rsu.ipv6.ip):
                done = command(
                    *("exec", "-n", testbed_name, obu.name, "--"),
                    *("ping", "-n", "-c", "1", "-W", "5", str(address)),
                )
                assert done.returncode == 0, (obu.name, rsu.name, done.stdout, done.stderr)


def test_every_pair_of_a_cell_reaches_each_other(testbed_name: str) -> None:
    with up("cell", testbed_name) as topology:
        done = command("ping", "-n", testbed_name, "--format", "json")
        assert done.returncode == 0, done.stderr
        pairs = json.loads(done.stdout)["pairs"]
        count = len(topology.nodes)
        assert len(pairs) == 2 * count * (count - 1)
        assert all(pair["received"] > 0 for pair in pairs)


def test_tcp_crosses_two_radio_hops_in_frames_that_dissect_and_fit(
    testbed_name: str, tmp_path: Path
) -> None:
    with up("line", testbed_name) as topology:
        rsu, relay, obu = (topology.node(name) for name in ("rsu1", "obu1", "obu2"))
        in_rsu, in_obu = (
            ("ip", "netns", "exec", netns.namespace_name(testbed_name, node.name))
            for node in (rsu, obu)
        )
        with (tmp_path / "server").open("w+") as log:
            server = subprocess.Popen(
                (*in_rsu, "iperf3", "-s", "-1", "--forceflush"),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                with (
                    heard(netns.namespace_name(testbed_name, relay.name)) as first_hop,
                    heard(netns.namespace_name(testbed_name, rsu.name)) as second_hop,
                ):
                    # It may not listen yet: the client is the one who finds out.
                    for _ in range(50):
                        client = subprocess.run(
                            (*in_obu, "iperf3", "-c", str(rsu.ipv4.ip), *LITTLE),
                            capture_output=True,
                            text=True,
                            check=False,
                            timeout=60,
                        )
                        if client.returncode == 0:
                            break
                        assert server.poll() is None, log.seek(0) or log.read()
            finally:
                server.kill()
                server.wait()
        # The server stops counting when the client has handed over its last byte.
        received = json.loads(client.stdout)["end"]["sum_received"]["bytes"]
        assert received >= 2 << 20, client.stdout
    for hop in (first_hop, second_hop):
        assert sum(len(frame) for frame in hop) > received, "each frame is heard on each hop"
    frames = first_hop + second_hop
    assert max(map(len, frames)) <= RADIO_MTU + ETHERNET_HEADER_BYTES
    assert [problem for frame in frames if (problem := layer.problem(frame))] == []
