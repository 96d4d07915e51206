"""What one frame costs by each way that engines have, in and out, on TAP and wire.

Every way moves the same number of frames, all in one thread on one CPU: frames are laid ready (or
taken away) at the far end outside the measured time, then the way under test takes (or sends)
them all, batch by batch. So the figure is the cost of the way itself, without waiting and without
the generator. Ways take turns, forwards and backwards, for some seconds; printed is the median
with the middle half of the values.

`own` is the CPU time of the way under test per frame. `far` is that of whoever sends to a
receiving way: a mapped ring or AF_XDP has the kernel copy on the sender's time, and what is saved
here must not be hidden there.

Needs root; makes a network namespace of its own that ends with it.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agent.linux import netif, packet, tap, tpacket, uring, xsk
from agent.linux.mmsg import MsgTable
from agent.linux.uring import Burst, Op, Ring

WIRE, FAR, TAP = "tbt-w", "tbt-p", "tbt-t"
COUNT = 256
REPEATS = 12
STRIDE = 2048
BATCHES = (1, 8, 32, 64)
MANY_BYTES = 64 << 20
DONTWAIT = socket.MSG_DONTWAIT


def frame_rows(size: int) -> np.ndarray:
    rows = np.zeros((COUNT, STRIDE), np.uint8)
    rows[:, :6], rows[:, 6:12], rows[:, 12:14] = 0xFF, (2, 0, 0, 0, 0, 9), 0x30
    rows[:, 14], rows[:, 16:20] = 1, np.arange(COUNT, dtype=">u4").view(np.uint8).reshape(-1, 4)
    return rows[:, :size]


def row_addresses(rows: np.ndarray) -> np.ndarray:
    return np.uint64(rows.ctypes.data) + np.arange(len(rows), dtype=np.uint64) * np.uint64(
        rows.strides[0]
    )


@dataclass
class Lab:
    """The devices, and the far end of each."""

    size: int
    spoiled: int = 0

    def __post_init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(0x40000000):
            raise SystemExit("this benchmark needs root")
        self.tap_fd, _ = tap.open_tap(TAP)
        request = f"ip link add name {WIRE} type veth peer name {FAR}".split()
        os.spawnvp(os.P_WAIT, "ip", request)
        os.spawnvp(os.P_WAIT, "ip", f"ip link set {TAP} txqueuelen 8192".split())
        for name in (WIRE, FAR, TAP):
            netif.set_ipv6_option(name, "disable_ipv6", 1)
            netif.set_up(name)
        time.sleep(1.2)  # link watch: until then a queue may drop
        self.rows = frame_rows(self.size)
        self.far_wire, self.far_tap = self.open(FAR), self.open(TAP)
        self.table = MsgTable(self.rows)
        self.sink = MsgTable(np.zeros((COUNT, STRIDE), np.uint8))

    def open(self, ifname: str, protocol: int = packet.ETHERTYPE) -> socket.socket:
        sock = packet.open_packet_socket(ifname, protocol=protocol, rcvbuf_bytes=MANY_BYTES)
        packet.set_send_buffer(sock, MANY_BYTES)
        return sock

    def lay(self, far: socket.socket) -> None:
        """COUNT frames, on their way to whoever receives."""
        sent = 0
        while sent < COUNT:
            sent += self.table.send(far.fileno(), sent, min(64, COUNT - sent), DONTWAIT)

    def drain(self, far: socket.socket) -> int:
        """Take away what has arrived; how many frames."""
        count = 0
        while True:
            try:
                count += self.sink.recv(far.fileno(), COUNT, DONTWAIT)
            except BlockingIOError:
                return count


# -- receiving ----------------------------------------------------------------------------------


@contextmanager
def read_bytes(lab: Lab, fd: int, batch: int) -> Iterator[Callable[[], int]]:
    def move() -> int:
        for _ in range(COUNT):
            os.read(fd, STRIDE)
        return COUNT

    yield move


@contextmanager
def read_into(lab: Lab, fd: int, batch: int) -> Iterator[Callable[[], int]]:
    views = [(memoryview(row),) for row in np.zeros((COUNT, STRIDE), np.uint8)]

    def move() -> int:
        for view in views:
            os.readv(fd, view)
        return COUNT

    yield move


@contextmanager
def recvmmsg(lab: Lab, fd: int, batch: int) -> Iterator[Callable[[], int]]:
    table = MsgTable(np.zeros((batch, STRIDE), np.uint8))

    def move() -> int:
        return sum(table.recv(fd, batch, DONTWAIT) for _ in range(COUNT // batch))

    yield move


@contextmanager
def uring_nowait(lab: Lab, fd: int, batch: int) -> Iterator[Callable[[], int]]:
    """Reads that complete at once, as many as a batch, into fixed rows."""
    rows = np.zeros((batch, STRIDE), np.uint8)
    with Ring(max(8, batch), cq_entries=1024) as ring:
        ring.register_ring()
        slots = ring.sqes[:batch]
        slots["opcode"] = Op.READ if fd == lab.tap_fd else Op.RECV
        slots["rw_flags"] = 8 if fd == lab.tap_fd else DONTWAIT
        slots["fd"], slots["len"], slots["addr"] = fd, STRIDE, row_addresses(rows)

        def move() -> int:
            done = 0
            for _ in range(COUNT // batch):
                ring.queue(0, batch)
                ring.enter()
                done += int((ring.reap()["res"] > 0).sum())
            return done

        yield move


@contextmanager
def ring_slots(lab: Lab, fd: int, batch: int) -> Iterator[Callable[[], int]]:
    with lab.open(WIRE) as sock:
        ring = tpacket.RxRing(sock, slots=512)

        def move() -> int:
            done = 0
            while count := ring.ready(batch):
                int(ring.length[ring.head : ring.head + count].sum())
                ring.release(count)
                done += count
            return done

        yield move
        ring.close()


def xsk_receive(mode: int) -> Way:
    @contextmanager
    def way(lab: Lab, fd: int, batch: int) -> Iterator[Callable[[], int]]:
        index = netif.index(WIRE)
        attachment = xsk.Attachment(index, netif.mac(WIRE), mode=mode)
        with xsk.when_free(
            lambda: xsk.XskCycle(index, slots=512, lent=0, chunk_bytes=STRIDE)
        ) as sock:
            attachment.feed(0, sock.fileno())

            def move() -> int:
                done = 0
                while count := sock.ready(batch):
                    sock.release(count)
                    done += count
                return done

            yield move
            attachment.close()

    return way


# -- sending ------------------------------------------------------------------------------------


@contextmanager
def write_bytes(lab: Lab, fd: int, batch: int) -> Iterator[Callable[[], int]]:
    frames = [row.tobytes() for row in lab.rows]

    def move() -> int:
        for frame in frames:
            os.write(fd, frame)
        return COUNT

    yield move


@contextmanager
def sendmmsg(lab: Lab, fd: int, batch: int) -> Iterator[Callable[[], int]]:
    def move() -> int:
        return sum(lab.table.send(fd, first, batch, DONTWAIT) for first in range(0, COUNT, batch))

    yield move


def uring_burst(operation: Op) -> Way:
    @contextmanager
    def way(lab: Lab, fd: int, batch: int) -> Iterator[Callable[[], int]]:
        rows = np.ascontiguousarray(lab.rows)
        address = row_addresses(rows)
        length = np.full(COUNT, lab.size, np.uint32)
        with Ring(max(8, batch)) as ring:
            ring.register_ring()
            burst = Burst(ring, operation=operation, slot=0, capacity=batch, fd=fd, user_data=0)

            def move() -> int:
                done = 0
                for first in range(0, COUNT, batch):
                    burst.stage(address[first:], length, batch)
                    done += ring.enter() - ring.ready
                return done

            yield move

    return way


@contextmanager
def xsk_send(lab: Lab, fd: int, batch: int) -> Iterator[Callable[[], int]]:
    index = netif.index(WIRE)
    with xsk.when_free(
        lambda: xsk.XskTransmit(index, chunks=COUNT, chunk_bytes=STRIDE, entries=max(4, batch))
    ) as sock:
        sock.frames[:, : lab.size] = lab.rows
        places = np.arange(COUNT, dtype=np.uint64) * np.uint64(STRIDE)
        length = np.full(batch, lab.size, np.uint32)

        def move() -> int:
            return sum(
                sock.send(places[first : first + batch], length)[0]
                for first in range(0, COUNT, batch)
            )

        yield move


Way = Callable[[Lab, int, int], "contextmanager[Callable[[], int]]"]
ONE = (1,)
SETS: dict[str, dict[str, tuple[Way, tuple[int, ...]]]] = {
    "tap rx": {
        "os.read": (read_bytes, ONE),
        "os.readv into rows": (read_into, ONE),
        "uring nowait": (uring_nowait, BATCHES),
    },
    "tap tx": {
        "os.write": (write_bytes, ONE),
        "uring write": (uring_burst(Op.WRITE), BATCHES),
    },
    "wire rx": {
        "os.read": (read_bytes, ONE),
        "recvmmsg": (recvmmsg, BATCHES),
        "uring nowait": (uring_nowait, BATCHES),
        "ring of slots": (ring_slots, BATCHES),
        "xsk generic": (xsk_receive(xsk.MODE_GENERIC), BATCHES),
        "xsk native": (xsk_receive(xsk.MODE_NATIVE), BATCHES),
    },
    "wire tx": {
        "os.write": (write_bytes, ONE),
        "sendmmsg": (sendmmsg, BATCHES),
        "uring send": (uring_burst(Op.SEND), BATCHES),
        "xsk": (xsk_send, BATCHES),
    },
}


def measure(lab: Lab, side: str, way: Way, batch: int) -> tuple[float, float] | None:
    """CPU µs per frame of the way itself, and of the far end that sent to it: medians."""
    wire = side.startswith("wire")
    receiving = side.endswith("rx")
    sock = lab.open(WIRE) if wire else None
    fd = sock.fileno() if sock else lab.tap_fd
    far = lab.far_wire if wire else lab.far_tap
    lab.drain(far)
    own, others = [], []
    try:
        with way(lab, fd, batch) as move:
            for _ in range(REPEATS):
                far_ns = 0
                if receiving:
                    began = time.thread_time_ns()
                    lab.lay(far)
                    far_ns = time.thread_time_ns() - began
                    time.sleep(0.0005)  # for the kernel's own threads
                began = time.thread_time_ns()
                moved = move()
                own_ns = time.thread_time_ns() - began
                arrived = moved if receiving else lab.drain(far)
                if moved != COUNT or arrived != COUNT:
                    # A busy machine let frames come late, or dropped some: no figure from that.
                    lab.spoiled += 1
                    break
                own.append(own_ns / COUNT / 1000)
                others.append(far_ns / COUNT / 1000)
    finally:
        if sock:
            sock.close()
    # The first ones pay for cold caches.
    return (median(own[2:]), median(others[2:])) if len(own) > 2 else None


def cost_table(lab: Lab, sides: list[str], seconds: float) -> dict[str, list[dict[str, object]]]:
    result: dict[str, list[dict[str, object]]] = {}
    for side in sides:
        points = [
            (name, way, batch) for name, (way, batches) in SETS[side].items() for batch in batches
        ]
        values: dict[tuple[str, int], list[tuple[float, float]]] = {}
        deadline = time.monotonic() + seconds
        turn = 0
        while time.monotonic() < deadline or turn < 4:
            for name, way, batch in points if turn % 2 == 0 else reversed(points):
                value = measure(lab, side, way, batch)
                if value is not None:
                    values.setdefault((name, batch), []).append(value)
            turn += 1
        rows = []
        spoiled = f", {lab.spoiled} measurements spoiled" if lab.spoiled else ""
        print(f"\n{side}: {lab.size} bytes, {turn} turns{spoiled}", flush=True)
        print(
            f"  {'way':24} {'batch':>5} {'own µs':>7} {'middle half':>13} {'kpps':>6} {'far µs':>7}"
        )
        for (name, batch), pairs in values.items():
            own = np.array([pair[0] for pair in pairs[1:]])
            far = median(pair[1] for pair in pairs[1:])
            low, mid, high = np.percentile(own, (25, 50, 75))
            rows.append(
                {"way": name, "batch": batch, "own_us": mid, "low_us": low, "high_us": high}
                | {"far_us": far}
            )
            far_text = f"{far:6.2f}" if side.endswith("rx") else f"{'–':>6}"
            print(
                f"  {name:24} {batch:5} {mid:7.2f} {low:6.2f}–{high:<6.2f} {1000 / mid:6.0f} "
                f"{far_text}"
            )
        result[side] = rows
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="bytes of a frame (256)")
    parser.add_argument("--seconds", type=float, default=10, help="for each side (10)")
    parser.add_argument("--side", action="append", choices=list(SETS), help="only this one")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    arguments = parser.parse_args()
    for usable, why in (uring.probe(tap=True), tpacket.probe(), xsk.probe()):
        if not usable:
            raise SystemExit(why)
    lab = Lab(arguments.size)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    figures = cost_table(lab, arguments.side or list(SETS), arguments.seconds)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
