"""Frames are built once and stamped in bulk: every one is a whole probe of its flow, in order."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.errors import InputError
from testbed.traffic import frames, layer, probe
from testbed.traffic.frames import IMIX, Flow, FrameRing


def flows(count: int, header_bytes: int = 22) -> list[Flow]:
    return [
        Flow(
            id=number,
            header=bytes([number]) * header_bytes,
            dst="02:00:00:00:00:01",
            src="02:00:00:00:00:02",
        )
        for number in range(count)
    ]


def sent(ring: FrameRing, first: int, count: int, time_ns: int) -> list[bytes]:
    """Frames `first` … as a sender would hand them to the kernel."""
    found = []
    while count:
        _, run = ring.run_length(first, count)
        row = ring.stamp(first, run, time_ns)
        for place in range(row, row + run):
            frame = ring.data[place, ring.start : ring.start + ring.length[place]]
            found.append(frame.tobytes())
        first += run
        count -= run
    return found


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 5),
    st.sampled_from([(256,), (60,), (61, 1450), IMIX]),
    st.sampled_from([0, 22, 28]),
    st.lists(st.integers(1, 700), min_size=1, max_size=6),
)
def test_every_frame_is_a_whole_probe_with_the_next_number_of_its_flow(
    count: int, sizes: tuple[int, ...], header_bytes: int, chunks: list[int]
) -> None:
    pattern = frames.build(flows(count, header_bytes), sizes)
    ring = FrameRing(pattern)
    seen: Counter[int] = Counter()
    number = 0
    for turn, chunk in enumerate(chunks):
        for frame in sent(ring, number, chunk, 10**18 + turn):
            inner = frame[header_bytes:]
            assert probe.intact(inner)
            packet = layer.Ether(inner)
            flow = int(packet[layer.IP].src.split(".")[3])
            assert frame[:header_bytes] == bytes([flow]) * header_bytes
            assert packet[layer.Probe].sequence == seen[flow]
            assert packet[layer.Probe].timestamp_ns == 10**18 + turn
            assert len(inner) in sizes
            seen[flow] += 1
        number += chunk
    assert dict(seen) == {flow: n for flow, n in pattern.per_flow(number).items() if n}


def test_one_frame_and_many_are_stamped_alike() -> None:
    pattern = frames.build(flows(3), IMIX)
    few, many = FrameRing(pattern), FrameRing(pattern)
    one_by_one = [sent(few, number, 1, 77)[0] for number in range(100)]
    assert one_by_one == sent(many, 0, 100, 77)


def test_counts_of_any_stretch_add_up() -> None:
    pattern = frames.build(flows(3), IMIX)
    assert pattern.per_flow(1000, 17) == {
        flow: pattern.per_flow(1017)[flow] - pattern.per_flow(17)[flow] for flow in range(3)
    }
    assert sum(pattern.per_flow(1000, 17).values()) == 1000


def test_every_flow_gets_the_whole_mix() -> None:
    pattern = frames.build(flows(5, 0), IMIX)
    sizes: dict[int, Counter[int]] = {}
    for template, flow in zip(pattern.templates, pattern.flows, strict=True):
        sizes.setdefault(flow, Counter())[len(template)] += 1
    assert all(found == {60: 7, 590: 4, 1450: 1} for found in sizes.values())


@pytest.mark.parametrize("size", [0, 59, 1451])
def test_a_size_that_a_tap_cannot_carry_is_refused(size: int) -> None:
    with pytest.raises(InputError, match=rf"got {size}; expected 60 to 1450 bytes"):
        frames.check_sizes([size], mtu=1436)


def test_too_many_flows_are_refused_with_what_is_possible() -> None:
    with pytest.raises(InputError, match="at most 341 with 12 frame sizes"):
        frames.build([Flow(id=n, header=b"", dst="", src="") for n in range(342)], IMIX)
