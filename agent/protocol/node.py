"""What OBU and RSU have in common: reading frames, counting, and the memory of decided flows.

Must not know sockets, clocks or threads: frames and the time come in as arguments, frames to
send go out as return values.

**Flows.** What happens to a data message follows from its first bytes (addresses, kind, origin,
destination) and from the routing tables. The first message of a flow takes the readable way
through `_message`, which decides; the decision is kept under those bytes, so that the next ones
cost one look-up. Every change of a table drops all flows, so there is one place that decides and
nothing that can disagree with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol, runtime_checkable

from agent.protocol.addresses import checked_mac, is_group
from agent.protocol.codec import ETHERNET_HEADER_BYTES, parse
from agent.protocol.drops import DropCause
from agent.protocol.messages import (
    DownstreamData,
    Heartbeat,
    HeartbeatReply,
    Message,
    MessageKind,
    UpstreamData,
)
from agent.protocol.replies import Outgoing, Reply
from agent.protocol.routing import Routes
from agent.protocol.selection import Candidate

DEFAULT_MAX_FRAME_BYTES: Final = 1500 + ETHERNET_HEADER_BYTES
"""What a radio with the usual MTU carries."""
MAX_FLOWS: Final = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeRoute:
    """The next hop toward `node`; `score_us` is None where no latency was measured."""

    node: bytes
    next_hop: bytes
    hops: int
    score_us: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class HeardRsu:
    """An RSU whose heartbeats an OBU remembers; `period_ms` is assumed until it is known."""

    rsu: bytes
    last_id: int
    neighbours: int
    period_ms: float
    period_known: bool
    silent_ms: float


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeSnapshot:
    """What a node knows at one moment.

    `candidates` are an OBU's, the current upstream first, and so are `rsus`; `clients` are an
    RSU's, as (inner MAC, MAC of the node it lives behind).
    """

    kind: Literal["obu", "rsu"]
    mac: bytes
    upstream: Candidate | None = None
    candidates: tuple[Candidate, ...] = ()
    rsus: tuple[HeardRsu, ...] = ()
    routes: tuple[NodeRoute, ...]
    clients: tuple[tuple[bytes, bytes], ...] = ()
    next_timer_ns: int | None


class Node(Protocol):
    """A node of either kind, as a driver sees it. All times are monotonic nanoseconds."""

    @property
    def mac(self) -> bytes: ...
    @property
    def drops(self) -> Counter[DropCause]: ...
    def on_wire(self, frame: bytes, now_ns: int) -> list[Reply]:
        """Take a frame from the radio, with every message in it."""

    def on_tap(self, frame: bytes, now_ns: int) -> list[Reply]:
        """Take an inner Ethernet frame from the node's own TAP."""

    def on_timer(self, now_ns: int) -> list[Reply]:
        """Do what is due; harmless if nothing is."""

    def next_timer_ns(self) -> int | None:
        """When `on_timer` must be called next."""

    def on_send_failed(self, next_hop: bytes, now_ns: int) -> None:
        """A frame could not be sent to that neighbour."""

    def snapshot(self, now_ns: int) -> NodeSnapshot: ...


@runtime_checkable
class DirectNode(Protocol):
    """A node that can also append its frames straight to an `Outgoing`, without reply objects."""

    def wire_into(self, frame: bytes, now_ns: int, out: Outgoing) -> None: ...
    def tap_into(self, frame: bytes, now_ns: int, out: Outgoing) -> None: ...


class Flow:
    """A decision about the data messages that begin alike.

    `headers`: what stands in front of each frame to send, before the rest of the received frame
    (how much of it, the node knows). `to_tap`: the inner frame also goes into the own TAP.
    """

    __slots__ = ("headers", "hits", "kind", "to_tap")

    def __init__(self, kind: MessageKind, headers: tuple[bytes, ...], *, to_tap: bool) -> None:
        self.kind = kind
        self.headers = headers
        self.to_tap = to_tap
        self.hits = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowRules:
    """How to act upon kept decisions for a whole batch, without a call of the node per frame.

    From the radio: a frame of `wire_min_bytes` to `wire_max_bytes` whose first `wire_key_bytes` are
    a key of `flows` goes out once per header of that flow, the header standing in place of the
    frame's first `wire_replaced_bytes`; with `to_tap`, what follows its first `wire_inner_offset`
    bytes also goes into the own TAP. From the TAP: a frame of `tap_min_bytes` to `tap_max_bytes`
    goes out once per header that `kept_tap_headers` has for its first `tap_key_bytes`, behind it.
    Whoever acts so adds to `hits`, leaves all other frames to the node, in order, and looks up
    anew after each call of the node.
    """

    flows: Mapping[bytes, Flow]
    wire_key_bytes: int
    wire_min_bytes: int
    wire_max_bytes: int
    wire_replaced_bytes: int
    wire_inner_offset: int
    tap_key_bytes: int
    tap_min_bytes: int
    tap_max_bytes: int


class BaseNode(ABC):
    """Reading, filtering and counting; what a message means is the subclasses' matter.

    A message is taken only if its own destination is this node or a group address. `drops` counts
    by cause; whoever handles frames outside of this class adds to it what it drops.
    """

    flow_rules: FlowRules

    def __init__(self, mac: bytes, *, max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES) -> None:
        self.mac = checked_mac(mac, "mac")
        self.drops: Counter[DropCause] = Counter()
        self.version = 0
        """Grows with every change of a routing decision: what was derived before is void."""
        self._max_frame_bytes = max_frame_bytes
        self._flows: dict[bytes, Flow] = {}
        self._messages: Counter[MessageKind] = Counter()

    @property
    def messages(self) -> Counter[MessageKind]:
        """Messages taken from the wire (readable, and for this node), by kind."""
        counts = self._messages.copy()
        for flow in self._flows.values():
            counts[flow.kind] += flow.hits
        return counts

    def on_wire(self, frame: bytes, now_ns: int) -> list[Reply]:
        """Take a frame from the radio, with every message in it; flat replies. Never raises."""
        out = Outgoing()
        self.wire_into(frame, now_ns, out)
        return out.replies()

    def on_tap(self, frame: bytes, now_ns: int) -> list[Reply]:
        """Take an inner Ethernet frame from the own TAP; flat replies. Never raises."""
        out = Outgoing()
        self.tap_into(frame, now_ns, out)
        return out.replies()

    @abstractmethod
    def wire_into(self, frame: bytes, now_ns: int, out: Outgoing) -> None:
        """`on_wire`, appending to `out`."""

    @abstractmethod
    def tap_into(self, frame: bytes, now_ns: int, out: Outgoing) -> None:
        """`on_tap`, appending to `out`."""

    @abstractmethod
    def kept_tap_headers(self, start: bytes) -> tuple[bytes, ...] | None:
        """The kept decision about frames from the TAP that begin with `start` (see `FlowRules`)."""

    @abstractmethod
    def _message(self, message: Message, now_ns: int, out: Outgoing) -> None:
        """Act upon a message that is for this node."""

    def _read(self, frame: bytes, now_ns: int, out: Outgoing) -> None:
        """The readable way for a whole frame: every message in it, filtered and counted."""
        if len(frame) > self._max_frame_bytes:
            self.drops[DropCause.OVERSIZED] += 1
            return
        for item in parse(frame):
            if isinstance(item, DropCause):
                self.drops[item] += 1
            elif item.receiver != self.mac and not is_group(item.receiver):
                self.drops[DropCause.OVERHEARD] += 1
            else:
                self._messages[_KINDS[type(item)]] += 1
                if item.transmitter == self.mac:
                    self.drops[DropCause.LOOP] += 1
                else:
                    self._message(item, now_ns, out)

    def _keep_flow(self, key: bytes, flow: Flow) -> None:
        if key in self._flows:
            # Decided again since the message was not at the start of its frame, or a long one:
            # the decision is the same, and the one that is kept has counted.
            return
        if len(self._flows) >= MAX_FLOWS:
            self._drop_flows()
        self._flows[key] = flow

    def _drop_flows(self) -> None:
        for flow in self._flows.values():
            self._messages[flow.kind] += flow.hits
        self._flows.clear()

    def _changed(self) -> None:
        """A table has changed: nothing that was decided before holds any more."""
        self.version += 1
        self._drop_flows()


def node_routes(routes: Routes) -> tuple[NodeRoute, ...]:
    """The best route to every node of a table, in order of MAC address."""
    return tuple(
        NodeRoute(node=node, next_hop=best.next_hop, hops=best.hops, score_us=best.score_us)
        for node in routes.nodes
        for best in routes.ranked(node)[:1]
    )


_KINDS: Final[dict[type[Message], MessageKind]] = {
    Heartbeat: MessageKind.HEARTBEAT,
    HeartbeatReply: MessageKind.HEARTBEAT_REPLY,
    UpstreamData: MessageKind.UPSTREAM,
    DownstreamData: MessageKind.DOWNSTREAM,
}
