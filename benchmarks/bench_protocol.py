"""What a node's decisions cost per frame: the protocol alone, without any system call.

    python benchmarks/bench_protocol.py [--size 256] [--batch 32] [--repeat 7]

Prints nanoseconds per frame for each path, the best of several repetitions: the machine's own
noise only ever adds. ``baseline`` copies a frame behind a new header and does nothing else.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

from agent.handlers import BatchedHandler, Outgoing, PerPacketHandler
from agent.protocol.codec import encode
from agent.protocol.messages import DownstreamData, Heartbeat, HeartbeatReply, UpstreamData
from agent.protocol.node import Node
from agent.protocol.obu import Obu
from agent.protocol.rsu import Rsu

RSU, OBU, BEHIND = (bytes([2, 0, 0, 0, 0, n]) for n in (1, 2, 3))
RSU_TAP, OBU_TAP, BEHIND_TAP = (bytes([2, 0, 0, 0, 1, n]) for n in (1, 2, 3))
GROUP = b"\xff" * 6
CALLS = 4000


def joined_obu() -> Obu:
    """An OBU with an RSU upstream and one more OBU behind it."""
    obu = Obu(OBU)
    heartbeat = Heartbeat(
        receiver=GROUP, transmitter=RSU, duration_ms=0, hello_id=0, hops=1, rsu=RSU
    )
    reply = HeartbeatReply(
        receiver=OBU,
        transmitter=BEHIND,
        duration_ms=0,
        hello_id=0,
        hops=2,
        rsu=RSU,
        sender=BEHIND,
    )
    obu.on_wire(encode(heartbeat), 0)
    obu.on_wire(encode(reply), 1000)
    return obu


def joined_rsu(obus: int) -> Rsu:
    """An RSU that hears `obus` OBUs and knows a client behind the first."""
    rsu = Rsu(RSU, boot_ns=0)
    rsu.on_timer(0)
    for index in range(obus):
        obu = bytes([2, 0, 0, 0, 0, 2 + index])
        reply = HeartbeatReply(
            receiver=RSU, transmitter=obu, duration_ms=0, hello_id=0, hops=1, rsu=RSU, sender=obu
        )
        rsu.on_wire(encode(reply), 1000)
    hello = GROUP + OBU_TAP + b"\x08\x00"
    rsu.on_wire(encode(UpstreamData(receiver=RSU, transmitter=OBU, origin=OBU, inner=hello)), 1000)
    rsu.on_tap(GROUP + RSU_TAP + b"\x08\x00", 1000)
    return rsu


def best_ns(call: Callable[[], object], frames: int, repeat: int) -> float:
    """Nanoseconds per frame in the fastest of `repeat` runs; one `call` handles `frames`."""
    calls = range(CALLS // frames)
    best = float("inf")
    for _ in range(repeat):
        begin = time.perf_counter_ns()
        for _ in calls:
            call()
        best = min(best, time.perf_counter_ns() - begin)
    return best / (len(calls) * frames)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="bytes of the frame on the wire")
    parser.add_argument("--batch", type=int, default=32, help="frames handed over at once")
    parser.add_argument("--repeat", type=int, default=7)
    options = parser.parse_args()

    def inner(dest: bytes, source: bytes, overhead: int) -> bytes:
        return dest + source + b"\x08\x00" + bytes(options.size - overhead - 14)

    def up(dest: bytes) -> bytes:
        return encode(
            UpstreamData(
                receiver=RSU if dest != BEHIND_TAP else OBU,
                transmitter=OBU if dest != BEHIND_TAP else BEHIND,
                origin=OBU if dest != BEHIND_TAP else BEHIND,
                inner=inner(dest, OBU_TAP, 22),
            )
        )

    def down(target: bytes) -> bytes:
        return encode(
            DownstreamData(
                receiver=OBU,
                transmitter=RSU,
                origin=RSU,
                target=target,
                inner=inner(OBU_TAP, RSU_TAP, 28),
            )
        )

    paths: list[tuple[str, Node, str, bytes]] = [
        ("OBU relay up", joined_obu(), "wire", up(BEHIND_TAP)),
        ("OBU relay down", joined_obu(), "wire", down(BEHIND)),
        ("OBU wire to TAP", joined_obu(), "wire", down(OBU)),
        ("OBU TAP to wire", joined_obu(), "tap", inner(RSU_TAP, OBU_TAP, 22)),
        ("RSU wire to TAP", joined_rsu(1), "wire", up(RSU_TAP)),
        ("RSU wire to wire", joined_rsu(1), "wire", up(OBU_TAP)),
        ("RSU TAP to wire", joined_rsu(1), "tap", inner(OBU_TAP, RSU_TAP, 28)),
        ("RSU TAP to 6 OBUs", joined_rsu(6), "tap", inner(GROUP, RSU_TAP, 28)),
    ]

    repeat, batch = options.repeat, options.batch
    header, plain = bytes(12), bytes(options.size)
    copied = best_ns(lambda: header + plain[12:], 1, repeat)
    print(f"{options.size} bytes, batches of {batch}; ns per frame")
    print(f"{'baseline':24}{copied:12.0f}")
    print(f"{'':24}{'replies':>12}{'direct':>12}{'per packet':>12}{'batched':>12}")
    for name, node, side, frame in paths:
        on = getattr(node, f"on_{side}")
        into = getattr(node, f"{side}_into")
        per_packet = getattr(PerPacketHandler(node), f"handle_{side}")
        batched = getattr(BatchedHandler(node), f"handle_{side}")
        out = Outgoing()

        def direct(
            into: Callable[..., None] = into, frame: bytes = frame, out: Outgoing = out
        ) -> None:
            into(frame, 0, out)
            out.wire.clear()
            out.tap.clear()

        figures = (
            best_ns(partial(on, frame, 0), 1, repeat),
            best_ns(direct, 1, repeat),
            best_ns(partial(per_packet, [frame], 0), 1, repeat),
            best_ns(partial(batched, [frame] * batch, 0), batch, repeat),
        )
        print(f"{name:24}" + "".join(f"{figure:12.0f}" for figure in figures))


if __name__ == "__main__":
    main()
