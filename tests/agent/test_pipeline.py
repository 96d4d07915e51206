"""The vectorised path does what the per-packet path does, whatever comes in whatever batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.batch import FrameBatch
from agent.handlers import BatchedHandler, PerPacketHandler
from agent.pipeline import Pipeline, Rows
from agent.protocol.codec import encode
from agent.protocol.messages import DownstreamData, Heartbeat, HeartbeatReply, UpstreamData
from agent.protocol.obu import Obu
from agent.protocol.rsu import Rsu

OWN = b"\x02\x00\x00\x00\x00\x01"
NEIGHBOURS = [bytes([2, 0, 0, 0, 0, n]) for n in (2, 3, 4)]
RSUS = [bytes([2, 0, 0, 0, 1, n]) for n in (1, 2)]
OBUS = [*NEIGHBOURS[1:], b"\x02\x00\x00\x00\x00\x09", OWN]
CLIENTS = [bytes([6, 0, 0, 0, 0, n]) for n in (1, 2, 3)]
GROUP = b"\x01\x00\x5e\x00\x00\x01"
BROADCAST = b"\xff" * 6
MAX_FRAME = 200


@dataclass
class Record:
    """A sink that keeps what it is given."""

    frames: list[bytes] = field(default_factory=list)

    def send_rows(self, batch: FrameBatch, rows: Rows | None = None) -> None:
        chosen = range(batch.count) if rows is None else np.arange(batch.capacity)[rows]
        self.frames += [batch.frame(int(row)) for row in chosen]

    def send_frames(self, frames: Sequence[bytes]) -> None:
        self.frames += frames

    def by_next_hop(self) -> dict[bytes, list[bytes]]:
        found: dict[bytes, list[bytes]] = {}
        for frame in self.frames:
            found.setdefault(frame[:6], []).append(frame)
        return found


receivers = st.sampled_from([OWN, OWN, OWN, BROADCAST, GROUP, NEIGHBOURS[0]])
transmitters = st.sampled_from([*NEIGHBOURS, *NEIGHBOURS, OWN, GROUP])
inner_frames = st.builds(
    lambda dst, src, rest: dst + src + b"\x08\x00" + rest,
    st.sampled_from([*CLIENTS, *CLIENTS, GROUP, BROADCAST]),
    st.sampled_from([*CLIENTS, *CLIENTS, GROUP]),
    st.binary(max_size=8) | st.just(b"x" * (MAX_FRAME - 50)) | st.just(b"y" * (MAX_FRAME - 36)),
)
heartbeats = st.builds(
    Heartbeat,
    receiver=receivers,
    transmitter=transmitters,
    duration_ms=st.integers(0, 10_000),
    hello_id=st.integers(0, 4),
    hops=st.integers(0, 3) | st.just(2**32 - 1),
    rsu=st.sampled_from([*RSUS, OWN]),
)
replies = st.builds(
    HeartbeatReply,
    receiver=receivers,
    transmitter=transmitters,
    duration_ms=st.integers(0, 1),
    hello_id=st.integers(0, 4),
    hops=st.integers(1, 3),
    rsu=st.sampled_from([*RSUS, OWN, OWN]),
    sender=st.sampled_from(OBUS),
)
upstream = st.builds(
    UpstreamData,
    receiver=receivers,
    transmitter=transmitters,
    origin=st.sampled_from([*OBUS, *OBUS, GROUP]),
    inner=inner_frames,
)
downstream = st.builds(
    DownstreamData,
    receiver=receivers,
    transmitter=transmitters,
    origin=st.sampled_from([*RSUS, *OBUS]),
    target=st.sampled_from([*OBUS, OWN, GROUP]),
    inner=inner_frames,
)
readable = st.one_of(
    heartbeats.map(encode),
    replies.map(encode),
    st.tuples(heartbeats, replies).map(lambda pair: encode(pair[0]) + encode(pair[1])),
    upstream.map(encode),
    upstream.map(encode),
    downstream.map(encode),
    downstream.map(encode),
)
cut = st.tuples(readable, st.integers(1, 45)).map(lambda pair: pair[0][: pair[1]])
wire_frames = st.one_of(readable, readable, readable, cut, st.binary(max_size=MAX_FRAME + 1)).map(
    lambda frame: frame[: MAX_FRAME + 1]
)
tap_frames = st.one_of(inner_frames, inner_frames, inner_frames, st.binary(max_size=20))


# What a busy node mostly hears: data that it can act upon.
good_inner = st.builds(
    lambda dst, src, size: dst + src + b"\x08\x00" + bytes(size),
    st.sampled_from([*CLIENTS, *CLIENTS, GROUP]),
    st.sampled_from(CLIENTS),
    st.sampled_from([0, 5, 60]),
)
# From clients that live on the own TAP and nowhere else.
own_inner = st.builds(
    lambda dst, src, size: dst + src + b"\x08\x00" + bytes(size),
    st.sampled_from(CLIENTS),
    st.sampled_from([b"\x06\x00\x00\x00\x01\x01", b"\x06\x00\x00\x00\x01\x02"]),
    st.sampled_from([0, 60]),
)
good_data = st.one_of(
    st.builds(
        UpstreamData,
        receiver=st.just(OWN),
        transmitter=st.sampled_from(NEIGHBOURS),
        origin=st.sampled_from(OBUS[:3]),
        inner=good_inner,
    ),
    st.builds(
        DownstreamData,
        receiver=st.just(OWN),
        transmitter=st.sampled_from(NEIGHBOURS),
        origin=st.sampled_from(RSUS),
        target=st.sampled_from([*OBUS, GROUP]),
        inner=good_inner,
    ),
).map(encode)


@st.composite
def scripts(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """Events from a few frames that come again and again, in runs and interleaved."""
    good = draw(st.lists(good_data, min_size=1, max_size=4, unique=True))
    any_kind = draw(st.lists(wire_frames, max_size=2))
    inner = draw(st.lists(good_inner | own_inner, min_size=1, max_size=3, unique=True))
    odd_inner = draw(st.lists(tap_frames, max_size=1))
    wire = st.sampled_from([*good, *good, *any_kind])
    tap = st.sampled_from([*inner, *inner, *odd_inner])
    events = st.one_of(
        st.tuples(st.just("wire"), _runs(wire)),
        st.tuples(st.just("wire"), _runs(wire)),
        st.tuples(st.just("tap"), _runs(tap)),
        st.tuples(st.just("timer"), st.integers(0, 3_000_000_000)),
        st.tuples(st.just("failed"), st.sampled_from(NEIGHBOURS)),
    )
    routes = st.lists(
        st.tuples(st.sampled_from(NEIGHBOURS), st.sampled_from(OBUS[:3])),
        max_size=4,
        unique_by=lambda route: route[1],
    )
    homes = st.lists(st.sampled_from(OBUS[:3]), max_size=3)
    joined = join(draw(routes), draw(homes))
    return [("timer", 0), ("wire", joined), *draw(st.lists(events, min_size=1, max_size=8))]


def _runs(frames: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[bytes]]:
    run = st.tuples(frames, st.integers(1, 4)).map(lambda pair: [pair[0]] * pair[1])
    return st.lists(run, max_size=6).map(lambda parts: [frame for part in parts for frame in part])


def join(routes: Sequence[tuple[bytes, bytes]], homes: Sequence[bytes]) -> list[bytes]:
    """Two upstreams known, `routes` as (next hop, OBU), each client behind one of `homes`."""
    return [
        *(
            encode(
                Heartbeat(
                    receiver=BROADCAST,
                    transmitter=neighbour,
                    duration_ms=1,
                    hello_id=1,
                    hops=1,
                    rsu=RSUS[0],
                )
            )
            for neighbour in NEIGHBOURS[:2]
        ),
        *(
            encode(
                HeartbeatReply(
                    receiver=OWN,
                    transmitter=via,
                    duration_ms=0,
                    hello_id=hello_id,
                    hops=1,
                    rsu=rsu,
                    sender=sender,
                )
            )
            for rsu, hello_id in ((RSUS[0], 1), (OWN, 0))
            for via, sender in routes
        ),
        *(
            encode(
                UpstreamData(
                    receiver=OWN,
                    transmitter=NEIGHBOURS[0],
                    origin=home,
                    inner=CLIENTS[0] + client + bytes(4),
                )
            )
            for client, home in zip(CLIENTS, homes, strict=False)
        ),
    ]


def nodes_like(kind: str, copies: Any) -> Obu | Rsu:
    if kind == "obu":
        return Obu(OWN, hello_history=3, max_frame_bytes=MAX_FRAME)
    return Rsu(OWN, boot_ns=0, hello_history=3, group_copies=copies, max_frame_bytes=MAX_FRAME)


@pytest.mark.parametrize(
    ("kind", "copies"), [("obu", "reference"), ("rsu", "reference"), ("rsu", "addressed")]
)
@settings(max_examples=300, deadline=None)
@given(script=scripts())
def test_same_frames_counters_and_tables_as_frame_by_frame(
    kind: str, copies: Any, script: list[tuple[str, Any]]
) -> None:
    single, batched = nodes_like(kind, copies), nodes_like(kind, copies)
    by_frame = PerPacketHandler(single)
    wire, tap = Record(), Record()
    expected_wire, expected_tap = Record(), Record()
    pipeline = Pipeline(batched, BatchedHandler(batched), wire, tap)
    now_ns = 0
    batch = FrameBatch(64, MAX_FRAME + 1)
    for what, argument in script:
        now_ns += 1_000_000
        if what == "timer":
            now_ns += argument
            for node, sink in ((single, expected_wire), (batched, wire)):
                sink.send_frames([reply.frame for reply in node.on_timer(now_ns)])  # type: ignore[union-attr]
            continue
        if what == "failed":
            single.on_send_failed(argument, now_ns)
            batched.on_send_failed(argument, now_ns)
            continue
        handle = by_frame.handle_wire if what == "wire" else by_frame.handle_tap
        for frame in argument:
            out = handle([frame], now_ns)
            expected_wire.send_frames(out.wire)
            expected_tap.send_frames(out.tap)
        batch.clear()
        batch.extend(argument)
        (pipeline.from_wire if what == "wire" else pipeline.from_tap)(batch, now_ns)
    assert tap.frames == expected_tap.frames
    assert wire.by_next_hop() == expected_wire.by_next_hop()
    assert batched.drops == single.drops
    assert batched.messages == single.messages
    assert batched.snapshot(now_ns) == single.snapshot(now_ns)


def test_a_batch_of_one_flow_goes_out_of_the_receive_buffer() -> None:
    """No frame of a decided flow becomes an object of its own."""
    node = nodes_like("obu", "reference")
    rows_sent: list[FrameBatch] = []

    class Watching(Record):
        def send_rows(self, batch: FrameBatch, rows: Rows | None = None) -> None:
            rows_sent.append(batch)
            super().send_rows(batch, rows)

        def send_frames(self, frames: Sequence[bytes]) -> None:
            pytest.fail("a frame was copied")

    wire = Watching()
    pipeline = Pipeline(node, BatchedHandler(node), wire, Record())
    out = PerPacketHandler(node).handle_wire(join([], []), 0)
    frame = encode(
        UpstreamData(receiver=OWN, transmitter=NEIGHBOURS[2], origin=NEIGHBOURS[2], inner=bytes(60))
    )
    out = PerPacketHandler(node).handle_wire([frame], 0)
    batch = FrameBatch(32, MAX_FRAME)
    batch.extend([frame] * 32)
    pipeline.from_wire(batch, 0)
    assert rows_sent == [batch]
    assert wire.frames == out.wire * 32
    assert node.messages["upstream"] == 33
