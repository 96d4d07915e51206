"""Per packet and batched give the same; they differ only in the order of destinations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.handlers import BatchedHandler, Handler, PerPacketHandler
from agent.protocol.codec import encode
from agent.protocol.drops import DropCause
from agent.protocol.messages import (
    DownstreamData,
    Heartbeat,
    HeartbeatReply,
    Message,
    MessageKind,
    UpstreamData,
)
from agent.protocol.node import Flow, NodeSnapshot
from agent.protocol.obu import Obu
from agent.protocol.replies import Outgoing, Reply, Tap, TapFlat, Wire, WireFlat
from agent.protocol.rsu import GroupCopies, Rsu

GROUP = b"\xff" * 6
SELF = bytes([2, 0, 0, 0, 0, 1])
OTHERS = [bytes([2, 0, 0, 0, 0, n]) for n in range(2, 7)]
TAPS = [bytes([2, 1, 0, 0, 0, n]) for n in range(1, 6)]


# -- what may happen to a node -----------------------------------------------------------------

nodes = st.sampled_from([SELF, *OTHERS])
receivers = st.sampled_from([SELF, SELF, SELF, GROUP, OTHERS[0]])
inner_addresses = st.sampled_from([*TAPS, GROUP])
inner_frames = st.builds(
    lambda dest, source, payload: dest + source + b"\x08\x00" + payload,
    inner_addresses,
    st.sampled_from([*TAPS, *TAPS, GROUP]),
    st.binary(max_size=24),
)
hello_ids = st.integers(0, 6)
hops = st.sampled_from([0, 1, 2, 3, 0xFFFF_FFFF])
durations = st.integers(0, 40).map(lambda tick: tick * 500)

control: st.SearchStrategy[Message] = st.builds(
    Heartbeat,
    receiver=receivers,
    transmitter=nodes,
    duration_ms=durations,
    hello_id=hello_ids,
    hops=hops,
    rsu=nodes,
) | st.builds(
    HeartbeatReply,
    receiver=receivers,
    transmitter=nodes,
    duration_ms=durations,
    hello_id=hello_ids,
    hops=hops,
    rsu=nodes,
    sender=nodes,
)
data: st.SearchStrategy[Message] = st.builds(
    UpstreamData, receiver=receivers, transmitter=nodes, origin=nodes, inner=inner_frames
) | st.builds(
    DownstreamData,
    receiver=receivers,
    transmitter=nodes,
    origin=nodes,
    target=st.sampled_from([SELF, *OTHERS, GROUP]),
    inner=inner_frames,
)


@st.composite
def wire_frames(draw: st.DrawFn) -> bytes:
    """One message, several of them, or something broken."""
    messages = draw(st.lists(control, max_size=3))
    if not messages or draw(st.booleans()):
        messages.append(draw(data))
    frame = b"".join(map(encode, messages))
    match draw(st.integers(0, 9)):
        case 0:
            frame = frame[: draw(st.integers(0, len(frame)))]
        case 1:
            frame += draw(st.binary(min_size=1, max_size=20))
        case 2:
            at = draw(st.integers(0, len(frame) - 1))
            frame = frame[:at] + bytes([draw(st.integers(0, 255))]) + frame[at + 1 :]
        case 3:
            frame = draw(st.binary(max_size=80))
    return frame


@dataclass(frozen=True)
class Event:
    kind: str
    frames: list[bytes]
    next_hop: bytes
    later_ms: int


events = st.builds(
    Event,
    kind=st.sampled_from(["wire"] * 6 + ["tap"] * 2 + ["timer", "failed"]),
    frames=st.just([]),
    next_hop=nodes,
    later_ms=st.sampled_from([0, 1, 400, 3000]),
).flatmap(
    lambda event: st.lists(
        wire_frames() if event.kind == "wire" else inner_frames | st.binary(max_size=16),
        max_size=8,
    ).map(lambda frames: Event(event.kind, frames, event.next_hop, event.later_ms))
)


# -- nodes to compare ---------------------------------------------------------------------------

NodeMaker = Callable[[type[Obu], type[Rsu]], Obu | Rsu]


def obu(obu_type: type[Obu], rsu_type: type[Rsu]) -> Obu | Rsu:
    return obu_type(SELF, hello_history=3)


def rsu(obu_type: type[Obu], rsu_type: type[Rsu]) -> Obu | Rsu:
    return rsu_type(SELF, boot_ns=0, hello_periodicity_ms=1000, hello_history=3)


def addressing_rsu(obu_type: type[Obu], rsu_type: type[Rsu]) -> Obu | Rsu:
    copies: GroupCopies = "addressed"
    return rsu_type(SELF, boot_ns=0, hello_periodicity_ms=1000, group_copies=copies)


MAKERS: list[NodeMaker] = [obu, rsu, addressing_rsu]


class ForgetfulObu(Obu):
    """Decides every message anew."""

    def _keep_flow(self, key: bytes, flow: Flow) -> None:
        pass


class ForgetfulRsu(Rsu):
    """Decides every message anew."""

    def _keep_flow(self, key: bytes, flow: Flow) -> None:
        pass

    def tap_into(self, frame: bytes, now_ns: int, out: Outgoing) -> None:
        self._tap_flows.clear()
        super().tap_into(frame, now_ns, out)


class Nested:
    """A node that answers with reply objects only, in the nested form."""

    def __init__(self, node: Obu | Rsu) -> None:
        self.node = node
        self.mac = node.mac
        self.drops = node.drops

    @staticmethod
    def _nest(replies: Iterable[Reply]) -> list[Reply]:
        nested: list[Reply] = []
        for reply in replies:
            match reply:
                case WireFlat(frame):
                    nested.append(Wire((frame[:6], frame[6:20], b"", frame[20:])))
                case TapFlat(frame):
                    nested.append(Tap((frame[:14], frame[14:])))
                case _:
                    raise AssertionError("nodes answer flat")
        return nested

    def on_wire(self, frame: bytes, now_ns: int) -> list[Reply]:
        return self._nest(self.node.on_wire(frame, now_ns))

    def on_tap(self, frame: bytes, now_ns: int) -> list[Reply]:
        return self._nest(self.node.on_tap(frame, now_ns))

    def on_timer(self, now_ns: int) -> list[Reply]:
        return self._nest(self.node.on_timer(now_ns))

    def next_timer_ns(self) -> int | None:
        return self.node.next_timer_ns()

    def on_send_failed(self, next_hop: bytes, now_ns: int) -> None:
        self.node.on_send_failed(next_hop, now_ns)

    def snapshot(self, now_ns: int) -> NodeSnapshot:
        return self.node.snapshot(now_ns)


@dataclass(frozen=True)
class History:
    outgoing: list[Outgoing]
    snapshots: list[NodeSnapshot]
    drops: dict[DropCause, int]
    messages: dict[MessageKind, int]


def play(node: Obu | Rsu, handler: Handler, sequence: Sequence[Event]) -> History:
    now_ns = 0
    outgoing = [handler.handle_timer(now_ns)]
    snapshots = []
    for event in sequence:
        now_ns += event.later_ms * 1_000_000
        match event.kind:
            case "wire":
                outgoing.append(handler.handle_wire(event.frames, now_ns))
            case "tap":
                outgoing.append(handler.handle_tap(event.frames, now_ns))
            case "timer":
                outgoing.append(handler.handle_timer(now_ns))
            case _:
                node.on_send_failed(event.next_hop, now_ns)
        snapshots.append(node.snapshot(now_ns))
    return History(outgoing, snapshots, +node.drops, +node.messages)


def by_destination(frames: Iterable[bytes]) -> dict[bytes, list[bytes]]:
    groups: dict[bytes, list[bytes]] = {}
    for frame in frames:
        groups.setdefault(frame[:6], []).append(frame)
    return groups


@pytest.mark.parametrize("make", MAKERS)
@settings(max_examples=100, deadline=None)
@given(sequence=st.lists(events, max_size=12))
def test_both_handlers_give_the_same(make: NodeMaker, sequence: list[Event]) -> None:
    one, other = make(Obu, Rsu), make(Obu, Rsu)
    single = play(one, PerPacketHandler(one), sequence)
    batch = play(other, BatchedHandler(other), sequence)
    for left, right in zip(single.outgoing, batch.outgoing, strict=True):
        assert Counter(left.wire) == Counter(right.wire)
        groups = by_destination(left.wire)
        assert by_destination(right.wire) == groups
        # Grouped, destinations in the order in which they were first seen.
        assert right.wire == [frame for group in groups.values() for frame in group]
        assert left.tap == right.tap
    assert single.snapshots == batch.snapshots
    assert single.drops == batch.drops
    assert single.messages == batch.messages


@pytest.mark.parametrize("make", MAKERS)
@settings(max_examples=100, deadline=None)
@given(sequence=st.lists(events, max_size=12))
def test_remembered_decisions_are_those_made_anew(make: NodeMaker, sequence: list[Event]) -> None:
    # Each batch twice, so that remembered decisions are used.
    twice = [event for event in sequence for _ in range(2)]
    one, other = make(Obu, Rsu), make(ForgetfulObu, ForgetfulRsu)
    assert play(one, PerPacketHandler(one), twice) == play(other, PerPacketHandler(other), twice)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("handler", [PerPacketHandler, BatchedHandler])
@settings(max_examples=50, deadline=None)
@given(sequence=st.lists(events, max_size=8))
def test_nested_replies_come_out_as_the_same_frames(
    make: NodeMaker, handler: type[PerPacketHandler], sequence: list[Event]
) -> None:
    one, other = make(Obu, Rsu), make(Obu, Rsu)
    flat = play(one, handler(one), sequence)
    nested = play(other, handler(Nested(other)), sequence)
    assert Counter(f for out in flat.outgoing for f in out.wire) == Counter(
        f for out in nested.outgoing for f in out.wire
    )
    assert [out.tap for out in flat.outgoing] == [out.tap for out in nested.outgoing]
    assert flat.snapshots == nested.snapshots
    assert flat.drops == nested.drops


@pytest.mark.parametrize("make", MAKERS)
@settings(max_examples=100, deadline=None)
@given(frame=st.binary(max_size=200))
def test_random_bytes_are_counted_and_change_nothing(make: NodeMaker, frame: bytes) -> None:
    node = make(Obu, Rsu)
    before = node.snapshot(0)
    assert node.on_wire(frame, 0) == []
    assert node.drops.total() >= 1
    assert node.snapshot(0) == before


class Echo:
    """Answers each byte string on the wire with frames for the destinations it lists."""

    mac = SELF

    def __init__(self) -> None:
        self.drops: Counter[DropCause] = Counter()

    def on_wire(self, frame: bytes, now_ns: int) -> list[Reply]:
        return [WireFlat(bytes([dest]) * 6 + frame) for dest in frame]

    def on_tap(self, frame: bytes, now_ns: int) -> list[Reply]:
        return [TapFlat(frame)]

    def on_timer(self, now_ns: int) -> list[Reply]:
        return []

    def next_timer_ns(self) -> int | None:
        return None

    def on_send_failed(self, next_hop: bytes, now_ns: int) -> None:
        pass

    def snapshot(self, now_ns: int) -> NodeSnapshot:
        return NodeSnapshot(kind="obu", mac=SELF, routes=(), next_timer_ns=None)


def test_the_per_packet_handler_keeps_the_order_of_arrival() -> None:
    out = PerPacketHandler(Echo()).handle_wire([b"\x02\x01", b"\x01", b"\x02"], 0)
    assert [frame[0] for frame in out.wire] == [2, 1, 1, 2]


def test_the_batched_handler_groups_by_destination_in_order_of_first_sight() -> None:
    out = BatchedHandler(Echo()).handle_wire([b"\x02\x01", b"\x01", b"\x02"], 0)
    assert [(frame[0], frame[6:]) for frame in out.wire] == [
        (2, b"\x02\x01"),
        (2, b"\x02"),
        (1, b"\x02\x01"),
        (1, b"\x01"),
    ]


@pytest.mark.parametrize("handler", [PerPacketHandler, BatchedHandler])
def test_frames_for_the_tap_stay_together_and_in_order(handler: type[PerPacketHandler]) -> None:
    out = handler(Echo()).handle_tap([b"b", b"a", b"c"], 0)
    assert (out.wire, out.tap) == ([], [b"b", b"a", b"c"])
