"""What a capture of the air says, in words: copies that were sent, and bytes that hang on a tail.

Must not know what was expected to arrive, nor where.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from agent.protocol import codec
from agent.protocol.messages import DownstreamData, UpstreamData
from testbed.checks import numbered
from testbed.checks.site import Seen

_IPV4, _ARP, _IPV6 = b"\x08\x00", b"\x08\x06", b"\x86\xdd"
_ARP_BYTES = 14 + 28
_FILLED_UP = 60
"""Short packets may stand in a frame filled up to Ethernet's least length."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OnAir:
    """A data message on the air, in a frame of `frame_bytes`; `tail` bytes belong to no packet."""

    sender: str
    receiver: bytes
    inner: bytes
    frame_bytes: int
    tail: int
    at_ns: int


def data(aired: Sequence[Seen]) -> Iterator[OnAir]:
    """The data messages among the frames; what follows one in its frame is its tail."""
    for seen in aired:
        for message in codec.parse(seen.frame):
            if isinstance(message, UpstreamData | DownstreamData):
                yield OnAir(
                    sender=seen.node,
                    receiver=message.receiver,
                    inner=message.inner,
                    frame_bytes=len(seen.frame),
                    tail=_tail(message.inner),
                    at_ns=seen.at_ns,
                )


def tails(aired: Sequence[Seen]) -> list[str]:
    """How many data frames had a tail, whose they were, and how long; nothing if none had."""
    sent: Counter[str] = Counter()
    tailed: Counter[str] = Counter()
    longest = most = 0
    for message in data(aired):
        sent[message.sender] += 1
        if message.tail:
            tailed[message.sender] += 1
            longest = max(longest, message.frame_bytes)
            most = max(most, message.tail)
    if not tailed:
        return []
    by_node = ", ".join(f"{name} {count} of {sent[name]}" for name, count in sorted(tailed.items()))
    return [
        (
            f"of {sent.total()} data frames on the air {tailed.total()} had other bytes behind the "
            f"packet, up to {most} in frames of up to {longest} bytes ({by_node})"
        )
    ]


def copies(
    aired: Sequence[Seen], sender: str, sizes: Mapping[int, int], names: Mapping[bytes, str]
) -> list[str]:
    """For each size of group frames: the copies that `sender` put on the air, and to whom.

    `sizes` maps the numbers of group frames to their sizes, `names` radio MACs to the OBUs that
    are to have a copy each.
    """
    of_size: dict[int, list[OnAir]] = {size: [] for size in sorted(set(sizes.values()))}
    for message in data(aired):
        if message.sender == sender and numbered.is_test_frame(message.inner):
            size = sizes.get(numbered.number_of(message.inner))
            if size is not None:
                of_size[size].append(message)
    said = []
    for size, messages in of_size.items():
        frames = sum(one == size for one in sizes.values())
        text = f"{len(messages)} of {frames * len(names)} copies of {size} bytes"
        if messages:
            to = sorted({names.get(m.receiver, m.receiver.hex(":")) for m in messages})
            text += f" (to {', '.join(to)})"
        joined = [message for message in messages if message.tail]
        if joined:
            longest = max(message.frame_bytes for message in joined)
            text += f", {len(joined)} of them with a tail, in frames of up to {longest} bytes"
        said.append(f"{sender} put on the air {text}")
    return said


def _tail(inner: bytes) -> int:
    kind = inner[12:14]
    if kind == _IPV4 and len(inner) >= 20:
        said = numbered.said_bytes(inner)
    elif kind == _ARP:
        said = _ARP_BYTES
    elif kind == _IPV6 and len(inner) >= 20:
        said = 14 + 40 + int.from_bytes(inner[18:20], "big")
    else:
        return 0
    return max(0, len(inner) - max(said, _FILLED_UP))
