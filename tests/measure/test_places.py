"""The kernel's counters are read where the losses are, and read right."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from agent.linux import netif
from agent.linux.packet import open_packet_socket, packet_statistics
from testbed.kernel import netns
from testbed.kernel.netns import run_in
from testbed.measure import places

FRAME = b"\x02" * 12 + b"\x30\x30" + bytes(100)


@pytest.fixture
def alone(root: None, testbed_name: str) -> Iterator[str]:
    """A namespace with nothing in it but a loopback that is up."""
    name = f"{testbed_name}-p"
    with netns.directory():
        inode = netns.create(name, prepare=lambda: netif.set_up("lo"), record=lambda _: None)
    try:
        yield name
    finally:
        netns.remove(name, inode)
        netns.tidy_directory()


def send(count: int) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        sock.bind(("lo", 0))
        for _ in range(count):
            sock.send(FRAME)


def test_what_a_socket_has_no_room_for_is_read_from_outside(alone: str) -> None:
    with run_in(alone, lambda: open_packet_socket("lo", rcvbuf_bytes=2048)) as deaf:
        before = places.namespace_counts(alone)
        run_in(alone, lambda: send(200))
        after = places.namespace_counts(alone)
        inode = os.fstat(deaf.fileno()).st_ino
        found = after.sockets[inode]
        arrived, dropped = packet_statistics(deaf)
        assert arrived == 200
        assert after.socket_drops("lo", 0x3030, before) == found.drops == dropped > 150
        assert found.queued_bytes > 0
        assert found.protocol == 0x3030
        assert found.ifindex == after.ifindex["lo"]
    assert after.sockets_told
    assert inode not in places.namespace_counts(alone).sockets


def test_what_nobody_listens_to_is_read_from_the_interface(alone: str) -> None:
    before = places.namespace_counts(alone).links["lo"]
    run_in(alone, lambda: send(30))
    change = places.namespace_counts(alone).links["lo"].since(before)
    assert change.tx_packets == change.rx_packets == change.rx_dropped == 30
    assert change.tx_dropped == change.rx_errors == change.tx_errors == 0


def test_only_the_namespace_that_was_asked_for_is_looked_at(alone: str) -> None:
    assert set(places.namespace_counts(alone).links) == {"lo"}
    assert places.namespace_counts(alone).sockets == {}


def test_a_namespace_that_is_not_there_is_told(root: None) -> None:
    with pytest.raises(FileNotFoundError):
        places.namespace_counts("tbt-nowhere")


def test_every_cpu_has_a_backlog() -> None:
    before = places.softnet()
    assert len(before) >= len(os.sched_getaffinity(0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(100):
            sock.sendto(b"x", ("127.0.0.1", 9))
    processed = sum(cpu.processed for cpu in places.softnet())
    assert processed - sum(cpu.processed for cpu in before) >= 100
