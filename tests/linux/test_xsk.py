"""AF_XDP: the program picks the protocol's frames, each arrives and leaves exactly once."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from agent.linux.xsk import MODE_GENERIC, MODE_NATIVE, Attachment, XskCycle, XskTransmit

MODES = {"generic": MODE_GENERIC, "native": MODE_NATIVE}


CHUNK = 2048
SLOTS = 128


@dataclass
class Node:
    """A socket on WIRE fed by the program."""

    xsk: XskCycle

    def take(self, limit: int = 32) -> list[bytes]:
        count = self.xsk.ready(limit)
        rows, start = range(self.xsk.head, self.xsk.head + count), self.xsk.frame_start
        frames = [bytes(self.xsk.frames[row, start:][: self.xsk.length[row]]) for row in rows]
        self.xsk.release(count)
        return frames

    def receive(self, count: int) -> list[bytes]:
        frames: list[bytes] = []
        while len(frames) < count and select.select([self.xsk], [], [], 5)[0]:
            frames += self.take()
        assert self.xsk.ready(1) == 0
        return frames

    def relay(self, count: int, source: bytes) -> None:
        """Send on what has arrived, up to `count` frames, from where it lies, with this source."""
        sock = self.xsk
        while count:
            found = sock.ready(min(count, 32))
            rows = slice(sock.head, sock.head + found)
            start = sock.frame_start
            sock.frames[rows, start + 6 : start + 12] = np.frombuffer(source, np.uint8)
            places = np.arange(rows.start, rows.stop, dtype=np.uint64) * CHUNK + start
            assert sock.send(places, sock.length[rows]) == (found, 1)
            sock.release(found)
            count -= found


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> int:
    return MODES[request.param]


@pytest.fixture
def node(veth: None, mode: int) -> Iterator[Node]:
    index = netif.index(WIRE)
    attachment = Attachment(index, netif.mac(WIRE), mode=mode)
    with _cycle(index, SLOTS) as sock:
        attachment.feed(0, sock.fileno())
        yield Node(sock)
        attachment.close()


def _cycle(index: int, slots: int, *, queue: int = 0) -> XskCycle:
    return XskCycle(index, slots=slots, lent=0, chunk_bytes=CHUNK, queue=queue)


@pytest.fixture
def sender(veth: None) -> Iterator[XskTransmit]:
    """A socket without a program: sending needs none, neither here nor at the far end."""
    with XskTransmit(netif.index(WIRE), chunks=64, chunk_bytes=CHUNK, entries=64) as sock:
        yield sock


def _send(sock: XskTransmit, frames: Sequence[bytes]) -> tuple[int, int]:
    """Write frames into rows and send them: how many went, and by how many calls."""
    for row, frame in zip(sock.frames, frames, strict=False):
        row[: len(frame)] = np.frombuffer(frame, np.uint8)
    places = np.arange(len(frames), dtype=np.uint64) * CHUNK
    return sock.send(places, np.array([len(frame) for frame in frames], np.uint32))


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
    frame = frame_of(0, MTU_FRAME)
    with speak(WIRE_PEER) as far:
        far.send(frame)
    until(lambda: node.xsk.ready(1) == 1)
    assert node.xsk.frame_start >= xsk.RX_HEADROOM
    node.xsk.frames[node.xsk.head, : node.xsk.frame_start] = 0xEE
    assert node.take() == [frame]


def test_with_nothing_to_receive_into_frames_are_dropped_and_it_goes_on(node: Node) -> None:
    sent = frames_of(200)
    with speak(WIRE_PEER) as far:
        for frame in sent:
            far.send(frame)
        received = node.receive(SLOTS)
        assert received == sent[:SLOTS]
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


def test_frames_of_all_sizes_go_once_in_order_unchanged(sender: XskTransmit) -> None:
    sent = frames_of(1000, SIZES)
    with listen(WIRE_PEER) as far:
        for first in range(0, len(sent), 50):
            part = sent[first : first + 50]
            assert _send(sender, part) == (50, 1)
            assert hear(far, 50) == part


def test_frames_still_queued_at_the_far_end_keep_their_bytes(sender: XskTransmit) -> None:
    sent = frames_of(200, (1000,))
    with listen(WIRE_PEER) as far:
        for first in range(0, 200, 50):
            assert _send(sender, sent[first : first + 50]) == (50, 1)
            sender.frames[:] = 0xEE
        assert hear(far, 200) == sent


def test_while_the_link_is_down_nothing_goes_and_nothing_stays_queued(sender: XskTransmit) -> None:
    sent = frames_of(8)
    ip("link", "set", "dev", WIRE, "down")
    assert _send(sender, frames_of(20))[0] == 0
    ip("link", "set", "dev", WIRE, "up")
    carries(WIRE, WIRE_PEER)
    with listen(WIRE_PEER) as far:
        assert _send(sender, sent)[0] == 8
        assert hear(far, 8) == sent


# -- both ---------------------------------------------------------------------------------------


def test_frames_are_sent_on_from_where_they_were_received(node: Node) -> None:
    """A relay: rewritten in place, no copy, for longer than the rows go round once."""
    sent = frames_of(500, SIZES)
    source = b"\x02\x00\x00\x00\x00\x77"
    expected = [frame[:6] + source + frame[12:] for frame in sent]
    with speak(WIRE_PEER) as far, listen(WIRE_PEER) as back:
        for first in range(0, 500, 50):
            for frame in sent[first : first + 50]:
                far.send(frame)
            node.relay(50, source)
            assert hear(back, 50) == expected[first : first + 50]


def test_a_socket_is_refused_where_it_cannot_work(veth: None) -> None:
    index = netif.index(WIRE)
    with _cycle(index, 8), pytest.raises(OSError, match="bind") as raised:
        _cycle(index, 8)
    assert raised.value.errno == errno.EBUSY
    with pytest.raises(OSError, match="bind"):
        _cycle(index, 8, queue=5)
    with pytest.raises(ValueError, match="power of two"):
        _cycle(index, 6)


def test_closing_gives_memory_and_queue_back(veth: None) -> None:
    before = set(os.listdir("/proc/self/fd"))
    index = netif.index(WIRE)

    def opened() -> bool:
        """The kernel frees the queue of a closed socket a moment later, from a work queue."""
        nonlocal sock
        try:
            sock = _cycle(index, 64)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            return False
        return True

    sock: XskCycle
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
                node.relay(20, SENDER)
                refused, why = xsk.probe()
                status = 0 if not refused and "CAP_NET_RAW" in why else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert hear(back, 20) == sent
