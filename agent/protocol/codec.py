"""Messages to bytes and back.

Must not know nodes, tables or time. Reading never raises: what cannot be read comes out as a
`DropCause`. All integers are big-endian; the layouts are tabled in ``docs/protocol.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final

from agent.protocol.addresses import MAC_BYTES, is_group
from agent.protocol.drops import DropCause
from agent.protocol.messages import (
    DownstreamData,
    Heartbeat,
    HeartbeatReply,
    Message,
    UpstreamData,
)

MARKER: Final = b"\x30\x30"
"""Stands where the EtherType stands."""
ETHERNET_HEADER_BYTES: Final = 14
ETHERNET_MIN_BYTES: Final = 60
"""Shorter frames may arrive filled up with zeros (IEEE 802.3 minimum without checksum)."""
HEADER_BYTES: Final = 16
"""Ethernet header with packet type and subtype."""
INNER_MIN_BYTES: Final = ETHERNET_HEADER_BYTES
"""An inner frame has at least its own Ethernet header."""
U32_MAX: Final = 0xFFFF_FFFF

HEARTBEAT: Final = MARKER + b"\x00\x00"
HEARTBEAT_REPLY: Final = MARKER + b"\x00\x01"
UPSTREAM: Final = MARKER + b"\x01\x00"
DOWNSTREAM: Final = MARKER + b"\x01\x01"

# u128 as two halves: struct has no format of that size.
_HEARTBEAT_BODY: Final = Struct("!QQII6s")
_REPLY_BODY: Final = Struct("!QQII6s6s")
_U64_MAX: Final = 0xFFFF_FFFF_FFFF_FFFF

HEARTBEAT_BYTES: Final = HEADER_BYTES + _HEARTBEAT_BODY.size
REPLY_BYTES: Final = HEADER_BYTES + _REPLY_BODY.size
UPSTREAM_OVERHEAD_BYTES: Final = HEADER_BYTES + MAC_BYTES
DOWNSTREAM_OVERHEAD_BYTES: Final = HEADER_BYTES + 2 * MAC_BYTES
UPSTREAM_MIN_BYTES: Final = UPSTREAM_OVERHEAD_BYTES + INNER_MIN_BYTES
DOWNSTREAM_MIN_BYTES: Final = DOWNSTREAM_OVERHEAD_BYTES + INNER_MIN_BYTES


def encode(message: Message) -> bytes:
    """The message as bytes, Ethernet header first.

    ValueError for an address that is not six bytes, or a number that does not fit its field.
    """
    match message:
        case Heartbeat():
            kind, body = HEARTBEAT, _heartbeat_fields(message)
        case HeartbeatReply():
            kind, body = HEARTBEAT_REPLY, _heartbeat_fields(message) + _mac(message.sender)
        case UpstreamData():
            kind, body = UPSTREAM, _mac(message.origin) + message.inner
        case DownstreamData():
            kind = DOWNSTREAM
            body = _mac(message.origin) + _mac(message.target) + message.inner
    return _mac(message.receiver) + _mac(message.transmitter) + kind + body


def parse(frame: bytes) -> Iterator[Message | DropCause]:
    """Every message in `frame`, in order; a cause in place of each that cannot be read.

    A control message with a bad address is skipped, since its length is known; anything else that
    cannot be read ends the frame. A data message has no length field and takes all that follows.
    """
    end = len(frame)
    offset = 0
    while True:
        left = end - offset
        if left < HEADER_BYTES or frame[offset + 12 : offset + 14] != MARKER:
            yield _no_message(frame, offset)
            return
        kind = frame[offset + 12 : offset + HEADER_BYTES]
        if kind in (UPSTREAM, DOWNSTREAM):
            yield _data(frame, offset, kind)
            return
        if kind == HEARTBEAT:
            size = HEARTBEAT_BYTES
        elif kind == HEARTBEAT_REPLY:
            size = REPLY_BYTES
        else:
            yield DropCause.AUTH if kind[2] == 2 else DropCause.UNKNOWN_TYPE
            return
        if left < size:
            yield DropCause.TRUNCATED
            return
        yield _control(frame, offset, kind)
        offset += size
        if offset == end:
            return


def _no_message(frame: bytes, offset: int) -> DropCause:
    if offset:
        fills_up = len(frame) <= ETHERNET_MIN_BYTES and not any(frame[offset:])
        return DropCause.PADDING if fills_up else DropCause.TRAILING
    if len(frame) >= ETHERNET_HEADER_BYTES and frame[12:14] != MARKER:
        return DropCause.FOREIGN
    return DropCause.SHORT


def _control(frame: bytes, offset: int, kind: bytes) -> Message | DropCause:
    receiver = frame[offset : offset + 6]
    transmitter = frame[offset + 6 : offset + 12]
    body = offset + HEADER_BYTES
    if kind == HEARTBEAT:
        high, low, hello_id, hops, rsu = _HEARTBEAT_BODY.unpack_from(frame, body)
        if is_group(transmitter) or is_group(rsu):
            return DropCause.BAD_ADDRESS
        return Heartbeat(
            receiver=receiver,
            transmitter=transmitter,
            duration_ms=high << 64 | low,
            hello_id=hello_id,
            hops=hops,
            rsu=rsu,
        )
    high, low, hello_id, hops, rsu, sender = _REPLY_BODY.unpack_from(frame, body)
    if is_group(transmitter) or is_group(rsu) or is_group(sender):
        return DropCause.BAD_ADDRESS
    return HeartbeatReply(
        receiver=receiver,
        transmitter=transmitter,
        duration_ms=high << 64 | low,
        hello_id=hello_id,
        hops=hops,
        rsu=rsu,
        sender=sender,
    )


def _data(frame: bytes, offset: int, kind: bytes) -> Message | DropCause:
    receiver = frame[offset : offset + 6]
    transmitter = frame[offset + 6 : offset + 12]
    origin = frame[offset + 16 : offset + 22]
    left = len(frame) - offset
    if left < (UPSTREAM_MIN_BYTES if kind == UPSTREAM else DOWNSTREAM_MIN_BYTES):
        return DropCause.TRUNCATED
    if is_group(transmitter) or is_group(origin):
        return DropCause.BAD_ADDRESS
    if kind == UPSTREAM:
        return UpstreamData(
            receiver=receiver,
            transmitter=transmitter,
            origin=origin,
            inner=frame[offset + UPSTREAM_OVERHEAD_BYTES :],
        )
    return DownstreamData(
        receiver=receiver,
        transmitter=transmitter,
        origin=origin,
        target=frame[offset + 22 : offset + 28],
        inner=frame[offset + DOWNSTREAM_OVERHEAD_BYTES :],
    )


def _heartbeat_fields(message: Heartbeat | HeartbeatReply) -> bytes:
    if not 0 <= message.duration_ms < 1 << 128:
        raise ValueError(f"duration_ms does not fit 128 bits: {message.duration_ms}")
    if not 0 <= message.hello_id <= U32_MAX:
        raise ValueError(f"hello_id does not fit 32 bits: {message.hello_id}")
    if not 0 <= message.hops <= U32_MAX:
        raise ValueError(f"hops does not fit 32 bits: {message.hops}")
    return _HEARTBEAT_BODY.pack(
        message.duration_ms >> 64,
        message.duration_ms & _U64_MAX,
        message.hello_id,
        message.hops,
        _mac(message.rsu),
    )


def _mac(mac: bytes) -> bytes:
    if len(mac) != MAC_BYTES:
        raise ValueError(f"a MAC address has 6 bytes, got {mac!r}")
    return mac
