"""AF_XDP: the program picks the protocol's frames, each arrives and leaves exactly once."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from linux_rig import (
    GROUP,
    MTU_FRAME,
    SENDER,
    SIZES,
    WIRE,
    WIRE_PEER,
    carries,
    frame_of,
    frames_of,
    hear,
    ip,
    listen,
    speak,
    until,
)

from agent.linux import netif, xsk
from agent.linux.xsk import MODE_GENERIC, MODE_NATIVE, Attachment, XskSocket

MODES = {"generic": MODE_GENERIC, "native": MODE_NATIVE}


@dataclass
class Node:
    """A socket on WIRE fed by the program."""

    xsk: XskSocket
    attachment: Attachment
    received: list[bytes] = field(default_factory=list)

    def take(self, limit: int = 32) -> list[bytes]:
        addresses, lengths = self.xsk.receive(limit)
        frames = [
            bytes(self.xsk.flat[address : address + length])
            for address, length in zip(addresses.tolist(), lengths.tolist(), strict=True)
        ]
        self.xsk.release(addresses)
        self.xsk.refill()
        return frames

    def receive(self, count: int) -> list[bytes]:
        frames: list[bytes] = []
        while len(frames) < count and select.select([self.xsk], [], [], 5)[0]:
            frames += self.take()
        assert self.xsk.ready == 0
        return frames


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> int:
    return MODES[request.param]


@pytest.fixture
def node(veth: None, mode: int) -> Iterator[Node]:
    index = netif.index(WIRE)
    attachment = Attachment(index, netif.mac(WIRE), mode=mode)
    with XskSocket(index, chunks=256) as sock:
        attachment.feed(0, sock.fileno())
        yield Node(sock, attachment)
        attachment.close()


@pytest.fixture
def sender(veth: None) -> Iterator[XskSocket]:
    """A socket without a program: sending needs none, neither here nor at the far end."""
    with XskSocket(netif.index(WIRE), chunks=128) as sock:
        yield sock


def _put(sock: XskSocket, frames: Sequence[bytes]) -> int:
    """Write frames into free chunks and queue them; how many the ring took."""
    count = min(len(frames), sock.free)
    chunks = sock.take(count)
    for address, frame in zip(chunks.tolist(), frames, strict=False):
        sock.flat[address : address + len(frame)] = np.frombuffer(frame, np.uint8)
    lengths = np.array([len(frame) for frame in frames[:count]], np.uint32)
    queued = sock.transmit(chunks, lengths)
    sock.release(chunks[queued:])
    return queued


def test_the_probe_says_yes_here_and_leaves_nothing(root: None) -> None:
    before, links = set(os.listdir("/proc/self/fd")), ip("-o", "link", "show")
    assert xsk.probe() == (True, "")
    assert set(os.listdir("/proc/self/fd")) == before
    assert ip("-o", "link", "show") == links


# -- the program --------------------------------------------------------------------------------

HEARTBEAT = b"\x30\x30\x00\x00" + bytes(30)
REPLY = b"\x30\x30\x00\x01" + bytes(36)
FOREIGN = b"\x02\xaa\xaa\xaa\xaa\xaa"


def test_the_program_takes_what_the_socket_filter_takes(node: Node) -> None:
    own = netif.mac(WIRE)
    taken = [
        frame_of(1, 60),
        frame_of(2, 60, to=own),
        frame_of(3, 60, to=b"\x33\x33\x00\x00\x00\x01"),
        GROUP + SENDER + b"\x30\x30",
        own + SENDER + b"\x30\x30",
        FOREIGN + SENDER + HEARTBEAT + own + SENDER + REPLY,
        FOREIGN + SENDER + REPLY + own + SENDER + HEARTBEAT,
        FOREIGN + SENDER + HEARTBEAT + b"x",
        FOREIGN + SENDER + REPLY + b"x",
    ]
    left = [
        frame_of(4, 60, to=FOREIGN),
        FOREIGN + SENDER + HEARTBEAT,
        FOREIGN + SENDER + REPLY,
        FOREIGN + SENDER + b"\x30\x30\x00\x02" + bytes(100),
        FOREIGN + SENDER + b"\x30\x30",
        FOREIGN + SENDER + b"\x30\x30\x00",
        own[:5] + bytes([own[5] ^ 1]) + SENDER + b"\x30\x30\x01\x00" + bytes(60),
        bytes([own[0] ^ 2]) + own[1:] + SENDER + b"\x30\x30\x01\x00" + bytes(60),
        own + SENDER + b"\x08\x00" + bytes(60),
        GROUP + SENDER + b"\x30\x31" + bytes(60),
    ]
    with listen(WIRE, protocol=3) as stack, speak(WIRE_PEER) as far:
        for frame in [*taken, *left]:
            far.send(frame)
        assert node.receive(len(taken)) == taken
        # Everything else goes on to the network stack, where every other tool still sees it.
        assert hear(stack, len(left)) == left


def test_without_a_socket_for_the_queue_frames_go_to_the_stack(veth: None, mode: int) -> None:
    attachment = Attachment(netif.index(WIRE), netif.mac(WIRE), mode=mode)
    with listen(WIRE) as stack, speak(WIRE_PEER) as far:
        for frame in frames_of(5):
            far.send(frame)
        assert hear(stack, 5) == frames_of(5)
    attachment.close()


def _program() -> bool:
    return "xdp" in ip("-o", "link", "show", "dev", WIRE)


def test_the_program_goes_when_closed_and_cannot_be_attached_twice(veth: None, mode: int) -> None:
    index, mac = netif.index(WIRE), netif.mac(WIRE)
    attachment = Attachment(index, mac, mode=mode)
    assert _program()
    with pytest.raises(OSError, match="bpf link") as raised:
        Attachment(index, mac, mode=mode)
    assert raised.value.errno == errno.EBUSY
    attachment.close()
    attachment.close()
    assert not _program()


def test_the_program_goes_when_its_process_is_killed(veth: None, mode: int) -> None:
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            kept = Attachment(netif.index(WIRE), netif.mac(WIRE), mode=mode)
            signal.pause()
            kept.close()
        os._exit(1)
    until(_program)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    until(lambda: not _program())


def test_the_fastest_mode_that_the_device_has_is_taken(veth: None) -> None:
    attachment, why = xsk.attach(netif.index(WIRE), netif.mac(WIRE))
    assert (attachment.mode, why) == (MODE_NATIVE, "")
    attachment.close()
    ip("link", "set", "dev", "lo", "up")
    attachment, why = xsk.attach(netif.index("lo"), bytes(6))
    assert attachment.mode == MODE_GENERIC
    assert "no native XDP" in why
    attachment.close()


# -- receiving ----------------------------------------------------------------------------------


def test_frames_of_all_sizes_arrive_once_in_order_unchanged(node: Node) -> None:
    sent = frames_of(1000, SIZES)
    received: list[bytes] = []
    with speak(WIRE_PEER) as far:
        for first in range(0, len(sent), 50):
            for frame in sent[first : first + 50]:
                far.send(frame)
            received += node.receive(50)
    assert received == sent
    statistics = node.xsk.statistics()
    statistics.pop("tx_ring_empty_descs")  # counts the polls: each of them tries to send
    assert set(statistics.values()) == {0}


def test_there_is_room_in_front_of_a_received_frame(node: Node) -> None:
    with speak(WIRE_PEER) as far:
        far.send(frame_of(0, MTU_FRAME))
    until(lambda: node.xsk.ready == 1)
    addresses, _ = node.xsk.receive(1)
    assert int(addresses[0]) % node.xsk.chunk_bytes >= xsk.RX_HEADROOM
    node.xsk.release(addresses)


def test_with_nothing_to_receive_into_frames_are_dropped_and_it_goes_on(node: Node) -> None:
    sent = frames_of(200)
    with speak(WIRE_PEER) as far:
        for frame in sent:
            far.send(frame)
        received = node.receive(128)
        assert received == sent[:128]
        # After the first ones went through the socket's hands the rest finds room again.
        for frame in sent[:10]:
            far.send(frame)
        assert node.receive(10) == sent[:10]


def test_it_goes_on_after_the_link_was_down(node: Node) -> None:
    sent = frames_of(20)
    with speak(WIRE_PEER) as far:
        for frame in sent[:10]:
            far.send(frame)
        assert node.receive(10) == sent[:10]
    ip("link", "set", "dev", WIRE, "down")
    ip("link", "set", "dev", WIRE, "up")
    carries(WIRE, WIRE_PEER)
    with speak(WIRE_PEER) as far:
        for frame in sent[10:]:
            far.send(frame)
    assert node.receive(10) == sent[10:]


# -- sending ------------------------------------------------------------------------------------


def test_frames_of_all_sizes_go_once_in_order_unchanged(sender: XskSocket) -> None:
    sent = frames_of(1000, SIZES)
    done = 0
    with listen(WIRE_PEER) as far:
        while done < len(sent):
            count = _put(sender, sent[done : done + 50])
            assert sender.kick() == 0
            assert hear(far, count) == sent[done : done + count]
            done += count
            sender.reclaim()
    assert sender.in_flight == 0


def test_one_call_sends_a_batch(sender: XskSocket) -> None:
    sent = frames_of(64, (MTU_FRAME,))
    with listen(WIRE_PEER) as far:
        assert _put(sender, sent) == 64
        assert sender.unsent == 64
        assert sender.kick() == 0
        assert hear(far, 64) == sent


def test_frames_still_queued_at_the_far_end_keep_their_bytes(sender: XskSocket) -> None:
    sent = frames_of(200, (1000,))
    with listen(WIRE_PEER) as far:
        for first in range(0, 200, 50):
            assert _put(sender, sent[first : first + 50]) == 50
            assert sender.kick() == 0
            sender.reclaim()
            sender.memory[:] = 0xEE
        assert hear(far, 200) == sent


def test_while_the_link_is_down_frames_stay_queued(sender: XskSocket) -> None:
    sent = frames_of(8)
    ip("link", "set", "dev", WIRE, "down")
    assert _put(sender, sent) == 8
    with pytest.raises(OSError, match="down"):
        sender.kick()
    assert sender.unsent == 8
    ip("link", "set", "dev", WIRE, "up")
    carries(WIRE, WIRE_PEER)
    with listen(WIRE_PEER) as far:
        assert sender.kick() == 0
        assert hear(far, 8) == sent


def test_a_full_transmit_ring_takes_no_more(sender: XskSocket) -> None:
    sent = frames_of(64)
    assert _put(sender, sent) == 64
    assert sender.free == 0
    with pytest.raises(ValueError, match="0 are free"):
        sender.take(1)
    with listen(WIRE_PEER) as far:
        assert sender.kick() == 0
        assert hear(far, 64) == sent
    assert sender.reclaim() == 64
    assert sender.free == 64


# -- both ---------------------------------------------------------------------------------------


def test_frames_are_sent_on_from_where_they_were_received(node: Node) -> None:
    """A relay: rewritten in place, no copy, and in the end every chunk is where it was."""
    sock = node.xsk
    sent = frames_of(500, SIZES)
    expected = [frame[:6] + b"\x02\x00\x00\x00\x00\x77" + frame[12:] for frame in sent]
    chunks = sock.free + sock._fill.used
    assert chunks == 256
    source = np.frombuffer(b"\x02\x00\x00\x00\x00\x77", np.uint8)
    with speak(WIRE_PEER) as far, listen(WIRE_PEER) as back:
        for first in range(0, 500, 50):
            for frame in sent[first : first + 50]:
                far.send(frame)
            relayed = 0
            while relayed < 50:
                addresses, lengths = sock.receive(32)
                sock.flat[addresses[:, None] + np.arange(6, 12, dtype=np.uint64)] = source
                assert sock.transmit(addresses, lengths) == len(addresses)
                assert sock.kick() == 0
                relayed += len(addresses)
                sock.reclaim()
                sock.refill()
            assert hear(back, 50) == expected[first : first + 50]
    assert sock.in_flight == 0
    assert sock.free + sock._fill.used == chunks


def test_a_socket_is_refused_where_it_cannot_work(veth: None) -> None:
    index = netif.index(WIRE)
    with XskSocket(index, chunks=8), pytest.raises(OSError, match="bind") as raised:
        XskSocket(index, chunks=8)
    assert raised.value.errno == errno.EBUSY
    with pytest.raises(OSError, match="bind"):
        XskSocket(index, queue=5, chunks=8)
    with pytest.raises(ValueError, match="powers of two"):
        XskSocket(index, chunks=6)


def test_closing_gives_memory_and_queue_back(veth: None) -> None:
    before = set(os.listdir("/proc/self/fd"))
    index = netif.index(WIRE)

    def opened() -> bool:
        """The kernel frees the queue of a closed socket a moment later, from a work queue."""
        nonlocal sock
        try:
            sock = XskSocket(index, chunks=64)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            return False
        return True

    sock: XskSocket
    for _ in range(3):
        until(opened)
        view = sock.memory
        view[:] = 1
        sock.close()
        sock.close()
        assert not view.any()
    assert set(os.listdir("/proc/self/fd")) == before
    assert "socket:" not in Path("/proc/self/maps").read_text()


def test_rights_are_needed_to_open_and_not_to_go_on(node: Node, mode: int) -> None:
    """As nobody, without a capability: the open socket receives and sends, a new one is refused."""
    with speak(WIRE_PEER) as far, listen(WIRE_PEER) as back:
        sent = frames_of(20)
        for frame in sent:
            far.send(frame)
        pid = os.fork()
        if not pid:
            status = 1
            try:
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
                resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
                addresses, lengths = node.xsk.receive(32)
                assert node.xsk.transmit(addresses, lengths) == 20
                assert node.xsk.kick() == 0
                refused, why = xsk.probe()
                status = 0 if not refused and "CAP_NET_RAW" in why else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert hear(back, 20) == sent


def test_frames_can_be_sent_with_a_socket_that_only_polls(sender: XskSocket) -> None:
    """Polling drives sending too, in copy mode."""
    sent = frames_of(10)
    with listen(WIRE_PEER) as far:
        assert _put(sender, sent) == 10
        select.select([sender], [], [], 0)
        assert hear(far, 10) == sent
