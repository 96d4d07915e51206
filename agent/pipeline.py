"""The vectorised path: a batch stays one array from receive to send.

Frames of flows that the node has decided are rewritten where they stand (a header over or in
front of them, a header skipped by offset) and sent from there, without an object per frame. All
other frames (control messages, first frames of a flow, what cannot be read) go to the handler, in
order: both sides see the frames that the per-packet path would send, in the same order for every
next hop. Must not know engines, sockets or clocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, cast

import numpy as np
import numpy.typing as npt

from agent.batch import HEADROOM, FrameBatch
from agent.handlers import Handler, Outgoing
from agent.protocol.node import Flow, FlowRules

_LOOK_AHEAD: Final = 32
"""Rows looked up at once after the handler had one: it may change every decision again."""

Rows = slice | npt.NDArray[np.intp]


class Kept(Protocol):
    """What the pipeline needs of a node: its kept decisions."""

    flow_rules: FlowRules

    def kept_tap_headers(self, start: bytes) -> tuple[bytes, ...] | None: ...


class Sink(Protocol):
    """Where frames go; an engine of the driver is one."""

    def send_rows(self, batch: FrameBatch, rows: Rows | None = None) -> object: ...
    def send_frames(self, frames: Sequence[bytes]) -> object: ...


class Pipeline:
    """Takes whole batches to the sinks `wire` and `tap`.

    `handler` belongs to the same node. A batch's rows are rewritten in place: their content is
    void after the call.
    """

    def __init__(self, node: Kept, handler: Handler, wire: Sink, tap: Sink) -> None:
        self._rules = node.flow_rules
        self._kept_tap_headers = node.kept_tap_headers
        self._handler = handler
        self._wire = wire
        self._tap = tap
        self._arrays: dict[bytes, npt.NDArray[np.uint8]] = {}

    # -- from the radio ------------------------------------------------------------------------

    def from_wire(self, batch: FrameBatch, now_ns: int) -> None:
        """Handle every frame of a batch received from the radio, and send what comes of it."""
        n = batch.count
        if not n:
            return
        rules = self._rules
        size = rules.wire_key_bytes
        # What a short row holds beyond its end is an older frame's: its key means nothing.
        regular = _all_within(batch, rules.wire_min_bytes, rules.wire_max_bytes)
        keys = batch.data[:n, HEADROOM : HEADROOM + size].tobytes()
        first = keys[:size]
        flows = rules.flows
        done = 0
        if regular and keys == first * n:
            flow = flows.get(first)
            if flow is not None and self._whole(batch, flow):
                return
            if flow is None:
                # The handler decides on the first frame; the others follow it.
                self._send(self._handler.handle_wire([batch.frame(0)], now_ns))
                done = 1
                flow = flows.get(first)
            if flow is not None:
                self._apply_flow(batch, flow, slice(done, n), n - done)
                return
        self._mixed_from_wire(batch, keys, regular, done, now_ns)

    def _whole(self, batch: FrameBatch, flow: Flow) -> bool:
        """Send a batch whose frames all take another header of the same size; whether they do.

        Most batches of a relay, by the shortest way.
        """
        if flow.to_tap or len(flow.headers) != 1:
            return False
        header = flow.headers[0]
        if len(header) != self._rules.wire_replaced_bytes:
            return False
        flow.hits += batch.count
        batch.data[: batch.count, HEADROOM : HEADROOM + len(header)] = self._array(header)
        self._wire.send_rows(batch)
        return True

    def _mixed_from_wire(
        self, batch: FrameBatch, keys: bytes, regular: bool, row: int, now_ns: int
    ) -> None:
        """Handle rows from `row` on: stretches with kept decisions, stretches for the handler."""
        rules = self._rules
        size = rules.wire_key_bytes
        low, high = rules.wire_min_bytes, rules.wire_max_bytes
        find = rules.flows.get
        n = end = batch.count
        lengths: list[int] = [] if regular else batch.length[:n].tolist()
        while row < n:
            flows: list[Flow | None] = [
                find(keys[i : i + size]) for i in range(row * size, end * size, size)
            ]
            if not regular:
                flows = [
                    flow if low <= length <= high else None
                    for flow, length in zip(flows, lengths[row:end], strict=True)
                ]
            first_none = flows.index(None) if None in flows else len(flows)
            if first_none:
                self._apply_flows(batch, cast("list[Flow]", flows[:first_none]), row)
                row += first_none
            others = 0
            for flow in flows[first_none:]:
                if flow is not None:
                    break
                others += 1
            if others:
                rows = range(row, row + others)
                self._send(self._handler.handle_wire([batch.frame(r) for r in rows], now_ns))
                row += others
            # What the handler did may have changed every decision: look up again, not too far.
            end = min(row + _LOOK_AHEAD, n)

    def _apply_flows(self, batch: FrameBatch, flows: list[Flow], begin: int) -> None:
        """Act upon rows from `begin` on, each with its flow."""
        distinct = set(flows)
        if all(len(flow.headers) <= 1 for flow in distinct):
            self._apply_single(batch, flows, distinct, slice(begin, begin + len(flows)))
            return
        start = 0
        for end in range(1, len(flows) + 1):
            copied = len(flows[start].headers) > 1
            if end < len(flows) and (
                flows[end] is flows[start] if copied else len(flows[end].headers) <= 1
            ):
                continue
            rows = slice(begin + start, begin + end)
            if copied:
                self._apply_flow(batch, flows[start], rows, end - start)
            else:
                self._apply_single(batch, flows[start:end], set(flows[start:end]), rows)
            start = end

    def _apply_single(
        self, batch: FrameBatch, flows: list[Flow], distinct: set[Flow], rows: slice
    ) -> None:
        """Act upon rows of flows that go to the wire once at most."""
        for flow in flows:
            flow.hits += 1
        inner: Rows = rows
        outer: Rows = rows
        to_tap = [flow.to_tap for flow in distinct]
        to_wire = [bool(flow.headers) for flow in distinct]
        if any(to_tap):
            if not all(to_tap):
                inner = _chosen(rows, [flow.to_tap for flow in flows])
            batch.move(inner, self._rules.wire_inner_offset)
            self._tap.send_rows(batch, inner)
            if any(to_wire):
                batch.move(inner, -self._rules.wire_inner_offset)
        if any(to_wire):
            if not all(to_wire):
                outer = _chosen(rows, [bool(flow.headers) for flow in flows])
            headers = [flow.headers[0] for flow in flows if flow.headers]
            self._send_each_behind(batch, outer, headers, self._rules.wire_replaced_bytes)

    def _apply_flow(self, batch: FrameBatch, flow: Flow, rows: slice, count: int) -> None:
        """Act upon `count` rows of one flow."""
        if not count:
            return
        flow.hits += count
        rules = self._rules
        if flow.to_tap:
            batch.move(rows, rules.wire_inner_offset)
            self._tap.send_rows(batch, rows)
            if flow.headers:
                batch.move(rows, -rules.wire_inner_offset)
        if flow.headers:
            self._send_behind(batch, rows, flow.headers, rules.wire_replaced_bytes)

    def _send_behind(
        self, batch: FrameBatch, rows: slice, headers: tuple[bytes, ...], replaced: int
    ) -> None:
        """Send rows once per header, which stands in place of the first `replaced` bytes.

        Copies for one next hop go out frame by frame, as they do one at a time; between next hops
        only the order within each counts.
        """
        batch.move(rows, replaced - len(headers[0]))
        end = HEADROOM + replaced
        begin = end - len(headers[0])
        if len(headers) == 1:
            batch.data[rows, begin:end] = self._array(headers[0])
            self._wire.send_rows(batch, rows)
            return
        by_next_hop: dict[bytes, list[bytes]] = {}
        for header in headers:
            by_next_hop.setdefault(header[:6], []).append(header)
        for copies in by_next_hop.values():
            if len(set(copies)) == 1:
                batch.data[rows, begin:end] = self._array(copies[0])
                if len(copies) == 1:
                    self._wire.send_rows(batch, rows)
                else:
                    repeated = np.repeat(np.arange(rows.start, rows.stop), len(copies))
                    self._wire.send_rows(batch, repeated)
            else:
                frames = []
                for row in range(rows.start, rows.stop):
                    rest = bytes(batch.view(row)[len(headers[0]) :])
                    frames += [header + rest for header in copies]
                self._wire.send_frames(frames)

    # -- from the own TAP ----------------------------------------------------------------------

    def from_tap(self, batch: FrameBatch, now_ns: int) -> None:
        """Handle every frame of a batch read from the own TAP, and send what comes of it."""
        n = batch.count
        if not n:
            return
        rules = self._rules
        size = rules.tap_key_bytes
        low, high = rules.tap_min_bytes, rules.tap_max_bytes
        regular = _all_within(batch, low, high)
        if not size and regular:
            headers = self._kept_tap_headers(b"")
            if headers is not None:
                self._send_behind(batch, slice(0, n), headers, 0)
                return
        keys = batch.data[:n, HEADROOM : HEADROOM + size].tobytes()
        find = self._kept_tap_headers
        lengths: list[int] = batch.length[:n].tolist()
        row, end = 0, n
        while row < n:
            decided = [
                find(keys[i * size : (i + 1) * size]) if low <= lengths[i] <= high else None
                for i in range(row, end)
            ]
            first_none = decided.index(None) if None in decided else len(decided)
            if first_none:
                kept = cast("list[tuple[bytes, ...]]", decided[:first_none])
                self._send_decided(batch, kept, row)
                row += first_none
            if row < end:
                self._send(self._handler.handle_tap([batch.frame(row)], now_ns))
                row += 1
            end = min(row + _LOOK_AHEAD, n)

    def _send_decided(
        self, batch: FrameBatch, decided: list[tuple[bytes, ...]], begin: int
    ) -> None:
        """Send rows from `begin` on, each once per header in front of it."""
        if all(len(headers) == 1 for headers in decided):
            rows = slice(begin, begin + len(decided))
            self._send_each_behind(batch, rows, [headers[0] for headers in decided], 0)
            return
        start = 0
        for end in range(1, len(decided) + 1):
            if end < len(decided) and decided[end] is decided[start]:
                continue
            rows = slice(begin + start, begin + end)
            self._send_behind(batch, rows, decided[start], 0)
            start = end

    def _send_each_behind(
        self, batch: FrameBatch, rows: Rows, headers: list[bytes], replaced: int
    ) -> None:
        """Send rows, each with a header of its own in place of its first `replaced` bytes."""
        size = len(headers[0])
        end = HEADROOM + replaced
        joined = np.frombuffer(b"".join(headers), np.uint8).reshape(len(headers), size)
        batch.data[rows, end - size : end] = joined
        batch.move(rows, replaced - size)
        self._wire.send_rows(batch, rows)

    def _array(self, header: bytes) -> npt.NDArray[np.uint8]:
        array = self._arrays.get(header)
        if array is None:
            if len(self._arrays) >= 4096:
                self._arrays.clear()
            array = self._arrays[header] = np.frombuffer(header, np.uint8)
        return array

    def _send(self, out: Outgoing) -> None:
        if out.wire:
            self._wire.send_frames(out.wire)
        if out.tap:
            self._tap.send_frames(out.tap)


def _all_within(batch: FrameBatch, low: int, high: int) -> bool:
    """Whether all frames, as they came, have a length from `low` to `high`."""
    if batch.alike:
        return low <= batch.alike <= high
    lengths: list[int] = batch.length[: batch.count].tolist()
    return min(lengths) >= low and max(lengths) <= high


def _chosen(rows: slice, chosen: list[bool]) -> npt.NDArray[np.intp]:
    """Those of `rows` that are chosen."""
    found: npt.NDArray[np.intp] = np.flatnonzero(chosen) + rows.start
    return found
