"""What a node does to a frame on each way, as bytes taken from its front and bytes put there.

Pure. For forwarders that know no protocol; what they make of a frame is what an OBU makes of it.
Must not know who forwards, or how.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.protocol.codec import encode
from agent.protocol.messages import UpstreamData
from testbed.traffic.paths import Path
from testbed.traffic.place import Surface

WAYS: Final = (Path.RELAY, Path.TAP_TO_WIRE, Path.WIRE_TO_TAP)
"""What an OBU at full load is measured on."""

MATCH_AT: Final = 12
_UPSTREAM: Final = bytes.fromhex("30300100")
_DOWNSTREAM: Final = bytes.fromhex("30300101")
_ADDRESSES: Final = 12
_DOWNSTREAM_BYTES: Final = 28


@dataclass(frozen=True, kw_only=True, slots=True)
class Rewrite:
    """Of a frame from `source`, `strip` bytes go and `push` comes in front; it leaves at `sink`.

    On the wire only frames that have `match` from their byte `MATCH_AT` on are data, the others
    are to be left alone. `match` is empty on a TAP, where everything is data.
    """

    source: Surface
    sink: Surface
    strip: int
    match: bytes
    push: bytes


def rewrite_of(way: Path, *, node: bytes, upstream: bytes) -> Rewrite:
    """The rewrite on one of `WAYS` through the OBU `node`, whose upstream is `upstream` (MACs)."""
    if way is Path.RELAY:
        return Rewrite(
            source=Surface.WIRE,
            sink=Surface.WIRE,
            strip=_ADDRESSES,
            match=_UPSTREAM,
            push=upstream + node,
        )
    if way is Path.TAP_TO_WIRE:
        header = encode(UpstreamData(receiver=upstream, transmitter=node, origin=node, inner=b""))
        return Rewrite(source=Surface.TAP, sink=Surface.WIRE, strip=0, match=b"", push=header)
    if way is Path.WIRE_TO_TAP:
        return Rewrite(
            source=Surface.WIRE,
            sink=Surface.TAP,
            strip=_DOWNSTREAM_BYTES,
            match=_DOWNSTREAM,
            push=b"",
        )
    raise ValueError(f"no rewrite for {way}")
