"""The four messages of the protocol, as frozen values.

Must not know how they are encoded or what a node does with them. All addresses are six raw
bytes. `receiver` and `transmitter` are the Ethernet header of this hop: every message has its
own, also when several share one frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class MessageKind(StrEnum):
    """The names under which messages are counted."""

    HEARTBEAT = "heartbeat"
    HEARTBEAT_REPLY = "heartbeat_reply"
    UPSTREAM = "upstream"
    DOWNSTREAM = "downstream"


@dataclass(frozen=True, kw_only=True, slots=True)
class Heartbeat:
    """An RSU is alive; flooded by the OBUs.

    `duration_ms` is the time since the RSU's boot (u128), `hello_id` counts its heartbeats (u32),
    `hops` is the count on the wire: 1 in the RSU's own transmission, h+1 when re-broadcast.
    """

    receiver: bytes
    transmitter: bytes
    duration_ms: int
    hello_id: int
    hops: int
    rsu: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class HeartbeatReply:
    """`sender` has heard that heartbeat; travels back the way the heartbeat came.

    `hops` is the heartbeat's as `sender` received it.
    """

    receiver: bytes
    transmitter: bytes
    duration_ms: int
    hello_id: int
    hops: int
    rsu: bytes
    sender: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class UpstreamData:
    """An inner Ethernet frame on its way to an RSU; `origin` is the OBU whose TAP it came from."""

    receiver: bytes
    transmitter: bytes
    origin: bytes
    inner: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class DownstreamData:
    """An inner Ethernet frame on its way from an RSU to `target`, an OBU or a group address."""

    receiver: bytes
    transmitter: bytes
    origin: bytes
    target: bytes
    inner: bytes


Message: TypeAlias = Heartbeat | HeartbeatReply | UpstreamData | DownstreamData
