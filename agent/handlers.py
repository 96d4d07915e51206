"""The two ways from received frames to frames to send, drop-in for each other.

Must not know sockets, engines or clocks. Both hand every frame to the node in the order in which
it came, so the node decides the same; they differ in the order of what comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from agent.protocol.addresses import MAC_BYTES
from agent.protocol.node import DirectNode, Node
from agent.protocol.replies import Outgoing

__all__ = ["BatchedHandler", "Handler", "Outgoing", "PerPacketHandler"]


class Handler(Protocol):
    """Frames in, frames out. `now_ns` is the monotonic time at which the frames were taken."""

    def handle_wire(self, frames: Sequence[bytes], now_ns: int) -> Outgoing:
        """Whole frames from the radio, in order of arrival."""

    def handle_tap(self, frames: Sequence[bytes], now_ns: int) -> Outgoing:
        """Inner Ethernet frames from the node's own TAP, in order of arrival."""

    def handle_timer(self, now_ns: int) -> Outgoing:
        """Whatever the node does by itself at this time."""


class _ByReplies:
    """A node that answers with reply objects only, flat or nested, behind the direct interface."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def wire_into(self, frame: bytes, now_ns: int, out: Outgoing) -> None:
        out.extend(self._node.on_wire(frame, now_ns))

    def tap_into(self, frame: bytes, now_ns: int, out: Outgoing) -> None:
        out.extend(self._node.on_tap(frame, now_ns))


class PerPacketHandler:
    """Frames come out in the order in which the node gave them."""

    def __init__(self, node: Node) -> None:
        self._node = node
        direct = node if isinstance(node, DirectNode) else _ByReplies(node)
        self._wire_into = direct.wire_into
        self._tap_into = direct.tap_into

    def handle_wire(self, frames: Sequence[bytes], now_ns: int) -> Outgoing:
        out = Outgoing()
        wire_into = self._wire_into
        for frame in frames:
            wire_into(frame, now_ns, out)
        return out

    def handle_tap(self, frames: Sequence[bytes], now_ns: int) -> Outgoing:
        out = Outgoing()
        tap_into = self._tap_into
        for frame in frames:
            tap_into(frame, now_ns, out)
        return out

    def handle_timer(self, now_ns: int) -> Outgoing:
        out = Outgoing()
        out.extend(self._node.on_timer(now_ns))
        return out


class BatchedHandler(PerPacketHandler):
    """Frames for the radio come out grouped by destination.

    Destinations keep the order in which they were first seen, and frames their order within a
    destination; frames for the TAP have one destination and stay as they are.
    """

    def handle_wire(self, frames: Sequence[bytes], now_ns: int) -> Outgoing:
        return _grouped(super().handle_wire(frames, now_ns))

    def handle_tap(self, frames: Sequence[bytes], now_ns: int) -> Outgoing:
        return _grouped(super().handle_tap(frames, now_ns))

    def handle_timer(self, now_ns: int) -> Outgoing:
        return _grouped(super().handle_timer(now_ns))


def _grouped(out: Outgoing) -> Outgoing:
    if len(out.wire) > 2:
        groups: dict[bytes, list[bytes]] = {}
        for frame in out.wire:
            groups.setdefault(frame[:MAC_BYTES], []).append(frame)
        if len(groups) > 1:
            out.wire = [frame for group in groups.values() for frame in group]
    return out
