"""Classic BPF programs for sockets: assembled from tuples, no compiler involved.

Source: the kernel's Documentation/networking/filter.rst. Must not know who attaches them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

LD_W_ABS: Final = 0x20
LD_H_ABS: Final = 0x28
LD_B_ABS: Final = 0x30
LD_W_LEN: Final = 0x80
JEQ_K: Final = 0x15
JGT_K: Final = 0x25
RET_K: Final = 0x06

SKF_AD_PKTTYPE: Final = 0xFFFFF000 + 4
"""Ancillary offset that loads the packet type (SKF_AD_OFF + SKF_AD_PKTTYPE, filter.h)."""

PACKET_MULTICAST: Final = 2
PACKET_OTHERHOST: Final = 3

_ALL: Final = 0xFFFFFFFF
_TYPE_OFFSET: Final = 14
_SUBTYPE_OFFSET: Final = 15
_HEARTBEAT_BYTES: Final = 46
_REPLY_BYTES: Final = 52

Instruction = tuple[int, int, int, int]
"""code, jump if true, jump if false, operand."""


def assemble(program: Sequence[Instruction]) -> bytes:
    """The `sock_filter` array (native byte order) of a program.

    :raises ValueError: an empty or too long program, or a jump that leaves it.
    """
    if not 0 < len(program) <= 4096:
        raise ValueError("a program has 1 to 4096 instructions")
    for place, (code, if_true, if_false, _) in enumerate(program):
        is_jump = code & 0x07 == 0x05
        if is_jump and place + 1 + max(if_true, if_false) >= len(program):
            raise ValueError(f"instruction {place} jumps out of the program")
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def own_or_group_filter() -> bytes:
    """A filter that keeps overheard frames from waking the reader of a radio interface.

    What the kernel marked as for this host, broadcast or multicast passes. A frame for somebody
    else passes only if it starts with a control message and goes on after it: a later message in
    the same frame may be for us.
    """
    return assemble(
        [
            (LD_W_ABS, 0, 0, SKF_AD_PKTTYPE),
            (JGT_K, 0, 10, PACKET_MULTICAST),  # host, broadcast, multicast: accept
            (JGT_K, 10, 0, PACKET_OTHERHOST),  # our own, outgoing: drop
            (LD_B_ABS, 0, 0, _TYPE_OFFSET),
            (JEQ_K, 0, 8, 0),  # not control: drop
            (LD_B_ABS, 0, 0, _SUBTYPE_OFFSET),
            (JGT_K, 6, 0, 1),  # neither heartbeat nor reply: drop
            (JEQ_K, 0, 2, 1),
            (LD_W_LEN, 0, 0, 0),
            (JGT_K, 2, 3, _REPLY_BYTES),
            (LD_W_LEN, 0, 0, 0),
            (JGT_K, 0, 1, _HEARTBEAT_BYTES),
            (RET_K, 0, 0, _ALL),
            (RET_K, 0, 0, 0),
        ]
    )
