"""Millions of hostile frames end nothing, are told apart by both paths alike, and fill no memory.

`--fuzz-frames N` says how many in all, `--seed` which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hostile import NEIGHBOURS, OWN, Hostile

from agent.batch import FrameBatch
from agent.handlers import BatchedHandler, PerPacketHandler
from agent.pipeline import Pipeline, Rows
from agent.protocol.clients import MAX_CLIENTS
from agent.protocol.hello import MAX_NEIGHBOURS
from agent.protocol.node import MAX_FLOWS
from agent.protocol.obu import Obu
from agent.protocol.routing import MAX_OBSERVATIONS
from agent.protocol.rsu import Rsu
from agent.protocol.upstream import MAX_RSUS

MAX_FRAME = 200
BATCH = 256
KINDS = ["obu", "rsu", "rsu addressed"]


@dataclass
class Sum:
    """A sink that keeps, by next hop, how many frames it was given, and a hash of them in order."""

    by_next_hop: dict[bytes, tuple[int, int]] = field(default_factory=dict)

    def send_rows(self, batch: FrameBatch, rows: Rows | None = None) -> None:
        chosen = range(batch.count) if rows is None else np.arange(batch.capacity)[rows]
        self.send_frames([batch.frame(int(row)) for row in chosen])

    def send_frames(self, frames: Sequence[bytes]) -> None:
        for frame in frames:
            count, before = self.by_next_hop.get(frame[:6], (0, 0))
            self.by_next_hop[frame[:6]] = (count + 1, hash((before, frame)))

    def taken(self) -> dict[bytes, tuple[int, int]]:
        taken, self.by_next_hop = self.by_next_hop, {}
        return taken


def make(kind: str) -> Obu | Rsu:
    if kind == "obu":
        return Obu(OWN, hello_history=10, max_frame_bytes=MAX_FRAME)
    copies = "addressed" if kind == "rsu addressed" else "reference"
    return Rsu(
        OWN, boot_ns=0, hello_periodicity_ms=1000, group_copies=copies, max_frame_bytes=MAX_FRAME
    )


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_hostile_frames_do_the_same_whichever_way_they_go_and_end_nothing(
    request: pytest.FixtureRequest, seed: int, kind: str
) -> None:
    rounds = max(1, int(request.config.getoption("fuzz_frames")) // len(KINDS) // BATCH)
    hostile = Hostile(seed, MAX_FRAME)
    chance = np.random.default_rng(seed)
    single, batched = make(kind), make(kind)
    by_frame = PerPacketHandler(single)
    wire, tap, expected_wire, expected_tap = Sum(), Sum(), Sum(), Sum()
    batched_handler = BatchedHandler(batched)
    pipeline = Pipeline(batched, batched_handler, wire, tap)
    batch = FrameBatch(BATCH, MAX_FRAME + 1)
    now_ns = hits = 0
    for number in range(rounds):
        now_ns += int(chance.integers(1, 20_000_000))
        for node, sink in ((single, expected_wire), (batched, wire)):
            sink.send_frames([reply.frame for reply in node.on_timer(now_ns)])  # type: ignore[union-attr]
            if number % 50 == 0:
                node.on_send_failed(NEIGHBOURS[0], now_ns)
        for frame in hostile.honest(number // 20, now_ns // 10**9):
            for handler in (by_frame, batched_handler):
                handler.handle_wire([frame], now_ns)
        if number % 2:
            hostile.fill(batch)
        else:
            hostile.fill_calmly(batch)
        out = by_frame.handle_wire([batch.frame(row) for row in range(BATCH)], now_ns)
        expected_wire.send_frames(out.wire)
        expected_tap.send_frames(out.tap)
        pipeline.from_wire(batch, now_ns)
        assert wire.taken() == expected_wire.taken(), f"round {number} of seed {seed}"
        assert tap.taken() == expected_tap.taken(), f"round {number} of seed {seed}"
        hits += max((flow.hits for flow in batched.flow_rules.flows.values()), default=0) > 1
    assert batched.drops == single.drops
    assert batched.messages == single.messages
    snapshot = single.snapshot(now_ns)
    assert batched.snapshot(now_ns) == snapshot
    assert len(snapshot.rsus) <= MAX_RSUS
    assert all(rsu.neighbours <= MAX_NEIGHBOURS for rsu in snapshot.rsus)
    assert len(snapshot.clients) <= 2 * MAX_CLIENTS
    assert len(snapshot.routes) <= MAX_OBSERVATIONS
    assert len(single.flow_rules.flows) <= MAX_FLOWS
    # It was not all thrown away at the door, nor decided frame by frame.
    assert sum(single.messages.values()) > rounds * BATCH / 4
    assert snapshot.routes
    assert hits > rounds / 4
