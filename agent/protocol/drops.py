"""Why a node drops something: one name per cause.

Must not know who counts. Every message or frame that a node does not act upon is counted under
exactly one of these names, so that a ledger of offered and delivered frames can close.
"""

from __future__ import annotations

from enum import StrEnum


class DropCause(StrEnum):
    """The value is the name that statistics and reports print."""

    # Frames that cannot be read.
    SHORT = "short"
    """Shorter than an Ethernet header with packet type and subtype."""
    FOREIGN = "foreign"
    """Another EtherType: not this protocol."""
    AUTH = "auth"
    """Packet type 2, reserved."""
    UNKNOWN_TYPE = "unknown_type"
    """A packet type or subtype that the protocol does not have."""
    TRUNCATED = "truncated"
    """The body is shorter than its type needs."""
    TRAILING = "trailing"
    """Bytes after the last message of a frame that are no message."""
    PADDING = "padding"
    """Zero bytes that fill a frame up to Ethernet's minimum of 60: counted, but no loss."""
    OVERSIZED = "oversized"
    """Longer than the radio carries, as it came or as it would have to be sent."""
    BAD_ADDRESS = "bad_address"
    """A group address where only one station's own can stand."""

    # Messages that are not for this node.
    OVERHEARD = "overheard"
    """Addressed to another node."""
    IGNORED = "ignored"
    """A kind of message that this kind of node does not act upon."""
    OTHER_RSU = "other_rsu"
    """A heartbeat reply for another RSU, heard by an RSU."""

    # Control messages.
    OUTDATED = "outdated"
    """A reply to a heartbeat that this RSU has forgotten or, in this life, not sent."""
    UNKNOWN_HELLO = "unknown_hello"
    """A reply to a heartbeat that this OBU has not heard or has forgotten."""
    HOPS = "hops"
    """A heartbeat whose hop count cannot be raised any more."""
    TABLE_FULL = "table_full"
    """A table has reached its bound and takes nothing new."""

    # Data that cannot go on.
    LOOP = "loop"
    """It came back to where it had been, or could only be sent back to where it came from."""
    NO_UPSTREAM = "no_upstream"
    """The OBU knows no way to an RSU."""
    NO_ROUTE = "no_route"
    """No next hop toward that OBU, or no OBU to send to at all."""
    UNKNOWN_CLIENT = "unknown_client"
    """The RSU does not know where the inner destination lives."""
    LOCAL = "local"
    """From the node's own TAP to an address that lives on that same TAP."""
