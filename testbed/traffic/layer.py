"""The node protocol and the test payload as scapy layers: build a frame by name, read one by name.

The only module that imports scapy, which takes most of a second; import it where frames are
defined, never where they are sent. Must not know who sends what to whom.

    >>> from testbed.traffic import layer
    >>> layer.Ether(raw_frame).show()
    >>> bytes(layer.heartbeat(src="02:00:00:00:00:01", rsu="02:00:00:00:00:01", id=7))

A frame may hold several messages, each with its own Ethernet header, and scapy shows them as one
chain of layers: ``Ether / NodeMessage / Heartbeat / Ether / NodeMessage / HeartbeatReply``.
"""

from __future__ import annotations

import logging
import struct
import warnings
from collections.abc import Iterator
from typing import Any, Final

from testbed.traffic import probe

# Scapy speaks up on import (missing interfaces, libraries that others deprecate); none of it
# matters to building frames, and it must not reach anybody's terminal.
logging.getLogger("scapy.runtime").setLevel(logging.ERROR)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from scapy.fields import (
        BitField,
        ByteEnumField,
        ByteField,
        IntField,
        LongField,
        MACField,
        XIntField,
    )
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether
    from scapy.packet import Packet, Padding, Raw, bind_layers

ETHERTYPE: Final = 0x3030
BROADCAST: Final = "ff:ff:ff:ff:ff:ff"

CONTROL: Final = 0
DATA: Final = 1
AUTH: Final = 2
HEARTBEAT: Final = 0
HEARTBEAT_REPLY: Final = 1
UPSTREAM: Final = 0
DOWNSTREAM: Final = 1

__all__ = [
    "AUTH",
    "BROADCAST",
    "CONTROL",
    "DATA",
    "ETHERTYPE",
    "IP",
    "UDP",
    "Downstream",
    "Ether",
    "Heartbeat",
    "HeartbeatReply",
    "NodeMessage",
    "Packet",
    "Padding",
    "Probe",
    "Raw",
    "Upstream",
    "downstream",
    "heartbeat",
    "heartbeat_reply",
    "messages",
    "probe_frame",
    "problem",
    "upstream",
]


class NodeMessage(Packet):  # type: ignore[misc, unused-ignore]
    """The two bytes after the Ethernet header: what sort of message follows."""

    name = "NodeMessage"
    fields_desc = [  # noqa: RUF012
        ByteEnumField("type", CONTROL, {CONTROL: "control", DATA: "data", AUTH: "auth"}),
        ByteField("subtype", 0),
    ]


class _Control(Packet):  # type: ignore[misc, unused-ignore]
    """A message of fixed length: another one, with an Ethernet header of its own, may follow."""

    def guess_payload_class(self, payload: bytes) -> Any:
        if len(payload) >= 14 and payload[12:14] == b"\x30\x30":
            return Ether
        return Padding if not any(payload) else Raw


_HEARTBEAT_FIELDS: Final = (
    BitField("duration_ms", 0, 128),
    IntField("id", 0),
    IntField("hops", 1),
    MACField("source", None),
)


class Heartbeat(_Control):
    """An RSU's heartbeat: time since its boot in ms, number, hops so far, the RSU's MAC."""

    name = "Heartbeat"
    fields_desc = list(_HEARTBEAT_FIELDS)  # noqa: RUF012


class HeartbeatReply(_Control):
    """The answer to a heartbeat: the heartbeat as it was received, and who answers."""

    name = "HeartbeatReply"
    fields_desc = [*_HEARTBEAT_FIELDS, MACField("sender", None)]  # noqa: RUF012


class _Data(Packet):  # type: ignore[misc, unused-ignore]
    """Data has no length: all that follows is the inner frame."""

    def guess_payload_class(self, payload: bytes) -> Any:
        return Ether if len(payload) >= 14 else Raw


class Upstream(_Data):
    """Data towards the RSU: the MAC of the OBU it came from, then the inner Ethernet frame."""

    name = "Upstream"
    fields_desc = [MACField("origin", None)]  # noqa: RUF012


class Downstream(_Data):
    """Data from the RSU: origin, the OBU (or group) it goes to, then the inner Ethernet frame."""

    name = "Downstream"
    fields_desc = [MACField("origin", None), MACField("destination", None)]  # noqa: RUF012


class Probe(Packet):  # type: ignore[misc, unused-ignore]
    """The payload of the testbed's own traffic, after UDP; the layout is `testbed.traffic.probe`.

    `check` covers the whole inner frame, so it is set by `probe_frame`, not by this layer.
    """

    name = "Probe"
    fields_desc = [  # noqa: RUF012
        BitField("sequence", 0, 48),
        LongField("timestamp_ns", 0),
        XIntField("check", 0),
    ]


bind_layers(Ether, NodeMessage, type=ETHERTYPE)
bind_layers(NodeMessage, Heartbeat, type=CONTROL, subtype=HEARTBEAT)
bind_layers(NodeMessage, HeartbeatReply, type=CONTROL, subtype=HEARTBEAT_REPLY)
bind_layers(NodeMessage, Upstream, type=DATA, subtype=UPSTREAM)
bind_layers(NodeMessage, Downstream, type=DATA, subtype=DOWNSTREAM)
bind_layers(UDP, Probe, sport=probe.PORT, dport=probe.PORT)


def heartbeat(
    *, src: str, rsu: str, id: int, dst: str = BROADCAST, duration_ms: int = 0, hops: int = 1
) -> Any:
    """A heartbeat on its way from `src`; an RSU's own first transmission has `hops` 1."""
    body = Heartbeat(duration_ms=duration_ms, id=id, hops=hops, source=rsu)
    return Ether(dst=dst, src=src, type=ETHERTYPE) / NodeMessage() / body


def heartbeat_reply(
    *, dst: str, src: str, rsu: str, sender: str, id: int, duration_ms: int = 0, hops: int = 1
) -> Any:
    """The answer of `sender` to a heartbeat, sent by `src` to its next hop `dst`."""
    body = HeartbeatReply(duration_ms=duration_ms, id=id, hops=hops, source=rsu, sender=sender)
    return Ether(dst=dst, src=src, type=ETHERTYPE) / NodeMessage() / body


def upstream(*, dst: str, src: str, origin: str) -> Any:
    """The headers of upstream data; put the inner Ethernet frame after it with ``/``."""
    header = Ether(dst=dst, src=src, type=ETHERTYPE) / NodeMessage(type=DATA, subtype=UPSTREAM)
    return header / Upstream(origin=origin)


def downstream(*, dst: str, src: str, origin: str, destination: str) -> Any:
    """The headers of downstream data; put the inner Ethernet frame after it with ``/``."""
    header = Ether(dst=dst, src=src, type=ETHERTYPE) / NodeMessage(type=DATA, subtype=DOWNSTREAM)
    return header / Downstream(origin=origin, destination=destination)


def probe_frame(
    *,
    dst: str,
    src: str,
    flow: int,
    frame_bytes: int,
    sequence: int = 0,
    timestamp_ns: int = 0,
) -> bytes:
    """An inner Ethernet frame of `frame_bytes` bytes that carries a probe, checksum and all.

    :raises ValueError: too short for a probe, too long for the checksum, or no such flow.
    """
    if not probe.MIN_FRAME_BYTES <= frame_bytes <= probe.MAX_FRAME_BYTES:
        raise ValueError(
            f"a probe frame has {probe.MIN_FRAME_BYTES} to {probe.MAX_FRAME_BYTES} bytes"
        )
    source, destination = probe.addresses(flow)
    packet = (
        Ether(dst=dst, src=src, type=0x0800)
        / IP(src=source, dst=destination, flags="DF", id=0, ttl=64)
        # No UDP checksum: it would change with every stamp, and the probe's own covers more.
        / UDP(sport=probe.PORT, dport=probe.PORT, chksum=0)
        / Probe(sequence=sequence, timestamp_ns=timestamp_ns)
        / Raw(probe.filler(frame_bytes - probe.MIN_FRAME_BYTES))
    )
    return probe.sealed(bytes(packet))


def messages(frame: bytes) -> Iterator[Any]:
    """The messages of one frame, each as ``Ether / NodeMessage / body`` with nothing after it.

    Data ends the frame, as it does for a node. Stops before what is no message; `problem` says
    what that is.
    """
    rest = frame
    while len(rest) >= 16 and rest[12:14] == b"\x30\x30":
        size = _message_bytes(rest)
        if size is None or size > len(rest):
            return
        yield Ether(rest[:size])
        rest = rest[size:]


def problem(frame: bytes) -> str | None:
    """What is wrong with a captured frame of the node protocol, in words; None if nothing is."""
    rest = frame
    place = 0
    while True:
        where = f"at byte {place}: "
        if len(rest) < 16:
            return where + f"{len(rest)} bytes are no message"
        if rest[12:14] != b"\x30\x30":
            return where + f"marker {rest[12:14].hex()} instead of 3030"
        size = _message_bytes(rest)
        if size is None:
            return where + f"unknown type {rest[14]:02x} {rest[15]:02x}"
        if size > len(rest):
            return where + f"{len(rest)} of {size} bytes"
        if rest[14] == DATA:
            return _inner_problem(rest, where)
        rest = rest[size:]
        place += size
        if not rest:
            return None


def _message_bytes(rest: bytes) -> int | None:
    """The length of the message that begins `rest`; at least that for data; None if unknown."""
    kind = (rest[14], rest[15])
    if kind == (CONTROL, HEARTBEAT):
        return 46
    if kind == (CONTROL, HEARTBEAT_REPLY):
        return 52
    if kind == (DATA, UPSTREAM):
        return max(len(rest), 22 + 14)
    if kind == (DATA, DOWNSTREAM):
        return max(len(rest), 28 + 14)
    return None


def _inner_problem(rest: bytes, where: str) -> str | None:
    """Inner IPv4 tells its own length: what is beyond it hangs on the tail of a data message."""
    inner = rest[22 if rest[15] == UPSTREAM else 28 :]
    if inner[12:14] != b"\x08\x00" or len(inner) < 34:
        return None
    (total,) = struct.unpack_from("!H", inner, 16)
    extra = len(inner) - 14 - total
    if extra < 0:
        return where + f"inner packet cut: {len(inner) - 14} of {total} bytes"
    # A short packet may stand in a frame filled up to Ethernet's least length.
    if extra > 0 and len(inner) > 60:
        return where + f"{extra} bytes hang on the tail of the inner packet"
    return None
