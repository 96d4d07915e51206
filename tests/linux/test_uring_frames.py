"""Every frame goes through a ring exactly once, in order and unchanged, on the wire and a TAP."""

from __future__ import annotations

import errno
import os
import resource
import select
import subprocess
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from linux_rig import (
    MTU_FRAME,
    SIZES,
    WIRE,
    WIRE_PEER,
    Side,
    addresses_of,
    carries,
    frame_of,
    frames_of,
    hear,
    ip,
    lengths_of,
    listen,
    quiet_up,
    rows_of,
    speak,
    until,
)

from agent.linux import packet, tap
from agent.linux.uring import Burst, Op, Ring, Stream, Watch

_READ = {"wire": Op.RECV, "tap": Op.READ_MULTISHOT}
_WRITE = {"wire": Op.SEND, "tap": Op.WRITE}
_STREAM = 1 << 40
_BURST = 1 << 41


@pytest.fixture
def ring() -> Iterator[Ring]:
    with Ring(128, cq_entries=1024) as made:
        made.register_ring()
        yield made


def _stream(ring: Ring, side: Side, rows: int, *, start: int = 0, files: bool = True) -> Stream:
    if files:
        ring.register_files([side.fd])
    stream = Stream(
        ring,
        np.zeros((rows, 2048), np.uint8),
        operation=_READ[side.kind],
        slot=0,
        file_index=0,
        group=0,
        user_data=_STREAM,
        start=start,
    )
    ring.enter()
    return stream


def _burst(ring: Ring, side: Side, capacity: int, *, operation: Op | None = None) -> Burst:
    ring.register_files([side.fd])
    return Burst(
        ring,
        operation=operation or _WRITE[side.kind],
        slot=1,
        capacity=capacity,
        file_index=0,
        user_data=_BURST,
    )


def _taken(stream: Stream, limit: int) -> list[bytes]:
    """Up to `limit` frames that lie in the stream's rows, released."""
    count = stream.ready(limit)
    head, start = stream.head, stream.start
    frames = [
        bytes(stream.rows[row, start : start + stream.length[row]])
        for row in range(head, head + count)
    ]
    stream.release(count)
    return frames


def _received(ring: Ring, stream: Stream, count: int, *, limit: int = 32) -> list[bytes]:
    frames: list[bytes] = []
    while len(frames) < count:
        if not stream.filled:
            ring.enter(1, timeout_us=5_000_000)
            assert ring.ready, f"nothing more after {len(frames)} frames"
            stream.absorb(ring.reap())
        frames += _taken(stream, limit)
    ring.enter()
    assert not ring.ready
    return frames


def _send(
    ring: Ring, burst: Burst, frames: Sequence[bytes], batch: int = 32
) -> list[tuple[int, int]]:
    """Send frames in batches; the place and error number of each that was not taken."""
    rows = rows_of(frames)
    address, length = addresses_of(rows), lengths_of(frames)
    failures: list[tuple[int, int]] = []
    for first in range(0, len(frames), batch):
        count = min(batch, len(frames) - first)
        burst.stage(address[first:], length[first:], count)
        assert ring.enter() == count
        for completion in ring.reap():
            place = first + int(completion["user_data"]) - _BURST
            failures.append((place, -int(completion["res"])))
    return failures


# -- streams ------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 64])
def test_frames_of_all_sizes_arrive_once_in_order_unchanged(
    ring: Ring, side: Side, start: int
) -> None:
    stream = _stream(ring, side, 256, start=start)
    sent = frames_of(700, SIZES)
    received: list[bytes] = []
    for first in range(0, len(sent), 100):
        side.offer(sent[first : first + 100])
        received += _received(ring, stream, min(100, len(sent) - first))
    assert received == sent
    assert stream.ended == 0
    assert not stream.rows[:, :start].any()


def test_one_frame_at_a_time_needs_no_arrays(ring: Ring, side: Side) -> None:
    stream = _stream(ring, side, 8)
    sent = frames_of(50, SIZES)
    received = []
    for frame in sent:
        side.offer([frame])
        ring.enter(1, timeout_us=5_000_000)
        completion = ring.reap_one()
        assert completion is not None
        assert completion[0] == _STREAM
        assert stream.absorb_one(*completion[1:]) == 1
        received += _taken(stream, 1)
    assert received == sent


def test_when_all_rows_are_full_frames_wait_and_none_is_lost(ring: Ring, side: Side) -> None:
    stream = _stream(ring, side, 8)
    sent = frames_of(30, SIZES)
    side.offer(sent)
    ring.enter(1, timeout_us=5_000_000)
    stream.absorb(ring.reap())
    assert stream.filled == 8
    assert not stream.armed
    assert stream.last_error == errno.ENOBUFS
    received = _taken(stream, 3)
    assert stream.armed
    received += _received(ring, stream, 27)
    assert received == sent


def test_completions_past_the_ring_wait_in_the_kernel(side: Side) -> None:
    with Ring(4, cq_entries=4) as ring:
        stream = _stream(ring, side, 64)
        sent = frames_of(50)
        side.offer(sent)
        assert _received(ring, stream, 50) == sent


def test_a_stream_goes_on_after_the_link_was_down(ring: Ring, side: Side) -> None:
    stream = _stream(ring, side, 16)
    sent = frames_of(20)
    side.offer(sent[:5])
    assert _received(ring, stream, 5) == sent[:5]
    side.link("down")
    ring.enter(1, timeout_us=10_000)
    while (completion := ring.reap_one()) is not None:
        assert stream.absorb_one(*completion[1:]) == 0
    side.link("up")
    carries(side.ifname)
    ring.enter()
    with speak(side.far.getsockname()[0]) as far:  # the old one may still report the past
        for frame in sent[5:]:
            far.send(frame)
    assert _received(ring, stream, 15) == sent[5:]


def test_a_vanished_device_is_an_error(ring: Ring, tap_side: Side) -> None:
    stream = _stream(ring, tap_side, 16)
    tap_side.offer(frames_of(3))
    assert len(_received(ring, stream, 3)) == 3
    ip("link", "delete", "dev", tap_side.ifname)
    ring.enter(1, timeout_us=5_000_000)
    with pytest.raises(OSError, match="multishot receive"):
        stream.absorb(ring.reap())
    assert not stream.armed


def test_two_streams_share_a_ring(ring: Ring, wire_side: Side) -> None:
    tap_fd, name = tap.open_tap("tbt-t")
    quiet_up(name)
    ring.register_files([wire_side.fd, tap_fd])
    streams = [
        Stream(
            ring,
            np.zeros((64, 2048), np.uint8),
            operation=operation,
            slot=place,
            file_index=place,
            group=place,
            user_data=place,
        )
        for place, operation in enumerate((Op.RECV, Op.READ_MULTISHOT))
    ]
    ring.enter()
    wire, inner = frames_of(40, SIZES), [frame_of(1000 + n, 100) for n in range(30)]
    with speak(name) as into_tap:
        for n in range(40):
            wire_side.offer(wire[n : n + 1])
            if n < 30:
                into_tap.send(inner[n])
    received: list[list[bytes]] = [[], []]
    while len(received[0]) + len(received[1]) < 70:
        ring.enter(1, timeout_us=5_000_000)
        completions = ring.reap().copy()
        assert len(completions)
        for place, stream in enumerate(streams):
            mine = completions[completions["user_data"] == place]
            if len(mine):
                stream.absorb(mine)
            received[place] += _taken(stream, 64)
    assert received == [wire, inner]
    os.close(tap_fd)


def test_closing_a_stream_takes_its_rows_from_the_kernel(ring: Ring, side: Side) -> None:
    stream = _stream(ring, side, 8)
    stream.close()
    again = Stream(
        ring,
        np.zeros((8, 2048), np.uint8),
        operation=_READ[side.kind],
        slot=2,
        file_index=0,
        group=0,
        user_data=2,
    )
    assert again.armed


@pytest.mark.parametrize("rows", [0, 3, 1 << 16])
def test_a_wrong_number_of_rows_is_refused(ring: Ring, rows: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        Stream(
            ring,
            np.zeros((rows, 64), np.uint8),
            operation=Op.RECV,
            slot=0,
            file_index=0,
            group=0,
            user_data=0,
        )


# -- bursts -------------------------------------------------------------------------------------


def test_bursts_keep_order_without_links(ring: Ring, side: Side) -> None:
    burst = _burst(ring, side, 64)
    sent = frames_of(6000, SIZES)
    for first in range(0, len(sent), 500):
        part = sent[first : first + 500]
        assert _send(ring, burst, part, 64) == []
        assert hear(side.far, len(part)) == part


def test_a_burst_of_one_needs_no_arrays(ring: Ring, side: Side) -> None:
    burst = _burst(ring, side, 4)
    sent = frames_of(20, SIZES)
    for frame in sent:
        row = rows_of([frame])
        burst.stage_one(row.ctypes.data, len(frame))
        assert ring.enter() == 1
        assert ring.reap_one() is None
    assert hear(side.far, 20) == sent


def test_a_burst_goes_out_of_registered_memory(ring: Ring, tap_side: Side) -> None:
    sent = frames_of(40, SIZES)
    rows = rows_of(sent)
    ring.register_buffers([rows.reshape(-1)])
    burst = _burst(ring, tap_side, 40, operation=Op.WRITE_FIXED)
    burst.stage(addresses_of(rows), lengths_of(sent), 40)
    assert ring.enter() == 40
    assert ring.ready == 0
    assert hear(tap_side.far, 40) == sent


@pytest.mark.parametrize(
    ("size_of_bad", "kinds"), [(13, {"tap": errno.EINVAL, "wire": errno.EINVAL})]
)
def test_a_bad_frame_fails_alone(
    ring: Ring, side: Side, size_of_bad: int, kinds: dict[str, int]
) -> None:
    burst = _burst(ring, side, 32)
    sent = frames_of(20)
    mixed = [*sent[:7], bytes(size_of_bad), *sent[7:]]
    assert _send(ring, burst, mixed) == [(7, kinds[side.kind])]
    assert hear(side.far, 20) == sent


def test_a_frame_past_the_mtu_fails_alone(ring: Ring, wire_side: Side) -> None:
    burst = _burst(ring, wire_side, 32)
    sent = frames_of(20)
    assert _send(ring, burst, [*sent[:3], bytes(MTU_FRAME + 1), *sent[3:]]) == [(3, errno.EMSGSIZE)]
    assert hear(wire_side.far, 20) == sent


def test_on_a_link_that_is_down_every_frame_fails_and_later_ones_go(ring: Ring, side: Side) -> None:
    burst = _burst(ring, side, 32)
    error = errno.ENETDOWN if side.kind == "wire" else errno.EIO
    side.link("down")
    failures = _send(ring, burst, frames_of(8))
    # A packet socket first reports that its link went down, then that it is down: one number.
    assert failures == [(place, error) for place in range(8)]
    side.link("up")
    carries(side.ifname)
    with listen(side.far.getsockname()[0]) as far:
        sent = frames_of(8)
        until(lambda: not _send(ring, burst, [frame_of(99, 64)]))
        hear(far, 1)
        assert _send(ring, burst, sent) == []
        assert hear(far, 8) == sent


def test_without_room_frames_fail_and_only_those_are_missing(ring: Ring, veth: None) -> None:
    subprocess.run(
        f"tc qdisc add dev {WIRE} root tbf rate 8mbit burst 2000 limit 1000000".split(),
        check=True,
    )
    with packet.open_packet_socket(WIRE, protocol=0) as sock, listen(WIRE_PEER) as far:
        packet.set_send_buffer(sock, 4608)
        side = Side("wire", WIRE, sock.fileno(), far)
        sent = frames_of(64, (1000,))
        failures = _send(ring, _burst(ring, side, 64), sent, 64)
        assert {number for _, number in failures} == {errno.EAGAIN}
        missing = {place for place, _ in failures}
        expected = [frame for place, frame in enumerate(sent) if place not in missing]
        assert 0 < len(expected) < 64
        assert hear(far, len(expected)) == expected


def test_more_than_the_capacity_is_refused(ring: Ring, side: Side) -> None:
    burst = _burst(ring, side, 4)
    frames = frames_of(8)
    rows = rows_of(frames)
    with pytest.raises(ValueError, match="at most 4"):
        burst.stage(addresses_of(rows), lengths_of(frames), 8)
    with pytest.raises(ValueError, match="slots"):
        Burst(ring, operation=Op.SEND, slot=1, capacity=1000, file_index=0, user_data=0)


# -- watches ------------------------------------------------------------------------------------


def test_a_watch_completes_for_every_time_something_comes(ring: Ring, side: Side) -> None:
    ring.register_files([side.fd])
    watch = Watch(ring, slot=0, file_index=0, user_data=9)
    ring.enter()
    assert ring.reap_one() is None
    for frame in frames_of(20):
        side.offer([frame])
        ring.enter(1, timeout_us=5_000_000)
        completion = ring.reap_one()
        assert completion is not None
        assert completion[0] == 9
        assert watch.absorb_one(*completion[1:]) & select.POLLIN
        assert os.read(side.fd, 2048) == frame
    assert watch.armed
    ring.enter()
    assert ring.reap_one() is None


def test_frames_that_come_between_looking_and_waiting_are_not_missed(
    ring: Ring, side: Side
) -> None:
    ring.register_files([side.fd])
    watch = Watch(ring, slot=0, file_index=0, user_data=9)
    ring.enter()
    sent = frames_of(6)
    side.offer(sent[:3])
    ring.enter(1, timeout_us=5_000_000)
    completion = ring.reap_one()
    assert completion is not None
    watch.absorb_one(*completion[1:])
    received = [os.read(side.fd, 2048) for _ in range(3)]
    side.offer(sent[3:])  # after the look, before the wait
    ring.enter(1, timeout_us=5_000_000)
    assert ring.reap_one() is not None
    received += [os.read(side.fd, 2048) for _ in range(3)]
    assert received == sent


# -- both ---------------------------------------------------------------------------------------


def test_a_relay_takes_one_system_call_a_batch(ring: Ring, wire_side: Side) -> None:
    """Receive, send and wait in one `enter`: the frames of the last batch leave with it."""
    out_fd, name = tap.open_tap("tbt-t")
    ip("link", "set", "dev", name, "txqueuelen", "8192")
    quiet_up(name)
    ring.register_files([wire_side.fd, out_fd])
    rows: npt.NDArray[np.uint8] = np.zeros((256, 2048), np.uint8)
    stream = Stream(ring, rows, operation=Op.RECV, slot=0, file_index=0, group=0, user_data=_STREAM)
    burst = Burst(ring, operation=Op.WRITE, slot=1, capacity=32, file_index=1, user_data=_BURST)
    ring.enter()
    sent = frames_of(128, SIZES)
    address = addresses_of(rows)
    enters, staged, relayed = 0, 0, 0
    with listen(name) as far:
        wire_side.offer(sent)
        while relayed < 128:
            if staged:  # sent by the last `enter`: the rows are free again
                stream.release(staged)
                staged = 0
            if stream.filled:
                staged = stream.ready(32)
                burst.stage(address[stream.head :], stream.length[stream.head :], staged)
            ring.enter(0 if staged else 1, timeout_us=5_000_000)
            enters += 1
            relayed += staged
            if ring.ready:
                stream.absorb(ring.reap())
        assert hear(far, 128) == sent
    # One to fetch what is there (in pieces, as the kernel does it), one for each batch of 32.
    assert enters <= 2 * 128 // 32 + 1
    os.close(out_fd)


def test_a_ring_made_after_fork_goes_on_without_any_right(side: Side) -> None:
    """As nobody, without a capability or locked memory: frames still come and go."""
    incoming, outgoing = frames_of(40, SIZES), [frame_of(500 + n, 100) for n in range(40)]
    pid = os.fork()
    if not pid:
        status = 1
        try:
            with Ring(128, cq_entries=256) as ring:
                ring.register_ring()
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
                resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
                stream = _stream(ring, side, 64)
                burst = Burst(
                    ring,
                    operation=_WRITE[side.kind],
                    slot=1,
                    capacity=64,
                    file_index=0,
                    user_data=_BURST,
                )
                assert _received(ring, stream, 40) == incoming
                assert _send(ring, burst, outgoing) == []
                status = 0
        finally:
            os._exit(status)
    side.offer(incoming)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert hear(side.far, 40) == outgoing
