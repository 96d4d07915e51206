"""The on-board unit: passes heartbeats on, chooses an upstream, relays data both ways.

Must not know sockets, clocks or threads.
"""

from __future__ import annotations

from agent.protocol.addresses import BROADCAST, is_group
from agent.protocol.codec import (
    DOWNSTREAM,
    DOWNSTREAM_MIN_BYTES,
    DOWNSTREAM_OVERHEAD_BYTES,
    INNER_MIN_BYTES,
    U32_MAX,
    UPSTREAM,
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
    BaseNode,
    Flow,
    FlowRules,
    HeardRsu,
    NodeSnapshot,
    node_routes,
)
from agent.protocol.replies import Outgoing, Reply
from agent.protocol.routing import Routes
from agent.protocol.selection import Candidate
from agent.protocol.upstream import Upstreams

# A flow of an OBU is told by everything up to and including the destination of a downstream
# message; of an upstream message that takes in the inner destination, which does no harm.
_KEY_BYTES = DOWNSTREAM_OVERHEAD_BYTES


class Obu(BaseNode):
    """One OBU. `hello_history` heartbeats per RSU are remembered, `cached_candidates` upstreams
    kept, the current one among them; `max_frame_bytes` is the longest frame that the radio
    carries, Ethernet header included.
    """

    kind = "obu"

    def __init__(
        self,
        mac: bytes,
        *,
        hello_history: int = 10,
        cached_candidates: int = 3,
        max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES,
    ) -> None:
        super().__init__(mac, max_frame_bytes=max_frame_bytes)
        self._tap_header: bytes | None = None
        self._max_inner_bytes = max_frame_bytes - UPSTREAM_OVERHEAD_BYTES
        self.flow_rules = FlowRules(
            flows=self._flows,
            wire_key_bytes=_KEY_BYTES,
            wire_min_bytes=DOWNSTREAM_MIN_BYTES,
            wire_max_bytes=max_frame_bytes,
            wire_replaced_bytes=12,
            wire_inner_offset=DOWNSTREAM_OVERHEAD_BYTES,
            tap_key_bytes=0,
            tap_min_bytes=INNER_MIN_BYTES,
            tap_max_bytes=self._max_inner_bytes,
        )
        self._routes = Routes(self._changed)
        self._upstreams = Upstreams(
            self._changed,
            self._routes.forget,
            hello_history=hello_history,
            cached_candidates=cached_candidates,
        )

    # -- decisions, for every path that moves data --------------------------------------------

    @property
    def upstream(self) -> Candidate | None:
        """The current upstream."""
        return self._upstreams.current

    def relay_next_hop(self, came_from: bytes | None = None) -> bytes | None:
        """Where upstream data goes next; never back to `came_from`. None: nowhere."""
        return self._upstreams.next_hop(came_from)

    def downstream_next_hop(self, dest: bytes, came_from: bytes | None = None) -> bytes | None:
        """Where downstream data for the OBU `dest` goes next; never back to `came_from`."""
        return self._routes.next_hop(dest, came_from)

    # -- frames --------------------------------------------------------------------------------

    def wire_into(self, frame: bytes, now_ns: int, out: Outgoing) -> None:
        flow = self._flows.get(frame[:_KEY_BYTES])
        if flow is not None and DOWNSTREAM_MIN_BYTES <= len(frame) <= self._max_frame_bytes:
            flow.hits += 1
            if flow.to_tap:
                out.tap.append(frame[DOWNSTREAM_OVERHEAD_BYTES:])
            else:
                out.wire.append(flow.headers[0] + frame[12:])
            return
        self._read(frame, now_ns, out)

    def tap_into(self, frame: bytes, now_ns: int, out: Outgoing) -> None:
        header = self._tap_header
        if header is not None and INNER_MIN_BYTES <= len(frame) <= self._max_inner_bytes:
            out.wire.append(header + frame)
        elif len(frame) < INNER_MIN_BYTES:
            self.drops[DropCause.SHORT] += 1
        elif len(frame) > self._max_inner_bytes:
            self.drops[DropCause.OVERSIZED] += 1
        else:
            self.drops[DropCause.NO_UPSTREAM] += 1

    def kept_tap_headers(self, start: bytes) -> tuple[bytes, ...] | None:
        return None if self._tap_header is None else (self._tap_header,)

    def _message(self, message: Message, now_ns: int, out: Outgoing) -> None:
        match message:
            case Heartbeat():
                self._heartbeat(message, now_ns, out)
            case HeartbeatReply():
                self._reply(message, now_ns, out)
            case UpstreamData():
                self._upstream_data(message, out)
            case DownstreamData():
                self._downstream_data(message, out)

    def _heartbeat(self, message: Heartbeat, now_ns: int, out: Outgoing) -> None:
        if message.rsu == self.mac:
            self.drops[DropCause.LOOP] += 1
            return
        if message.hops == U32_MAX:
            self.drops[DropCause.HOPS] += 1
            return
        new = self._upstreams.heard(
            rsu=message.rsu,
            hello_id=message.hello_id,
            duration_ms=message.duration_ms,
            hops=message.hops,
            via=message.transmitter,
            now_ns=now_ns,
        )
        if new is None:
            self.drops[DropCause.TABLE_FULL] += 1
        elif new:
            again = Heartbeat(
                receiver=BROADCAST,
                transmitter=self.mac,
                duration_ms=message.duration_ms,
                hello_id=message.hello_id,
                hops=message.hops + 1,
                rsu=message.rsu,
            )
            reply = HeartbeatReply(
                receiver=message.transmitter,
                transmitter=self.mac,
                duration_ms=message.duration_ms,
                hello_id=message.hello_id,
                hops=message.hops,
                rsu=message.rsu,
                sender=self.mac,
            )
            out.wire += (encode(again), encode(reply))

    def _reply(self, message: HeartbeatReply, now_ns: int, out: Outgoing) -> None:
        hello = self._upstreams.hello(message.rsu, message.hello_id)
        if hello is None:
            self.drops[DropCause.UNKNOWN_HELLO] += 1
            return
        if message.sender in (hello.via, self.mac):
            self.drops[DropCause.LOOP] += 1
            return
        latency_us = max(now_ns - hello.received_ns, 0) // 1000
        key = (message.rsu, message.hello_id)
        neighbour = message.transmitter
        # Counted from here, not from the RSU: only so do the distances through several RSUs
        # compare, and shrink from node to node.
        hops = max(message.hops - hello.hops, 1)
        known = self._routes.observe(
            key, message.sender, via=neighbour, hops=hops, latency_us=latency_us
        ) and self._routes.observe(key, neighbour, via=neighbour, hops=1, latency_us=None)
        if not known:
            self.drops[DropCause.TABLE_FULL] += 1
        if message.sender == neighbour:
            through_us = message.receiver == self.mac
            self._upstreams.answered(*key, neighbour, latency_us, through_us=through_us)
        if hello.via == neighbour:
            self.drops[DropCause.LOOP] += 1
            return
        forwarded = HeartbeatReply(
            receiver=hello.via,
            transmitter=self.mac,
            duration_ms=message.duration_ms,
            hello_id=message.hello_id,
            hops=message.hops,
            rsu=message.rsu,
            sender=message.sender,
        )
        out.wire.append(encode(forwarded))

    def _upstream_data(self, message: UpstreamData, out: Outgoing) -> None:
        if message.origin == self.mac:
            self.drops[DropCause.LOOP] += 1
            return
        next_hop = self.relay_next_hop(message.transmitter)
        if next_hop is None:
            turned_back = self._upstreams.current is not None
            self.drops[DropCause.LOOP if turned_back else DropCause.NO_UPSTREAM] += 1
            return
        rest = UPSTREAM + message.origin + message.inner
        header = next_hop + self.mac
        out.wire.append(header + rest)
        key = message.receiver + message.transmitter + rest
        flow = Flow(MessageKind.UPSTREAM, (header,), to_tap=False)
        self._keep_flow(key[:_KEY_BYTES], flow)

    def _downstream_data(self, message: DownstreamData, out: Outgoing) -> None:
        rest = DOWNSTREAM + message.origin + message.target
        if message.target == self.mac or is_group(message.target):
            if message.origin == self.mac:
                self.drops[DropCause.LOOP] += 1
                return
            flow = Flow(MessageKind.DOWNSTREAM, (), to_tap=True)
            out.tap.append(message.inner)
        else:
            next_hop = self.downstream_next_hop(message.target, message.transmitter)
            if next_hop is None:
                turned_back = message.target in self._routes
                self.drops[DropCause.LOOP if turned_back else DropCause.NO_ROUTE] += 1
                return
            header = next_hop + self.mac
            flow = Flow(MessageKind.DOWNSTREAM, (header,), to_tap=False)
            out.wire.append(header + rest + message.inner)
        self._keep_flow(message.receiver + message.transmitter + rest, flow)

    # -- time, failures, state -----------------------------------------------------------------

    def on_timer(self, now_ns: int) -> list[Reply]:
        """Expire what has been silent for too long."""
        deadline_ns = self._upstreams.deadline_ns
        if deadline_ns is not None and now_ns >= deadline_ns:
            self._upstreams.expire(now_ns)
        return []

    def next_timer_ns(self) -> int | None:
        """When something may expire; None while no heartbeat is remembered."""
        return self._upstreams.deadline_ns

    def on_send_failed(self, next_hop: bytes, now_ns: int) -> None:
        """A frame could not be sent to `next_hop`: if it is the upstream, the next one takes over
        at once, until a heartbeat through `next_hop` is heard again."""
        self._upstreams.send_failed(next_hop, now_ns)

    def snapshot(self, now_ns: int) -> NodeSnapshot:
        """What this OBU knows at `now_ns`; changes nothing."""
        return NodeSnapshot(
            kind="obu",
            mac=self.mac,
            upstream=self._upstreams.current,
            candidates=self._upstreams.candidates,
            rsus=tuple(
                HeardRsu(
                    rsu=rsu,
                    last_id=max(history.hellos),
                    neighbours=len(history.neighbours),
                    period_ms=history.period.period_ns / 1e6,
                    period_known=history.period.known,
                    silent_ms=(now_ns - history.heard_ns) / 1e6,
                )
                for rsu, history in sorted(self._upstreams.rsus.items())
            ),
            routes=node_routes(self._routes),
            next_timer_ns=self.next_timer_ns(),
        )

    def _changed(self) -> None:
        super()._changed()
        next_hop = self.relay_next_hop()
        self._tap_header = None if next_hop is None else next_hop + self.mac + UPSTREAM + self.mac
