"""The vectorised path: a batch stays one array from receive to send.

Frames of flows that the node has decided are rewritten where they stand (a header over or in
front of them, a header skipped by offset) and sent from there, without an object per frame. All
other frames (control messages, first frames of a flow, what cannot be read) go to the handler, in
order: both sides see the frames that the per-packet path would send, in the same order for every
next hop. Must not know engines, sockets or clocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from agent.batch import HEADROOM, FrameBatch
from agent.handlers import Handler, Outgoing
from agent.protocol.node import Flow, FlowRules

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
        lengths = batch.length[:n].tolist()
        low, high = rules.wire_min_bytes, rules.wire_max_bytes
        # What a short row holds beyond its end is an older frame's: its key means nothing.
        regular = min(lengths) >= low and max(lengths) <= high
        keys = batch.data[:n, HEADROOM : HEADROOM + size].tobytes()
        first = keys[:size]
        flows = rules.flows
        done = 0
        if regular and keys == first * n:
            flow = flows.get(first)
            if flow is None:
                # The handler decides on the first frame, and the others follow it.
                self._by_handler_from_wire(batch, range(1), now_ns)
                done = 1
                flow = flows.get(first)
            if flow is not None:
                self._apply_flow(batch, flow, slice(done, n), n - done)
                return
        while done < n:
            done = self._runs_from_wire(batch, keys, lengths, done, now_ns)

    def _runs_from_wire(
        self, batch: FrameBatch, keys: bytes, lengths: list[int], begin: int, now_ns: int
    ) -> int:
        """Handle rows from `begin` on, kept flows first, then what the handler must see; the row
        at which kept flows may go on."""
        rules = self._rules
        size = rules.wire_key_bytes
        low, high = rules.wire_min_bytes, rules.wire_max_bytes
        find = rules.flows.get
        n = len(lengths)
        row = begin
        flows: list[Flow] = []
        while row < n and low <= lengths[row] <= high:
            flow = find(keys[row * size : (row + 1) * size])
            if flow is None:
                break
            flows.append(flow)
            row += 1
        if flows:
            self._apply_flows(batch, flows, begin)
        first_other = row
        while row < n and not (
            low <= lengths[row] <= high and keys[row * size : (row + 1) * size] in rules.flows
        ):
            row += 1
        if row > first_other:
            self._by_handler_from_wire(batch, range(first_other, row), now_ns)
        return row

    def _by_handler_from_wire(self, batch: FrameBatch, rows: range, now_ns: int) -> None:
        self._send(self._handler.handle_wire([batch.frame(row) for row in rows], now_ns))

    def _apply_flows(self, batch: FrameBatch, flows: list[Flow], begin: int) -> None:
        """Act upon rows from `begin` on, each with its flow."""
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
                self._apply_single(batch, flows[start:end], rows)
            start = end

    def _apply_single(self, batch: FrameBatch, flows: list[Flow], rows: slice) -> None:
        """Act upon rows of flows that go to the wire once at most."""
        replaced, offset = self._rules.wire_replaced_bytes, self._rules.wire_inner_offset
        memory, stride = batch.memory, batch.stride
        to_wire: list[int] = []
        to_tap: list[int] = []
        grown = 0
        end = rows.start * stride + HEADROOM + replaced
        for row, flow in enumerate(flows, rows.start):
            flow.hits += 1
            if flow.headers:
                header = flow.headers[0]
                memory[end - len(header) : end] = header
                grown = len(header) - replaced
                to_wire.append(row)
            if flow.to_tap:
                to_tap.append(row)
            end += stride
        if to_tap:
            inner = rows if len(to_tap) == len(flows) else np.array(to_tap)
            _move(batch, inner, offset)
            self._tap.send_rows(batch, inner)
            if to_wire:
                _move(batch, inner, -offset)
        if to_wire:
            outer = rows if len(to_wire) == len(flows) else np.array(to_wire)
            _move(batch, outer, -grown)
            self._wire.send_rows(batch, outer)

    def _apply_flow(self, batch: FrameBatch, flow: Flow, rows: slice, count: int) -> None:
        """Act upon `count` rows of one flow."""
        if not count:
            return
        flow.hits += count
        rules = self._rules
        if flow.to_tap:
            _move(batch, rows, rules.wire_inner_offset)
            self._tap.send_rows(batch, rows)
            if flow.headers:
                _move(batch, rows, -rules.wire_inner_offset)
        if flow.headers:
            self._send_behind(batch, rows, flow.headers, rules.wire_replaced_bytes)

    def _send_behind(
        self, batch: FrameBatch, rows: slice, headers: tuple[bytes, ...], replaced: int
    ) -> None:
        """Send rows once per header, which stands in place of the first `replaced` bytes.

        Copies for one next hop go out frame by frame, as they do one at a time; between next hops
        only the order within each counts.
        """
        _move(batch, rows, replaced - len(headers[0]))
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
        lengths = batch.length[:n].tolist()
        low, high = rules.tap_min_bytes, rules.tap_max_bytes
        if not size and min(lengths) >= low and max(lengths) <= high:
            headers = self._kept_tap_headers(b"")
            if headers is not None:
                self._send_behind(batch, slice(0, n), headers, 0)
                return
        keys = batch.data[:n, HEADROOM : HEADROOM + size].tobytes()
        done = 0
        while done < n:
            done = self._runs_from_tap(batch, keys, lengths, done, now_ns)

    def _runs_from_tap(
        self, batch: FrameBatch, keys: bytes, lengths: list[int], begin: int, now_ns: int
    ) -> int:
        """Handle rows from `begin` on, kept decisions first, then one frame that the handler must
        see; the row to go on with."""
        rules = self._rules
        size = rules.tap_key_bytes
        low, high = rules.tap_min_bytes, rules.tap_max_bytes
        n = len(lengths)
        row = begin
        decided: list[tuple[bytes, ...]] = []
        while row < n and low <= lengths[row] <= high:
            headers = self._kept_tap_headers(keys[row * size : (row + 1) * size])
            if headers is None:
                break
            decided.append(headers)
            row += 1
        start = 0
        for end in range(1, len(decided) + 1):
            run = decided[start]
            if end < len(decided) and (decided[end] is run or len(run) == len(decided[end]) == 1):
                continue
            rows = slice(begin + start, begin + end)
            if all(one is run for one in decided[start:end]):
                self._send_behind(batch, rows, run, 0)
            else:
                self._send_each_behind(batch, rows, [one[0] for one in decided[start:end]])
            start = end
        if row < n:
            self._send(self._handler.handle_tap([batch.frame(row)], now_ns))
            row += 1
        return row

    def _send_each_behind(self, batch: FrameBatch, rows: slice, headers: list[bytes]) -> None:
        """Send every row behind a header of its own, all of one length."""
        memory, stride = batch.memory, batch.stride
        size = len(headers[0])
        end = rows.start * stride + HEADROOM
        for header in headers:
            memory[end - size : end] = header
            end += stride
        _move(batch, rows, -size)
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


def _move(batch: FrameBatch, rows: Rows, offset: int) -> None:
    """Let frames begin `offset` bytes later, and their ends where they were."""
    if offset > 0:
        batch.start[rows] += np.uint64(offset)
        batch.length[rows] -= np.uint64(offset)
    elif offset < 0:
        batch.start[rows] -= np.uint64(-offset)
        batch.length[rows] += np.uint64(-offset)
