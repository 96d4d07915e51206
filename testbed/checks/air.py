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
    """For each node that sent frames with a tail: how many, and how long they were."""
    sent: Counter[str] = Counter()
    tailed: dict[str, list[OnAir]] = {}
    for message in data(aired):
        sent[message.sender] += 1
        if message.tail:
            tailed.setdefault(message.sender, []).append(message)
    return [
        f"{len(messages)} of {sent[name]} data frames that {name} put on the air have other bytes "
        f"behind the packet: frames of up to {max(m.frame_bytes for m in messages)} bytes, up to "
        f"{max(m.tail for m in messages)} of them tail"
        for name, messages in sorted(tailed.items())
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
        text = (
            f"{sender} put {len(messages)} of {frames * len(names)} copies of group frames of "
            f"{size} bytes on the air"
        )
        if messages:
            to = sorted({names.get(m.receiver, m.receiver.hex(":")) for m in messages})
            text += f", to {', '.join(to)}"
        joined = [message for message in messages if message.tail]
        if joined:
            text += (
                f"; {len(joined)} with a tail, in frames of up to "
                f"{max(m.frame_bytes for m in joined)} bytes"
            )
        said.append(text)
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
