"""The roadside unit: sends heartbeats, learns from the replies, joins its TAP and the OBUs.

Must not know sockets, clocks or threads.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from agent.protocol.addresses import BROADCAST, is_group
from agent.protocol.clients import MAX_CLIENTS, ClientCache
from agent.protocol.codec import (
    DOWNSTREAM,
    DOWNSTREAM_OVERHEAD_BYTES,
    INNER_MIN_BYTES,
    U32_MAX,
    UPSTREAM,
    UPSTREAM_MIN_BYTES,
    UPSTREAM_OVERHEAD_BYTES,
    encode,
)
from agent.protocol.drops import DropCause
from agent.protocol.messages import (
    DownstreamData,
    Heartbeat,
    HeartbeatReply,
    Message,
    MessageKind,
    UpstreamData,
)
from agent.protocol.node import (
    DEFAULT_MAX_FRAME_BYTES,
    MAX_FLOWS,
    BaseNode,
    Flow,
    FlowRules,
    NodeSnapshot,
    node_routes,
)
from agent.protocol.replies import Outgoing, Reply
from agent.protocol.routing import Routes

GroupCopies: TypeAlias = Literal["reference", "addressed"]

# A flow of an RSU is told by everything up to and including both inner addresses.
_KEY_BYTES: Final = UPSTREAM_OVERHEAD_BYTES + 12
_TAP_KEY_BYTES: Final = 12
_GROWTH_BYTES: Final = DOWNSTREAM_OVERHEAD_BYTES - UPSTREAM_OVERHEAD_BYTES
"""By so much a message grows when it turns from upstream to downstream."""


class Rsu(BaseNode):
    """One RSU, booted at `boot_ns`; its first heartbeat is due at once.

    A heartbeat goes out every `hello_periodicity_ms`, and the last `hello_history` are remembered.
    `group_copies`: see ``docs/protocol.md``. `max_frame_bytes` is the longest frame that the radio
    carries, Ethernet header included.
    """

    kind = "rsu"

    def __init__(
        self,
        mac: bytes,
        *,
        boot_ns: int,
        hello_periodicity_ms: int = 5000,
        hello_history: int = 10,
        group_copies: GroupCopies = "reference",
        max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES,
        max_clients: int = MAX_CLIENTS,
    ) -> None:
        super().__init__(mac, max_frame_bytes=max_frame_bytes)
        if hello_periodicity_ms < 1:
            raise ValueError(f"hello_periodicity_ms must be at least 1, got {hello_periodicity_ms}")
        if hello_history < 1:
            raise ValueError(f"hello_history must be at least 1, got {hello_history}")
        if group_copies not in ("reference", "addressed"):
            raise ValueError(f"group_copies must be reference or addressed, got {group_copies!r}")
        self._boot_ns = boot_ns
        self._period_ns = hello_periodicity_ms * 1_000_000
        self._hello_history = hello_history
        self._addressed = group_copies == "addressed"
        self._max_upstream_bytes = max_frame_bytes - _GROWTH_BYTES
        self._max_inner_bytes = max_frame_bytes - DOWNSTREAM_OVERHEAD_BYTES
        self._next_hello_ns = boot_ns
        self._next_id = 0
        self._sent_ids: dict[int, None] = {}
        self._routes = Routes(self._changed)
        self._clients = ClientCache(self.mac, self._changed, max_clients=max_clients)
        self._tap_flows: dict[bytes, tuple[bytes, ...]] = {}
        self.flow_rules = FlowRules(
            flows=self._flows,
            wire_key_bytes=_KEY_BYTES,
            wire_min_bytes=UPSTREAM_MIN_BYTES,
            wire_max_bytes=self._max_upstream_bytes,
            wire_replaced_bytes=UPSTREAM_OVERHEAD_BYTES,
            wire_inner_offset=UPSTREAM_OVERHEAD_BYTES,
            tap_key_bytes=_TAP_KEY_BYTES,
            tap_min_bytes=INNER_MIN_BYTES,
            tap_max_bytes=self._max_inner_bytes,
        )

    # -- decisions, for every path that moves data --------------------------------------------

    def relay_next_hop(self, came_from: bytes | None = None) -> bytes | None:
        """An RSU is where upstream data ends: always None."""
        return None

    def downstream_next_hop(self, dest: bytes, came_from: bytes | None = None) -> bytes | None:
        """The next hop toward the OBU `dest`, or None. What an RSU sends down may go to the
        neighbour that the upstream message came from: `came_from` changes nothing."""
        return self._routes.next_hop(dest)

    def node_of(self, client: bytes) -> bytes | None:
        """The node behind which the inner address `client` lives; this RSU's MAC for its TAP."""
        return self._clients.node_of(client)

    def group_copies(self, dest: bytes, origin: bytes | None) -> tuple[tuple[bytes, bytes], ...]:
        """(next hop, destination field) of the copies of a frame with inner destination `dest`
        for every known OBU but `origin`."""
        copies = []
        for node in self._routes.nodes:
            if node != origin:
                best = self._routes.ranked(node)[0]
                addressed = self._addressed and (best.hops > 1 or not is_group(dest))
                copies.append((best.next_hop, node if addressed else dest))
        return tuple(copies)

    # -- frames --------------------------------------------------------------------------------

    def wire_into(self, frame: bytes, now_ns: int, out: Outgoing) -> None:
        flow = self._flows.get(frame[:_KEY_BYTES])
        if flow is not None and UPSTREAM_MIN_BYTES <= len(frame) <= self._max_upstream_bytes:
            flow.hits += 1
            inner = frame[UPSTREAM_OVERHEAD_BYTES:]
            if flow.to_tap:
                out.tap.append(inner)
            for header in flow.headers:
                out.wire.append(header + inner)
            return
        self._read(frame, now_ns, out)

    def tap_into(self, frame: bytes, now_ns: int, out: Outgoing) -> None:
        headers = self._tap_flows.get(frame[:_TAP_KEY_BYTES])
        if headers is None or not INNER_MIN_BYTES <= len(frame) <= self._max_inner_bytes:
            headers = self._tap_headers(frame)
        for header in headers:
            out.wire.append(header + frame)

    def kept_tap_headers(self, start: bytes) -> tuple[bytes, ...] | None:
        return self._tap_flows.get(start)

    def _tap_headers(self, frame: bytes) -> tuple[bytes, ...]:
        """What goes in front of the copies of a frame from the own TAP; counts what is dropped."""
        if len(frame) < INNER_MIN_BYTES:
            self.drops[DropCause.SHORT] += 1
            return ()
        if len(frame) > self._max_inner_bytes:
            self.drops[DropCause.OVERSIZED] += 1
            return ()
        dest, source = frame[:6], frame[6:12]
        if is_group(source):
            self.drops[DropCause.BAD_ADDRESS] += 1
            return ()
        self._clients.learn(source, self.mac)
        node = None if is_group(dest) else self._clients.node_of(dest)
        if node == self.mac:
            self.drops[DropCause.LOCAL] += 1
            return ()
        if node is None:
            copies = self.group_copies(dest, None)
        else:
            copies = ((self.downstream_next_hop(node) or node, node),)
        if not copies:
            self.drops[DropCause.NO_ROUTE] += 1
            return ()
        headers = self._headers(copies, self.mac)
        if len(self._tap_flows) >= MAX_FLOWS:
            self._tap_flows.clear()
        self._tap_flows[frame[:_TAP_KEY_BYTES]] = headers
        return headers

    def _headers(self, copies: tuple[tuple[bytes, bytes], ...], origin: bytes) -> tuple[bytes, ...]:
        return tuple(
            next_hop + self.mac + DOWNSTREAM + origin + target for next_hop, target in copies
        )

    def _message(self, message: Message, now_ns: int, out: Outgoing) -> None:
        match message:
            case UpstreamData():
                self._upstream_data(message, out)
            case HeartbeatReply():
                self._reply(message, now_ns)
            case Heartbeat() | DownstreamData():
                self.drops[DropCause.IGNORED] += 1

    def _upstream_data(self, message: UpstreamData, out: Outgoing) -> None:
        origin, inner = message.origin, message.inner
        dest, source = inner[:6], inner[6:12]
        if origin == self.mac:
            self.drops[DropCause.LOOP] += 1
            return
        if is_group(source):
            self.drops[DropCause.BAD_ADDRESS] += 1
            return
        self._clients.learn(source, origin)
        to_tap = False
        copies: tuple[tuple[bytes, bytes], ...] = ()
        if is_group(dest):
            to_tap = True
            copies = self.group_copies(dest, origin)
        else:
            node = self._clients.node_of(dest)
            if node is None:
                self.drops[DropCause.UNKNOWN_CLIENT] += 1
                return
            if node == self.mac:
                to_tap = True
            else:
                next_hop = self.downstream_next_hop(node)
                if next_hop is None:
                    self.drops[DropCause.NO_ROUTE] += 1
                    return
                copies = ((next_hop, node),)
        headers = self._headers(copies, origin)
        if to_tap:
            out.tap.append(inner)
        if headers and len(inner) > self._max_inner_bytes:
            self.drops[DropCause.OVERSIZED] += len(headers)
            return
        out.wire += [header + inner for header in headers]
        key = message.receiver + message.transmitter + UPSTREAM + origin + inner[:12]
        self._keep_flow(key, Flow(MessageKind.UPSTREAM, headers, to_tap=to_tap))

    def _reply(self, message: HeartbeatReply, now_ns: int) -> None:
        if message.rsu != self.mac:
            self.drops[DropCause.OTHER_RSU] += 1
            return
        if message.sender == self.mac:
            self.drops[DropCause.LOOP] += 1
            return
        latency_us = (now_ns - self._boot_ns) // 1000 - message.duration_ms * 1000
        # A heartbeat sent later than now was sent in an earlier life of this RSU.
        if message.hello_id not in self._sent_ids or latency_us < 0:
            self.drops[DropCause.OUTDATED] += 1
            return
        known = self._routes.observe(
            message.hello_id,
            message.sender,
            via=message.transmitter,
            hops=message.hops,
            latency_us=latency_us,
        )
        if not known:
            self.drops[DropCause.TABLE_FULL] += 1

    # -- time, failures, state -----------------------------------------------------------------

    def on_timer(self, now_ns: int) -> list[Reply]:
        """Send the heartbeat that is due, if one is. Late calls do not pile heartbeats up."""
        if now_ns < self._next_hello_ns:
            return []
        return self.heartbeat_now(now_ns)

    def heartbeat_now(self, now_ns: int) -> list[Reply]:
        """Send a heartbeat, due or not; after one out of turn a whole period begins."""
        in_turn = 0 <= now_ns - self._next_hello_ns < self._period_ns
        self._next_hello_ns = (self._next_hello_ns if in_turn else now_ns) + self._period_ns
        hello_id = self._next_id
        self._next_id = (hello_id + 1) & U32_MAX
        self._sent_ids[hello_id] = None
        if len(self._sent_ids) > self._hello_history:
            oldest = next(iter(self._sent_ids))
            del self._sent_ids[oldest]
            self._routes.forget(oldest)
        heartbeat = Heartbeat(
            receiver=BROADCAST,
            transmitter=self.mac,
            duration_ms=max(now_ns - self._boot_ns, 0) // 1_000_000,
            hello_id=hello_id,
            hops=1,
            rsu=self.mac,
        )
        out = Outgoing()
        out.wire.append(encode(heartbeat))
        return out.replies()

    def next_timer_ns(self) -> int | None:
        """When the next heartbeat is due."""
        return self._next_hello_ns

    def on_send_failed(self, next_hop: bytes, now_ns: int) -> None:
        """Changes nothing: routes follow from what is heard, and go with it."""

    def snapshot(self, now_ns: int) -> NodeSnapshot:
        """What this RSU knows at `now_ns`; changes nothing."""
        return NodeSnapshot(
            kind="rsu",
            mac=self.mac,
            routes=node_routes(self._routes),
            clients=self._clients.items(),
            next_timer_ns=self.next_timer_ns(),
        )

    def _changed(self) -> None:
        super()._changed()
        self._tap_flows.clear()
