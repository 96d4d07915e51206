"""Nodes joined by passing bytes: an event queue in place of radios, sockets and clocks.

What a node sends arrives after a delay at every neighbour and at nobody else, unicast too, as on
a radio. Time is simulated nanoseconds.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from itertools import count

from agent.protocol.obu import Obu
from agent.protocol.replies import Outgoing, Reply
from agent.protocol.rsu import GroupCopies, Rsu

MS = 1_000_000
SECOND = 1000 * MS
HOP_NS = 100_000
GROUP = b"\xff" * 6


def mac(index: int) -> bytes:
    """The radio address of the node with that index."""
    return bytes([2, 0, 0, 0, index >> 8, index & 0xFF])


def tap_mac(index: int) -> bytes:
    """The address on the TAP of the node with that index."""
    return bytes([2, 1, 0, 0, index >> 8, index & 0xFF])


def inner(dest: bytes, source: bytes, payload: bytes = b"payload") -> bytes:
    """An inner Ethernet frame."""
    return dest + source + b"\x08\x00" + payload


class Network:
    """Named nodes, who hears whom, and what came out of each TAP."""

    def __init__(
        self,
        *,
        period_ms: int = 1000,
        group_copies: GroupCopies = "reference",
        joined: bool = False,
    ) -> None:
        self.now_ns = 0
        self.nodes: dict[str, Obu | Rsu] = {}
        self.taps: dict[str, list[bytes]] = {}
        self.frames = 0
        self._period_ms = period_ms
        self._group_copies = group_copies
        self._joined = joined
        self._indices: dict[str, int] = {}
        self._links: dict[frozenset[str], int] = {}
        self._events: list[tuple[int, int, str, bytes]] = []
        self._order = count()

    def obu(self, name: str, **options: int) -> Obu:
        node = Obu(self._new(name), **options)
        self.nodes[name] = node
        return node

    def rsu(self, name: str, **options: int) -> Rsu:
        """A new RSU; under a known name, the same one started anew."""
        node = Rsu(
            self._new(name),
            boot_ns=self.now_ns,
            hello_periodicity_ms=self._period_ms,
            group_copies=self._group_copies,
            **options,
        )
        self.nodes[name] = node
        return node

    def link(self, *pairs: tuple[str, str], delay_ns: int = HOP_NS) -> None:
        for pair in pairs:
            self._links[frozenset(pair)] = delay_ns

    def unlink(self, *pairs: tuple[str, str]) -> None:
        for pair in pairs:
            del self._links[frozenset(pair)]

    def silence(self, name: str) -> None:
        """Cut every link of a node."""
        for link in [link for link in self._links if name in link]:
            del self._links[link]

    def mac(self, name: str) -> bytes:
        return mac(self._indices[name])

    def tap_mac(self, name: str) -> bytes:
        return tap_mac(self._indices[name])

    def name(self, address: bytes | None) -> str | None:
        """The node with that radio address."""
        return next((name for name in self.nodes if self.mac(name) == address), None)

    def upstream(self, name: str) -> str | None:
        """The name of an OBU's upstream."""
        node = self.nodes[name]
        assert isinstance(node, Obu)
        return self.name(node.relay_next_hop())

    def send(self, name: str, dest: bytes, payload: bytes = b"payload") -> None:
        """Put a frame into a node's TAP."""
        frame = inner(dest, self.tap_mac(name), payload)
        self._act(name, self.nodes[name].on_tap(frame, self.now_ns))

    def transmit(self, name: str, frame: bytes) -> None:
        """Let a node's neighbours hear raw bytes."""
        self.frames += 1
        for link, delay_ns in self._links.items():
            if name in link:
                (other,) = link - {name}
                event = (self.now_ns + delay_ns, next(self._order), other, frame)
                heapq.heappush(self._events, event)

    def run(self, for_ns: int) -> None:
        """Let that much time pass."""
        end_ns = self.now_ns + for_ns
        for _ in range(200_000):
            timers = [
                (due_ns, name)
                for name, node in self.nodes.items()
                if (due_ns := node.next_timer_ns()) is not None
            ]
            due_ns, name = min(timers, default=(end_ns + 1, ""))
            arrives_ns = self._events[0][0] if self._events else end_ns + 1
            if min(due_ns, arrives_ns) > end_ns:
                self.now_ns = end_ns
                return
            if arrives_ns <= due_ns:
                self.now_ns, _, name, frame = heapq.heappop(self._events)
                self._act(name, self.nodes[name].on_wire(frame, self.now_ns))
            else:
                self.now_ns = max(self.now_ns, due_ns)
                self._act(name, self.nodes[name].on_timer(self.now_ns))
        raise AssertionError("traffic never comes to rest: something circulates")

    def settle(self) -> None:
        """Let what is on its way arrive, well within a hello period."""
        self.run(self._period_ms * MS // 10)

    def delivered(self, source: str, dest: str) -> bool:
        """Whether a frame from one TAP comes out of another, exactly once, and nowhere else."""
        payload = f"{source} to {dest} at {self.now_ns}".encode()
        self.send(source, self.tap_mac(dest), payload)
        self.settle()
        found = [name for name, tap in self.taps.items() for f in tap if f[14:] == payload]
        return found == [dest]

    def reached(self, source: str) -> list[str]:
        """Out of whose TAPs a broadcast from `source` comes, each as often as it does."""
        payload = f"{source} to all at {self.now_ns}".encode()
        self.send(source, GROUP, payload)
        self.settle()
        return sorted(name for name, tap in self.taps.items() for f in tap if f[14:] == payload)

    def say_hello_from_every_tap(self) -> None:
        """One broadcast from each, so that RSUs know who lives where."""
        for name in self.nodes:
            self.send(name, GROUP)
        self.settle()

    def _new(self, name: str) -> bytes:
        self._indices.setdefault(name, len(self._indices) + 1)
        self.taps.setdefault(name, [])
        return self.mac(name)

    def _act(self, name: str, replies: Iterable[Reply]) -> None:
        out = Outgoing()
        out.extend(replies)
        self.taps[name] += out.tap
        if self._joined and out.wire:
            self.transmit(name, b"".join(out.wire))
        else:
            for frame in out.wire:
                self.transmit(name, frame)
