"""The thin wrappers over the kernel do what their callers count on."""

from __future__ import annotations

import ipaddress
import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from agent_net import RADIO, Net, wait_for

from agent.linux import bpf, mmsg, netif, packet, rights, tap
from agent.protocol.codec import encode
from agent.protocol.messages import Heartbeat, HeartbeatReply

OWN_AND_GROUP = bpf.own_or_group_filter()
OTHER = b"\x02\x00\x00\x00\x00\x99"
PEER = b"\x02\x00\x00\x00\x00\x98"


def _control(to: bytes) -> tuple[bytes, bytes]:
    heartbeat = Heartbeat(
        receiver=to, transmitter=PEER, duration_ms=1, hello_id=1, hops=1, rsu=PEER
    )
    reply = HeartbeatReply(
        receiver=to, transmitter=PEER, duration_ms=1, hello_id=1, hops=1, rsu=PEER, sender=PEER
    )
    return encode(heartbeat), encode(reply)


def test_the_filter_passes_own_group_and_concatenated_frames_only(net: Net) -> None:
    node, peer = net.pair()
    own = node.mac()
    data = PEER + b"\x30\x30\x01\x00" + bytes(60)
    beat, reply = _control(OTHER)
    wanted = [
        own + data,
        b"\xff" * 6 + data,
        b"\x01\x00\x5e\x00\x00\x01" + data,
        beat + reply,
        reply + beat,
        own + reply[6:],
    ]
    unwanted = [OTHER + data, beat, reply, OTHER + PEER + b"\x30\x30\x02\x00" + bytes(90)]
    unwanted.append(own + PEER + b"\x08\x00" + bytes(60))  # another EtherType
    with node.entered():
        heard = packet.open_packet_socket(RADIO, filter=OWN_AND_GROUP)
    with heard, peer.raw(protocol=0) as sock:
        for frame in [*unwanted, *wanted]:
            sock.send(frame)
        got: list[bytes] = []

        def all_there() -> bool:
            try:
                while True:
                    got.append(heard.recv(2048))
            except BlockingIOError:
                return len(got) >= len(wanted)

        wait_for(all_there, "the wanted frames")
        assert got == wanted
        assert packet.packet_statistics(heard) == (len(wanted), 0)
        assert packet.packet_statistics(heard) == (0, 0)


def test_frames_beyond_the_buffer_are_counted(net: Net) -> None:
    node, peer = net.pair()
    with node.entered():
        heard = packet.open_packet_socket(RADIO, rcvbuf_bytes=4096)
    with heard, peer.raw(protocol=0) as sock:
        for _ in range(200):
            sock.send(b"\xff" * 6 + PEER + b"\x30\x30" + bytes(500))
        seen = [0, 0]

        def all_counted() -> bool:
            packets, drops = packet.packet_statistics(heard)
            seen[0] += packets
            seen[1] += drops
            return seen[0] == 200

        wait_for(all_counted, "every frame is counted")
        assert seen[1] > 100


def test_programs_that_jump_out_of_themselves_are_refused() -> None:
    with pytest.raises(ValueError, match="jumps out"):
        bpf.assemble([(bpf.JEQ_K, 0, 1, 0), (bpf.RET_K, 0, 0, 0)])
    with pytest.raises(ValueError, match="1 to 4096"):
        bpf.assemble([])


def test_control_messages_come_with_each_received_message(net: Net) -> None:
    """The kernel's receive time stands in the row of its frame, call after call."""
    node, peer = net.pair()
    so_timestampns = 35
    with node.entered():
        heard = packet.open_packet_socket(RADIO)
    heard.setsockopt(socket.SOL_SOCKET, so_timestampns, 1)
    table = mmsg.MsgTable(np.zeros((8, 256), np.uint8), control_size=64)
    with heard, peer.raw(protocol=0) as sock:
        for _ in range(3):
            for size in (60, 70):
                sock.send((b"\xff" * 6 + PEER + b"\x30\x30" + bytes(100))[:size])
            received: list[int] = []

            def take() -> bool:
                try:
                    count = table.recv(heard.fileno(), 8, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    return False
                received.extend(table.msg_len[:count].tolist())  # noqa: B023
                assert table.controllen[:count].tolist() == [32] * count
                seconds = table.control[0, 16:24].view(np.int64)[0]
                assert abs(seconds - time.time()) < 60
                return len(received) == 2  # noqa: B023

            wait_for(take, "two frames")
            assert received == [60, 70]


def test_a_frame_longer_than_its_row_is_marked(net: Net) -> None:
    node, peer = net.pair()
    with node.entered():
        heard = packet.open_packet_socket(RADIO)
    table = mmsg.MsgTable(np.zeros((2, 128), np.uint8))
    table.reset_receive(offset=64)
    with heard, peer.raw(protocol=0) as sock:
        sock.send(b"\xff" * 6 + PEER + b"\x30\x30" + bytes(100))
        wait_for(lambda: _try(lambda: table.recv(heard.fileno(), 2, socket.MSG_DONTWAIT)), "it")
    assert table.msg_len[0] == 64
    assert table.flags[0] & socket.MSG_TRUNC
    assert bytes(table.buffers[0, 64:70]) == b"\xff" * 6
    assert not table.buffers[0, :64].any()


def _try(receive: object) -> bool:
    try:
        return bool(receive())  # type: ignore[operator]
    except BlockingIOError:
        return False


def test_interfaces_are_read_and_changed(net: Net) -> None:
    node, _ = net.pair()
    with node.entered():
        fd, name = tap.open_tap("tap0")
        try:
            netif.set_mac(name, OTHER)
            netif.set_mtu(name, 1300)
            assert (netif.mac(name), netif.mtu(name)) == (OTHER, 1300)
            assert not netif.flags(name) & netif.IFF_UP
            netif.set_up(name)
            assert netif.flags(name) & netif.IFF_UP
            for text in ("10.1.2.3/24", "fd00:5::1/64", "10.1.9.9/32"):
                netif.add_address(name, ipaddress.ip_interface(text))
            with pytest.raises(FileExistsError):
                netif.add_address(name, ipaddress.ip_interface("10.1.2.3/24"))
            found = netif.addresses()
            for text in ("10.1.2.3", "fd00:5::1", "10.1.9.9"):
                assert found[ipaddress.ip_address(text)] == name
            os.write(fd, b"\xff" * 6 + PEER + b"\x88\xb5" + bytes(46))
            assert netif.counters(name).rx_packets == 1
            index = netif.index(name)
            assert netif.exists(index)
            with pytest.raises(OSError, match="busy"):
                tap.open_tap("tap0")
        finally:
            os.close(fd)
        assert not netif.exists(index)
        for call in (netif.index, netif.mac, netif.mtu, netif.counters):
            with pytest.raises(OSError, match="No such device"):
                call(name)
        with pytest.raises(OSError, match="not an Ethernet"):
            netif.mac("lo")


@pytest.mark.parametrize("user", ["None", "(65534, 65534)"])
def test_dropped_rights_do_not_come_back(root: None, user: str) -> None:
    """Neither by setuid nor by a program that root may run with every right."""
    script = f"""
import os, socket, subprocess, sys
from agent.linux import rights
left = rights.drop_all({user})
assert left.none_left and left == rights.rights_of(), left
attempts = [lambda: os.setgroups([0]), lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)]
if {user}:
    attempts += [lambda: os.setuid(0), lambda: os.setgid(0)]
for attempt in attempts:
    try:
        attempt()
    except PermissionError:
        continue
    raise SystemExit("rights came back")
status = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True).stdout
assert [line.split()[1] for line in status.splitlines() if line.startswith("Cap")] == ["0" * 16] * 5
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_rights_of_another_process_are_read(root: None) -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert rights.rights_of(other.pid).has(rights.CAP_NET_ADMIN)
        assert not rights.rights_of(other.pid).none_left
    finally:
        other.communicate(b"\n")
