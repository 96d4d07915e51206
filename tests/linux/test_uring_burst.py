"""Every frame of a burst leaves exactly once, in order and unchanged, on the wire and a TAP."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from collections.abc import Iterator, Sequence

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
    lengths_of,
    listen,
    rows_of,
    until,
)

from agent.linux import packet
from agent.linux.uring import Burst, Op, Ring

_WRITE = {"wire": Op.SEND, "tap": Op.WRITE}
_BURST = 1 << 41


@pytest.fixture
def ring() -> Iterator[Ring]:
    with Ring(128, cq_entries=1024) as made:
        made.register_ring()
        yield made


def _burst(ring: Ring, side: Side, capacity: int) -> Burst:
    return Burst(
        ring,
        operation=_WRITE[side.kind],
        slot=1,
        capacity=capacity,
        fd=side.fd,
        user_data=_BURST,
    )


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


def test_bursts_keep_order_without_links(ring: Ring, side: Side) -> None:
    burst = _burst(ring, side, 64)
    sent = frames_of(6000, SIZES)
    for first in range(0, len(sent), 500):
        part = sent[first : first + 500]
        assert _send(ring, burst, part, 64) == []
        assert hear(side.far, len(part)) == part


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
        Burst(ring, operation=Op.SEND, slot=1, capacity=1000, fd=0, user_data=0)


def test_a_ring_made_after_fork_goes_on_without_any_right(side: Side) -> None:
    """As nobody, without a capability or locked memory: frames still go."""
    outgoing = [frame_of(500 + n, 100) for n in range(40)]
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
                assert _send(ring, _burst(ring, side, 64), outgoing) == []
                status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert hear(side.far, 40) == outgoing
