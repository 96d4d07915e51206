"""The only loop: waits for frames, timers and requests, and joins engines with the node.

Two flavours, chosen once. *Frame by frame* receives, decides and sends one frame after the other;
*batched* hands whole batches to the pipeline, and single frames to the first flavour, since a
batch of one costs more than a frame. Must not know how descriptors are opened, or what frames
mean.
"""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Callable, Mapping, Sequence
from errno import ENETDOWN
from typing import Final, Protocol

from agent import coalescing
from agent.adaptive import AdaptiveBatchSize
from agent.batch import FrameBatch
from agent.config import Coalesce
from agent.engines.base import Engine, Side
from agent.errors import InterfaceGoneError
from agent.gathering import Action, Events, Gatherer
from agent.handlers import BatchedHandler, PerPacketHandler
from agent.linux import netif, timers
from agent.outlet import FEW, Outlet
from agent.pipeline import Kept, Pipeline
from agent.protocol.node import DirectNode, Node
from agent.protocol.replies import Outgoing, Reply
from agent.singly import Into, taker
from agent.slowing import slowed
from agent.tracing import Receive, tracer

log = logging.getLogger("agent")

FRAME_BUDGET: Final = 64
"""Frames that one side may take per wake-up, frame by frame, before the other has its turn."""
BATCH_BUDGET: Final = 256
"""The same for whole batches."""
FEW_AFTER_SLEEP: Final = 8
"""Up to so many frames go one by one after a sleep, by measurement: arrays need much code that has
not run since before it, and for one batch; the loop over single frames is small, and soon warm."""
_PROBE_MASK: Final = 7
"""While wake-ups find one frame each, only every eighth looks whether there is a second."""

Handle = Callable[[FrameBatch, int], None]


class DrivenNode(Node, DirectNode, Kept, Protocol):
    """What the driver needs of a node."""

    version: int


class Driver:
    """Runs one node on its two engines until `stop`.

    `changed` is called after a wake-up in which the node's decisions changed. `coalesce` is whether
    frames may gather before they are looked at, `max_wait_us` how long one of them may wait.
    `batch_sizes` are the least, the first and the greatest size of batches to ask for, each side by
    its load; None asks for as many as an engine takes. `wasted_ns` is time to waste for each frame,
    for tests.
    """

    def __init__(
        self,
        node: DrivenNode,
        wire: Engine,
        tap: Engine,
        *,
        batched: bool,
        coalesce: Coalesce = "off",
        max_wait_us: int = 0,
        batch_sizes: tuple[int, int, int] | None = None,
        wasted_ns: int = 0,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.node = node
        self.wire = wire
        self.tap = tap
        self.batched = batched
        self.coalesce: Coalesce = coalesce if max_wait_us else "off"
        self.adaptive: dict[Side, AdaptiveBatchSize] = {}
        self._batch_sizes = batch_sizes
        self._wasted_ns = wasted_ns
        self._wakeups = 0
        self._changed = changed
        self._to_wire = Outlet(wire, node)
        self._to_tap = Outlet(tap, node)
        self._ifindexes = {engine: netif.index(engine.port.ifname) for engine in (wire, tap)}
        self._stopping = False
        self._epoll = select.epoll()
        self._actions: dict[int, Action] = {}
        self._tracer = tracer(wire.counters, tap.counters)
        # A batch of one frame is a frame.
        in_batches = batched and max(wire.batch_size, tap.batch_size) > 1
        # What is to leave together must come as a batch.
        self._singly = not (wire.joins or wire.gathers or tap.gathers)
        self._gatherer = self._make_gatherer(max_wait_us, BATCH_BUDGET if in_batches else 1)
        if in_batches:
            from_wire, from_tap = self._ways(node)
            self._watch(wire, self._in_batches(wire, node.wire_into, from_wire))
            self._watch(tap, self._in_batches(tap, node.tap_into, from_tap))
        else:
            self._watch(wire, self._one_by_one(wire, node.wire_into))
            self._watch(tap, self._one_by_one(tap, node.tap_into))

    def watch(self, fd: int, action: Callable[[], object]) -> None:
        """Call `action` whenever `fd` is readable."""

        def act(now_ns: int) -> int:
            action()
            return 0

        self._actions[fd] = act
        self._epoll.register(fd, select.EPOLLIN)

    def _watch(self, engine: Engine, action: Action) -> None:
        if self._wasted_ns:
            action = slowed(action, self._wasted_ns)
        if self._tracer is not None:
            action = self._tracer.draining(action)
        self._actions[engine.fileno()] = action
        self._epoll.register(engine.fileno(), select.EPOLLIN)

    def _make_gatherer(self, max_wait_us: int, batch: int) -> Gatherer | None:
        waiting = coalescing.make(
            self.coalesce,
            max_wait_ns=max_wait_us * 1000,
            batch=self.wire.batch_size if batch > 1 else 1,
            singly=FEW_AFTER_SLEEP if self._singly else 0,
        )
        if waiting is None:
            return None
        return Gatherer(
            waiting,
            self._epoll.poll,
            sources=(self.wire.fileno(), self.tap.fileno()),
            budget=BATCH_BUDGET if batch > 1 else FRAME_BUDGET,
        )

    @property
    def wakeups(self) -> int:
        """How often it slept and was woken, by a descriptor or by the clock."""
        return self._wakeups + (0 if self._gatherer is None else self._gatherer.wakeups)

    @property
    def waits(self) -> int:
        """How often it let frames gather."""
        return 0 if self._gatherer is None else self._gatherer.waits

    @property
    def waited_ns(self) -> int:
        """How long it let frames gather, in all."""
        return 0 if self._gatherer is None else self._gatherer.waited_ns

    @property
    def decisions(self) -> Mapping[coalescing.Decision, int]:
        """How often it did what about waiting."""
        waiting = self.waiting
        return {} if waiting is None else waiting.decisions(self._wakeups)

    @property
    def waiting(self) -> coalescing.Waiting | None:
        """What decides on waiting; None where nothing is ever waited for."""
        return None if self._gatherer is None else self._gatherer.waiting

    def stop(self) -> None:
        """Let `run` return once everything that was taken in has been dealt with."""
        self._stopping = True

    def close(self) -> None:
        """Let go of the driver's own descriptor; the engines stay open."""
        self._epoll.close()

    def run(self) -> None:
        """Work until `stop` is called.

        :raises InterfaceGoneError: one of the two interfaces was removed.
        """
        node = self.node
        poll, clock = self._epoll.poll, time.monotonic_ns
        next_timer_ns, actions = node.next_timer_ns, self._actions
        gatherer = self._gatherer
        if gatherer is not None:
            timers.set_slack_ns(1)
        version = -1
        events: Events
        while not self._stopping:
            timer_ns = next_timer_ns()
            if gatherer is not None and gatherer.waiting.whole:
                events = gatherer.look(timer_ns)
                now_ns = clock()
                gatherer.take(events, actions, now_ns)
            else:
                wait_s = None if timer_ns is None else max(timer_ns - clock(), 0) / 1e9
                events = poll(wait_s)
                self._wakeups += 1
                now_ns = clock()
                for fd, _ in events:
                    actions[fd](now_ns)
                if gatherer is not None and self._wakeups >= gatherer.waiting.judged_at:
                    gatherer.waiting.judge(now_ns, self._wakeups, timers.blocked())
            if timer_ns is not None and now_ns >= timer_ns:
                self.send(node.on_timer(now_ns))
            if version != node.version:
                version = node.version
                self._changed()

    def send(self, replies: Sequence[Reply]) -> None:
        """Send replies of any form, each to its side."""
        out = Outgoing()
        out.extend(replies)
        self._to_wire.send_frames(out.wire)
        self._to_tap.send_frames(out.tap)

    # -- frame by frame ------------------------------------------------------------------------

    def _one_by_one(self, source: Engine, into: Into) -> Callable[[int], int]:
        take = taker(source, into, (self._to_wire, self._to_tap), self._receive_failed)
        waiting = self.waiting
        lone = False
        turn = 0

        def drain(now_ns: int) -> int:
            nonlocal lone, turn
            turn += 1
            if lone and turn & _PROBE_MASK and (waiting is None or not waiting.whole):
                return take(now_ns, 1)
            taken = take(now_ns, FRAME_BUDGET)
            lone = taken <= 1
            return taken

        return drain

    # -- in batches ----------------------------------------------------------------------------

    def _ways(self, node: DrivenNode) -> tuple[Handle, Handle]:
        """What is done with a batch from the wire, and with one from the TAP."""
        if not (self.wire.gathers or self.tap.gathers):
            pipeline = Pipeline(node, BatchedHandler(node), self._to_wire, self._to_tap)
            return pipeline.from_wire, pipeline.from_tap
        # The pipeline sends as soon as it has something to one next hop.
        handler = PerPacketHandler(node)
        return self._at_once(handler.handle_wire), self._at_once(handler.handle_tap)

    def _at_once(self, decide: Callable[[Sequence[bytes], int], Outgoing]) -> Handle:
        def handle(batch: FrameBatch, now_ns: int) -> None:
            out = decide([batch.frame(row) for row in range(batch.count)], now_ns)
            if out.wire:
                self._to_wire.send_frames(out.wire)
            if out.tap:
                self._to_tap.send_frames(out.tap)

        return handle

    def _in_batches(self, source: Engine, into: Into, handle: Handle) -> Callable[[int], int]:
        take = taker(source, into, (self._to_wire, self._to_tap), self._receive_failed)
        recv_batch: Receive = source.recv_batch
        release = source.release
        if self._tracer is not None:
            recv_batch = self._tracer.receiving(recv_batch)
        batch = self._memory_for(source)
        capacity = limit = batch.capacity
        adaptive = self._adapt(source.side)
        if adaptive is not None:
            batch.limit = limit = adaptive.size
        wire, tap = self._to_wire, self._to_tap
        waiting = self.waiting
        singly = self._singly
        lone = few = False
        turn = 0

        def drain(now_ns: int) -> int:
            nonlocal lone, few, turn, limit
            turn += 1
            gathered = waiting is not None and waiting.whole
            if lone and turn & _PROBE_MASK and not gathered:
                return take(now_ns, 1)
            taken = 0
            # Where few are expected, looking for them as a batch would cost more than they do.
            if few and singly:
                taken = take(now_ns, FEW_AFTER_SLEEP + 1)
                if taken <= FEW_AFTER_SLEEP:
                    lone = taken <= 1
                    if adaptive is not None:
                        batch.limit = limit = adaptive.observe(min(taken, limit))
                    return taken
            while taken < BATCH_BUDGET:
                try:
                    count = recv_batch(batch)
                except OSError as error:
                    self._receive_failed(source, error)
                    break
                taken += count
                if count > FEW or count == capacity:
                    handle(batch, now_ns)
                elif count:
                    out = Outgoing()
                    for row in range(count):
                        into(batch.frame(row), now_ns, out)
                    if out.wire:
                        wire.send_frames(out.wire)
                    if out.tap:
                        tap.send_frames(out.tap)
                asked = limit
                if adaptive is not None:
                    batch.limit = limit = adaptive.observe(min(count, asked))
                if count < asked:
                    break
            release()
            lone, few = taken <= 1, taken <= FEW_AFTER_SLEEP
            return taken

        return drain

    def _memory_for(self, source: Engine) -> FrameBatch:
        """What a side receives into: best what the other side sends from."""
        lent = None
        if source is self.tap:
            lent = self.wire.lend_batch(source.port.frame_limit + 1)
        return source.new_batch() if lent is None else lent

    def _adapt(self, side: Side) -> AdaptiveBatchSize | None:
        if self._batch_sizes is None:
            return None
        low, start, high = self._batch_sizes
        made = self.adaptive[side] = AdaptiveBatchSize(minimum=low, maximum=high, start=start)
        return made

    # -- trouble -------------------------------------------------------------------------------

    def _receive_failed(self, source: Engine, error: OSError) -> None:
        """An engine could not receive: a link that is down is reported once and waited for."""
        name = source.port.ifname
        if not netif.exists(self._ifindexes[source]):
            raise InterfaceGoneError(f"interface {name} was removed") from error
        if error.errno == ENETDOWN:
            log.warning("link down: %s", name)
        else:
            log.error("cannot receive on %s: %s", name, error)
            raise error
