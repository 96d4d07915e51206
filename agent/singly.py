"""Frame by frame: receive one, decide, send what comes of it.

Must not know what frames mean, or when to look for them.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.engines.base import Engine
from agent.outlet import Outlet
from agent.protocol.replies import Outgoing

Drain = Callable[[int, int], int]
"""(time in ns, most frames to take) → frames taken."""
Into = Callable[[bytes, int, Outgoing], None]
"""(frame, time in ns, where to put what comes of it)."""


def taker(
    source: Engine,
    into: Into,
    to: tuple[Outlet, Outlet],
    receive_failed: Callable[[Engine, OSError], None],
) -> Drain:
    """A loop of receive, decide, send, with everything it needs in local names.

    `into` decides on a frame that `source` received, `to` are the wire and the TAP to send by.
    """
    recv = source.recv_one
    size = source.port.frame_limit + 1
    counters, recv_call = source.counters, source.recv_call
    wire, tap = to
    send_wire, send_tap = wire.engine.send_one, tap.engine.send_one
    wire_counters, tap_counters = wire.engine.counters, tap.engine.counters
    wire_call, tap_call = wire.engine.send_call, tap.engine.send_call
    joins = wire.engine.joins
    out = Outgoing()
    to_wire, to_tap = out.wire, out.tap

    def take(now_ns: int, limit: int) -> int:
        frames = in_vain = received_bytes = 0
        wire_frames = wire_bytes = wire_late = 0
        tap_frames = tap_bytes = tap_late = 0
        while frames < limit:
            try:
                frame = recv(size)
            except BlockingIOError:
                in_vain = 1
                break
            except OSError as error:
                in_vain = 1
                receive_failed(source, error)
                break
            if frame is None:
                in_vain = 1
                break
            frames += 1
            received_bytes += len(frame)
            into(frame, now_ns, out)
            if to_wire:
                if joins and len(to_wire) > 1:  # to the TAP there is never more than one
                    wire.send_frames(to_wire)
                    to_wire.clear()
                for one in to_wire:
                    try:
                        sent = send_wire(one)
                    except OSError as error:
                        wire_late += 1
                        wire.settle(one, error)
                    else:
                        if sent is None:
                            wire_late += 1
                            wire.settle(one, None)
                        else:
                            wire_frames += 1
                            wire_bytes += sent
                to_wire.clear()
            if to_tap:
                for one in to_tap:
                    try:
                        sent = send_tap(one)
                    except OSError as error:
                        tap_late += 1
                        tap.settle(one, error)
                    else:
                        if sent is None:
                            tap_late += 1
                            tap.settle(one, None)
                        else:
                            tap_frames += 1
                            tap_bytes += sent
                to_tap.clear()
        counters.rx_frames += frames
        counters.rx_bytes += received_bytes
        counters.fill[1] += frames
        counters.syscalls[recv_call] += frames + in_vain
        if wire_frames or wire_late:
            wire_counters.tx_frames += wire_frames
            wire_counters.tx_bytes += wire_bytes
            wire_counters.syscalls[wire_call] += wire_frames + wire_late
        if tap_frames or tap_late:
            tap_counters.tx_frames += tap_frames
            tap_counters.tx_bytes += tap_bytes
            tap_counters.syscalls[tap_call] += tap_frames + tap_late
        return frames

    return take
