"""The scapy layers and the agent's codec agree byte for byte; a damaged probe is seen."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.protocol import codec
from agent.protocol.messages import (
    DownstreamData,
    Heartbeat,
    HeartbeatReply,
    Message,
    UpstreamData,
)
from testbed.traffic import layer, probe

macs = st.binary(min_size=6, max_size=6)
stations = macs.map(lambda mac: bytes([mac[0] & 0xFE]) + mac[1:])
u32 = st.integers(0, 2**32 - 1)
u128 = st.integers(0, 2**128 - 1)
inner_frames = st.binary(min_size=14, max_size=120).filter(
    # Scapy takes what follows an IPv4 EtherType for IPv4 and may rewrite it; bytes are bytes here.
    lambda frame: frame[12:14] not in (b"\x08\x00", b"\x30\x30")
)


def text(mac: bytes) -> str:
    return mac.hex(":")


heartbeats = st.builds(
    Heartbeat,
    receiver=macs,
    transmitter=stations,
    duration_ms=u128,
    hello_id=u32,
    hops=u32,
    rsu=stations,
)
replies = st.builds(
    HeartbeatReply,
    receiver=macs,
    transmitter=stations,
    duration_ms=u128,
    hello_id=u32,
    hops=u32,
    rsu=stations,
    sender=stations,
)
upstreams = st.builds(
    UpstreamData, receiver=macs, transmitter=stations, origin=stations, inner=inner_frames
)
downstreams = st.builds(
    DownstreamData,
    receiver=macs,
    transmitter=stations,
    origin=stations,
    target=macs,
    inner=inner_frames,
)


def as_layers(message: Message) -> layer.Packet:
    """The same message, built from scapy's layers by name."""
    match message:
        case Heartbeat():
            return layer.heartbeat(
                dst=text(message.receiver),
                src=text(message.transmitter),
                rsu=text(message.rsu),
                id=message.hello_id,
                duration_ms=message.duration_ms,
                hops=message.hops,
            )
        case HeartbeatReply():
            return layer.heartbeat_reply(
                dst=text(message.receiver),
                src=text(message.transmitter),
                rsu=text(message.rsu),
                sender=text(message.sender),
                id=message.hello_id,
                duration_ms=message.duration_ms,
                hops=message.hops,
            )
        case UpstreamData():
            head = layer.upstream(
                dst=text(message.receiver),
                src=text(message.transmitter),
                origin=text(message.origin),
            )
            return head / layer.Raw(message.inner)
        case DownstreamData():
            head = layer.downstream(
                dst=text(message.receiver),
                src=text(message.transmitter),
                origin=text(message.origin),
                destination=text(message.target),
            )
            return head / layer.Raw(message.inner)


@given(st.one_of(heartbeats, replies, upstreams, downstreams))
def test_layers_build_the_bytes_that_the_codec_writes_and_reads(message: Message) -> None:
    built = bytes(as_layers(message))
    assert built == codec.encode(message)
    assert list(codec.parse(built)) == [message]


@given(st.one_of(heartbeats, replies))
def test_layers_read_the_fields_that_the_codec_wrote(message: Heartbeat | HeartbeatReply) -> None:
    packet = layer.Ether(codec.encode(message))
    body = packet[layer.Heartbeat if isinstance(message, Heartbeat) else layer.HeartbeatReply]
    assert packet.dst == text(message.receiver)
    assert packet.src == text(message.transmitter)
    assert body.duration_ms == message.duration_ms
    assert body.id == message.hello_id
    assert body.hops == message.hops
    assert body.source == text(message.rsu)
    if isinstance(message, HeartbeatReply):
        assert body.sender == text(message.sender)


@given(st.lists(st.one_of(heartbeats, replies), min_size=1, max_size=4), upstreams)
def test_layers_read_every_message_of_a_frame(
    control: list[Heartbeat | HeartbeatReply], last: UpstreamData
) -> None:
    parts = [codec.encode(message) for message in (*control, last)]
    found = [bytes(message) for message in layer.messages(b"".join(parts))]
    assert found == parts
    assert layer.problem(b"".join(parts)) is None


def test_several_messages_show_as_one_chain() -> None:
    first = layer.heartbeat(src="02:00:00:00:00:01", rsu="02:00:00:00:00:01", id=3, hops=2)
    second = layer.heartbeat_reply(
        dst="02:00:00:00:00:01",
        src="02:00:00:00:00:02",
        rsu="02:00:00:00:00:01",
        sender="02:00:00:00:00:02",
        id=3,
    )
    chain = layer.Ether(bytes(first) + bytes(second))
    assert chain[layer.Heartbeat].hops == 2
    assert chain[layer.HeartbeatReply].sender == "02:00:00:00:00:02"
    assert chain.getlayer(layer.Ether, 2).src == "02:00:00:00:00:02"


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (b"", "0 bytes are no message"),
        (bytes(12) + b"\x08\x00" + bytes(30), "marker 0800"),
        (bytes(12) + b"\x30\x30\x02\x00" + bytes(30), "unknown type 02 00"),
        (bytes(12) + b"\x30\x30\x00\x01" + bytes(35), "51 of 52 bytes"),
        (bytes(12) + b"\x30\x30\x01\x00" + bytes(19), "35 of 36 bytes"),
    ],
)
def test_a_malformed_frame_is_told_by_what_is_wrong(frame: bytes, said: str) -> None:
    assert said in (layer.problem(frame) or "")


def test_bytes_on_the_tail_of_a_data_message_are_a_problem() -> None:
    header = bytes(12) + b"\x30\x30\x01\x00" + bytes(6)
    inner = layer.probe_frame(
        dst="02:00:00:00:00:01", src="02:00:00:00:00:02", flow=0, frame_bytes=100
    )
    assert layer.problem(header + inner) is None
    assert "7 bytes hang on the tail" in (layer.problem(header + inner + bytes(7)) or "")
    assert "inner packet cut" in (layer.problem(header + inner[:-1]) or "")


@pytest.mark.parametrize("size", [60, 61, 62, 63, 64, 65, 256, 1450, 1451, 9216])
def test_a_probe_has_its_size_and_the_fields_it_was_given(size: int) -> None:
    frame = layer.probe_frame(
        dst="02:00:00:00:00:01",
        src="02:00:00:00:00:02",
        flow=0x1234,
        frame_bytes=size,
        sequence=2**40 + 5,
        timestamp_ns=1_700_000_000_000_000_001,
    )
    assert len(frame) == size
    assert probe.intact(frame)
    packet = layer.Ether(frame)
    assert packet[layer.IP].src == "198.18.18.52"
    assert packet[layer.IP].len == size - 14
    assert packet[layer.UDP].chksum == 0
    assert packet[layer.Probe].sequence == 2**40 + 5
    assert packet[layer.Probe].timestamp_ns == 1_700_000_000_000_000_001
    # What it says of itself is right: scapy finds the same header checksum when asked to.
    asked = packet.copy()
    del asked[layer.IP].chksum
    assert layer.Ether(bytes(asked))[layer.IP].chksum == packet[layer.IP].chksum


@pytest.mark.parametrize("size", [59, 9217])
def test_a_probe_that_cannot_be_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="60 to 9216"):
        layer.probe_frame(
            dst="02:00:00:00:00:01", src="02:00:00:00:00:02", flow=0, frame_bytes=size
        )


PROBE = layer.probe_frame(
    dst="02:00:00:00:00:01", src="02:00:00:00:00:02", flow=7, frame_bytes=150, sequence=9
)


@given(st.integers(0, len(PROBE) - 1), st.integers(1, 255))
def test_one_changed_byte_anywhere_is_seen(place: int, change: int) -> None:
    damaged = bytearray(PROBE)
    damaged[place] ^= change
    assert not probe.intact(bytes(damaged))


@given(st.integers(0, len(PROBE) - 1))
def test_a_cut_frame_is_seen(length: int) -> None:
    assert not probe.intact(PROBE[:length])


@given(st.binary(min_size=1, max_size=80))
def test_bytes_on_the_tail_are_seen(tail: bytes) -> None:
    assert not probe.intact(PROBE + tail)


@given(st.integers(0, 36), st.integers(0, 36))
def test_swapped_words_are_seen(one: int, other: int) -> None:
    words = [PROBE[at : at + 4] for at in range(0, 148, 4)]
    words[one], words[other] = words[other], words[one]
    swapped = b"".join(words) + PROBE[148:]
    assert probe.intact(swapped) == (swapped == PROBE)


def test_importing_the_tester_does_not_import_scapy() -> None:
    code = (
        "import sys, testbed.traffic.peer, testbed.traffic.path, testbed.traffic.jobs\n"
        "print('scapy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_importing_the_layers_says_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import testbed.traffic.layer"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout + done.stderr == ""
