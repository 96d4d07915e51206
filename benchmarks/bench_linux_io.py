"""What one frame costs by each way in and out: TAP and wire, received and sent.

Every way moves the same number of frames, all in one thread on one CPU: frames are laid ready (or
taken away) at the far end outside the measured time, then the way under test takes (or sends)
them all, batch by batch. So the figure is the cost of the way itself, without waiting and without
the generator. Ways take turns, forwards and backwards, for some seconds; printed is the median
with the middle half of the values.

`own` is the CPU time of the way under test per frame. `far` is that of whoever sends to a
receiving way: a mapped ring or AF_XDP has the kernel copy on the sender's time, and what is saved
here must not be hidden there.

With --waiting: what waiting costs. Another process sends smooth traffic; ways to wait for it are
compared by CPU, wake-ups and latency.

Needs root; makes a network namespace of its own that ends with it.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import select
import socket
import struct
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
from agent.linux.uring import Burst, Op, Ring, Stream, Watch

WIRE, FAR, TAP = "tbt-w", "tbt-p", "tbt-t"
COUNT = 256
REPEATS = 12
STRIDE = 2048
BATCHES = (1, 8, 32, 64)
MANY_BYTES = 64 << 20
DONTWAIT = socket.MSG_DONTWAIT
STREAM, BURST, WATCH = 1 << 40, 1 << 41, 1 << 42


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
def uring_stream(lab: Lab, fd: int, batch: int) -> Iterator[Callable[[], int]]:
    with Ring(16, cq_entries=1024) as ring:
        ring.register_ring()
        ring.register_files([fd])
        operation = Op.READ_MULTISHOT if fd == lab.tap_fd else Op.RECV
        stream = Stream(
            ring,
            np.zeros((512, STRIDE), np.uint8),
            operation=operation,
            slot=0,
            file_index=0,
            group=0,
            user_data=STREAM,
        )
        ring.enter()

        def move() -> int:
            done = 0
            while done < COUNT:
                if not stream.filled:
                    ring.enter(1)
                    stream.absorb(ring.reap())
                count = stream.ready(batch)
                stream.release(count)
                done += count
            return done

        yield move


@contextmanager
def uring_nowait(lab: Lab, fd: int, batch: int) -> Iterator[Callable[[], int]]:
    """Reads that complete at once, as many as a batch, into fixed rows."""
    rows = np.zeros((batch, STRIDE), np.uint8)
    with Ring(max(8, batch), cq_entries=1024) as ring:
        ring.register_ring()
        ring.register_files([fd])
        slots = ring.sqes[:batch]
        slots["opcode"] = Op.READ if fd == lab.tap_fd else Op.RECV
        slots["rw_flags"] = 8 if fd == lab.tap_fd else DONTWAIT
        slots["flags"], slots["len"], slots["addr"] = 1, STRIDE, row_addresses(rows)

        def move() -> int:
            done = 0
            for _ in range(COUNT // batch):
                ring.queue(0, batch)
                ring.enter(batch)
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


@contextmanager
def ring_blocks(lab: Lab, fd: int, batch: int) -> Iterator[Callable[[], int]]:
    """The batch is what fits into a block; the last block comes with the timer."""
    block_bytes = max(4096, 1 << (batch * (lab.size + 140)).bit_length() - 1)
    with lab.open(WIRE) as sock:
        blocks = 2 * COUNT * 512 // block_bytes + 2
        ring = tpacket.BlockRing(sock, blocks=blocks, block_bytes=block_bytes)

        def move() -> int:
            done = 0
            while (block := ring.next()) is not None:
                done += len(block.start)
                ring.release()
            return done

        yield move
        ring.close()


def xsk_receive(mode: int) -> Way:
    @contextmanager
    def way(lab: Lab, fd: int, batch: int) -> Iterator[Callable[[], int]]:
        index = netif.index(WIRE)
        attachment = xsk.Attachment(index, netif.mac(WIRE), mode=mode)
        with open_xsk(index) as sock:
            attachment.feed(0, sock.fileno())

            def move() -> int:
                done = 0
                while True:
                    addresses, _ = sock.receive(batch)
                    if not len(addresses):
                        return done
                    sock.release(addresses)
                    sock.refill()
                    done += len(addresses)

            yield move
            attachment.close()

    return way


def open_xsk(index: int) -> xsk.XskSocket:
    deadline = time.monotonic() + 5
    while True:
        try:
            return xsk.XskSocket(index, chunks=1024)
        except OSError:  # the queue of the one before is freed a moment after its end
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


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
            ring.register_files([fd])
            if operation is Op.WRITE_FIXED:
                ring.register_buffers([rows.reshape(-1)])
            burst = Burst(
                ring, operation=operation, slot=0, capacity=batch, file_index=0, user_data=BURST
            )

            def move() -> int:
                done = 0
                for first in range(0, COUNT, batch):
                    burst.stage(address[first:], length, batch)
                    done += ring.enter() - ring.ready
                return done

            yield move

    return way


@contextmanager
def ring_send(lab: Lab, fd: int, batch: int) -> Iterator[Callable[[], int]]:
    with lab.open(WIRE, 0) as sock:
        ring = tpacket.TxRing(sock, frame_limit=1514, slots=512)
        columns = slice(ring.frame_start, ring.frame_start + lab.size)

        def move() -> int:
            done = 0
            while done < COUNT:
                count = ring.room(min(batch, COUNT - done))
                ring.frames[ring.tail : ring.tail + count, columns] = lab.rows[done : done + count]
                ring.commit(lab.size, count)
                done += ring.kick()
            return done

        yield move
        ring.close()


def xsk_send(*, copied: bool) -> Way:
    @contextmanager
    def way(lab: Lab, fd: int, batch: int) -> Iterator[Callable[[], int]]:
        with open_xsk(netif.index(WIRE)) as sock:
            sock.memory[:, : lab.size] = lab.rows[0]
            length = np.full(batch, lab.size, np.uint32)

            def move() -> int:
                done = 0
                while done < COUNT:
                    chunks = sock.take(batch)
                    if copied:
                        numbers = (chunks >> np.uint64(11)).astype(np.intp)
                        sock.memory[numbers, : lab.size] = lab.rows[done : done + batch]
                    sock.transmit(chunks, length)
                    sock.kick()
                    done += sock.reclaim()
                return done

            yield move

    return way


Way = Callable[[Lab, int, int], "contextmanager[Callable[[], int]]"]
ONE = (1,)
SETS: dict[str, dict[str, tuple[Way, tuple[int, ...]]]] = {
    "tap rx": {
        "os.read": (read_bytes, ONE),
        "os.readv into rows": (read_into, ONE),
        "uring multishot": (uring_stream, BATCHES),
        "uring nowait": (uring_nowait, BATCHES),
    },
    "tap tx": {
        "os.write": (write_bytes, ONE),
        "uring write": (uring_burst(Op.WRITE), BATCHES),
        "uring write fixed": (uring_burst(Op.WRITE_FIXED), BATCHES),
    },
    "wire rx": {
        "os.read": (read_bytes, ONE),
        "recvmmsg": (recvmmsg, BATCHES),
        "uring multishot": (uring_stream, BATCHES),
        "uring nowait": (uring_nowait, BATCHES),
        "ring of slots": (ring_slots, BATCHES),
        "ring of blocks": (ring_blocks, BATCHES[1:]),
        "xsk generic": (xsk_receive(xsk.MODE_GENERIC), BATCHES),
        "xsk native": (xsk_receive(xsk.MODE_NATIVE), BATCHES),
    },
    "wire tx": {
        "os.write": (write_bytes, ONE),
        "sendmmsg": (sendmmsg, BATCHES),
        "uring send": (uring_burst(Op.SEND), BATCHES),
        "ring": (ring_send, BATCHES),
        "xsk, frames in place": (xsk_send(copied=False), BATCHES),
        "xsk, frames copied in": (xsk_send(copied=True), BATCHES),
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
                    # The last block's timer; else time for the kernel's own threads.
                    time.sleep(0.01 if way is ring_blocks else 0.0005)
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


# -- waiting ------------------------------------------------------------------------------------


def send_smoothly(rate_pps: int, seconds: float, size: int, cpu: int, far: socket.socket) -> None:
    os.sched_setaffinity(0, {cpu})
    frame = bytearray(frame_rows(size)[0].tobytes())
    gap_ns = 1_000_000_000 // rate_pps
    begin = time.monotonic_ns()
    for number in range(int(rate_pps * seconds)):
        due = begin + number * gap_ns
        while time.monotonic_ns() < due:
            if due - time.monotonic_ns() > 200_000:
                time.sleep(0.0001)
        struct.pack_into("=Q", frame, 24, time.monotonic_ns())
        far.send(frame)


Take = Callable[[], int]


class Waiter:
    """One way to wait for frames on the wire and to take them; `take` returns how many."""

    def __init__(self, lab: Lab, kind: str, wait_us: int) -> None:
        self.kind, self.wait_us = kind, wait_us
        self.stamps: list[np.ndarray] = []
        self.sock = lab.open(WIRE)
        self.closers: list[Callable[[], object]] = [self.sock.close]
        self.step: Take = getattr(self, "_" + kind)()

    def _note(self, rows: np.ndarray, start: int) -> None:
        raw = np.ascontiguousarray(rows[:, start + 24 : start + 32]).view(np.uint64)
        self.stamps.append(time.monotonic_ns() - raw.ravel().astype(np.int64))

    def _mmsg(self) -> Take:
        table = MsgTable(np.zeros((64, STRIDE), np.uint8))
        poll = select.epoll()
        poll.register(self.sock, select.EPOLLIN)
        self.closers.append(poll.close)
        pause = self.wait_us / 1e6

        def step() -> int:
            if not poll.poll(0.1):
                return 0
            if pause:
                time.sleep(pause)
            total = 0
            while True:
                try:
                    count = table.recv(self.sock.fileno(), 64, DONTWAIT)
                except BlockingIOError:
                    return total
                self._note(table.buffers[:count], 0)
                total += count
                if count < 64:
                    return total

        return step

    def _ring(self) -> Ring:
        ring = Ring(16, cq_entries=1024)
        ring.register_ring()
        ring.register_files([self.sock.fileno()])
        self.closers.insert(0, ring.close)
        return ring

    def _enter(self, ring: Ring) -> None:
        if self.wait_us:
            ring.enter(512, min_wait_us=self.wait_us, timeout_us=100_000)
        else:
            ring.enter(1, timeout_us=100_000)

    def _uring(self) -> Take:
        ring = self._ring()
        rows = np.zeros((512, STRIDE), np.uint8)
        stream = Stream(
            ring, rows, operation=Op.RECV, slot=0, file_index=0, group=0, user_data=STREAM
        )

        def step() -> int:
            self._enter(ring)
            if ring.ready == 1:
                completion = ring.reap_one()
                assert completion is not None
                stream.absorb_one(*completion[1:])
            elif ring.ready:
                stream.absorb(ring.reap())
            total = 0
            while count := stream.ready(64):
                self._note(rows[stream.head : stream.head + count], 0)
                stream.release(count)
                total += count
            return total

        return step

    def _slots(self) -> Take:
        mapped = tpacket.RxRing(self.sock, slots=4096)
        self.closers.insert(0, mapped.close)
        ring = self._ring()
        watch = Watch(ring, slot=0, file_index=0, user_data=WATCH)

        def step() -> int:
            self._enter(ring)
            while (completion := ring.reap_one()) is not None:
                watch.absorb_one(*completion[1:])
            total = 0
            while count := mapped.ready(64):
                rows = mapped.frames[mapped.head : mapped.head + count]
                self._note(rows, mapped.frame_start)
                mapped.release(count)
                total += count
            return total

        return step

    def _blocks(self) -> Take:
        mapped = tpacket.BlockRing(
            self.sock, blocks=256, block_timeout_ms=max(1, self.wait_us // 1000)
        )
        self.closers.insert(0, mapped.close)
        poll = select.epoll()
        poll.register(self.sock, select.EPOLLIN)
        self.closers.append(poll.close)

        def step() -> int:
            poll.poll(0.1)
            total = 0
            while (block := mapped.next()) is not None:
                rows = mapped.memory[block.start[:, None] + np.arange(32)]
                self._note(rows, 0)
                total += len(rows)
                mapped.release()
            return total

        return step

    def close(self) -> None:
        for closer in self.closers:
            closer()


RATES = [500, 5_000, 50_000]
WAITERS = (
    ("epoll + recvmmsg", "mmsg", 0),
    ("epoll + sleep 1 ms + recvmmsg", "mmsg", 1000),
    ("uring multishot", "uring", 0),
    ("uring multishot, min wait 1 ms", "uring", 1000),
    ("ring of slots, uring watch", "slots", 0),
    ("ring of slots, min wait 1 ms", "slots", 1000),
    ("ring of blocks, timer 1 ms", "blocks", 1000),
)


def waiting_table(
    lab: Lab, seconds: float, turns: int, rates: list[int]
) -> list[dict[str, object]]:
    cpus = sorted(os.sched_getaffinity(0))
    rows: list[dict[str, object]] = []
    for rate_pps in rates:
        print(f"\nwaiting, {rate_pps} pps smooth, {turns} turns of {seconds:g} s", flush=True)
        print(
            f"  {'way':31} {'CPU µs/pkt':>10} {'wakes/pkt':>9} {'switches/pkt':>12} "
            f"{'lost':>5} {'p50 µs':>7} {'p99':>6} {'p99.9':>6}"
        )
        values: dict[str, list[tuple[float, ...]]] = {}
        for turn in range(turns):
            for name, kind, wait_us in WAITERS if turn % 2 == 0 else reversed(WAITERS):
                one = _wait_once(lab, kind, wait_us, rate_pps, seconds, cpus)
                values.setdefault(name, []).append(one)
        for name, _, _ in WAITERS:
            cpu, wakes, switches, lost, p50, p99, p999 = (
                median(v) for v in zip(*values[name], strict=True)
            )
            print(
                f"  {name:31} {cpu:10.2f} {wakes:9.3f} {switches:12.3f} "
                f"{lost:5.0f} {p50:7.0f} {p99:6.0f} {p999:6.0f}"
            )
            rows.append(
                {"way": name, "rate_pps": rate_pps, "cpu_us": cpu, "wakes": wakes}
                | {
                    "switches": switches,
                    "lost": lost,
                    "p50_us": p50,
                    "p99_us": p99,
                    "p999_us": p999,
                }
            )
    return rows


def _wait_once(
    lab: Lab, kind: str, wait_us: int, rate_pps: int, seconds: float, cpus: list[int]
) -> tuple[float, ...]:
    waiter = Waiter(lab, kind, wait_us)
    expected = int(rate_pps * seconds)
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        send_smoothly(rate_pps, seconds, lab.size, cpus[0], lab.far_wire)
        os._exit(0)
    os.sched_setaffinity(0, {cpus[-1]})
    began, switches = time.thread_time_ns(), _switches()
    got = wakes = 0
    deadline = time.monotonic() + seconds + 5
    while got < expected and time.monotonic() < deadline:
        count = waiter.step()
        wakes += count > 0
        got += count
    cpu_ns = time.thread_time_ns() - began
    switched = _switches() - switches
    os.waitpid(pid, 0)
    os.sched_setaffinity(0, cpus)
    waiter.close()
    latency_us = np.concatenate(waiter.stamps) / 1000
    return (
        cpu_ns / got / 1000,
        wakes / got,
        switched / got,
        expected - got,
        *(float(value) for value in np.percentile(latency_us, (50, 99, 99.9))),
    )


def _switches() -> int:
    status = Path("/proc/thread-self/status").read_text()
    return sum(int(line.split()[1]) for line in status.splitlines() if "ctxt_switches" in line)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="bytes of a frame (256)")
    parser.add_argument("--seconds", type=float, default=10, help="for each side (10)")
    parser.add_argument("--side", action="append", choices=list(SETS), help="only this one")
    parser.add_argument("--waiting", action="store_true", help="compare ways to wait instead")
    parser.add_argument("--turns", type=int, default=4, help="with --waiting: for each way (4)")
    parser.add_argument("--rate", type=int, action="append", help="with --waiting: only this pps")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    arguments = parser.parse_args()
    for module in (uring, tpacket, xsk):
        usable, why = module.probe()
        if not usable:
            raise SystemExit(f"{module.__name__}: {why}")
    lab = Lab(arguments.size)
    if arguments.waiting:
        figures: object = waiting_table(lab, 2.0, arguments.turns, arguments.rate or RATES)
    else:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        figures = cost_table(lab, arguments.side or list(SETS), arguments.seconds)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
