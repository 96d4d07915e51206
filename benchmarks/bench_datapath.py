"""What the agent itself spends on a frame, by path, engine and batch size, beside a loop in C.

    python benchmarks/bench_datapath.py [--seconds 20] [--path PATH] [--bytes 256] [MODE …]

The real driver, node and engines, in one thread on one CPU: frames are laid ready outside the
measured time, then the driver is let take, decide and send them all, and its CPU time is what
counts. So the figure has neither a generator's nor a sink's speed in it, nor what a wake-up costs,
and holds on a machine that others use as well. Frames that arrive have been written by the same
CPU a moment ago, which flatters all modes alike. A mode is WIRE/TAP:BATCH, `per-packet` for the
node that handles frame by frame, or `floor:BATCH`: recvmmsg, twelve bytes written, sendmmsg, in C
(only on the relay path). Modes take turns, forwards and backwards; ratios are to the first mode,
turn by turn. Needs root and, for the floor, gcc.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from agent.driver import Driver
from agent.engines.base import Port, Side
from agent.engines.registry import ENGINES
from agent.linux import bpf, netif, packet, tap
from agent.linux.mmsg import MsgTable
from agent.protocol.codec import encode
from agent.protocol.messages import DownstreamData, Heartbeat, UpstreamData
from agent.protocol.obu import Obu

WIRE, FAR, TAP = "tbt-w", "tbt-p", "tbt-t"
UPSTREAM_MAC = b"\x02\x00\x00\x00\x00\xaa"
CHILD_MAC = b"\x02\x00\x00\x00\x00\xbb"
COUNT = 512
REPEATS = 8
MANY_BYTES = 64 << 20
PATHS = ("relay", "tap-to-wire", "wire-to-tap")
MODES = (
    "per-packet",
    "floor:32",
    "mmsg/per-packet:32",
    "mmsg/uring:32",
    "mmsg/uring:128",
    "ring/uring:32",
    "ring/uring:128",
    "xsk/uring:32",
    "xsk/uring:128",
)
FLOOR = r"""
#define _GNU_SOURCE
#include <string.h>
#include <sys/socket.h>
#define MOST 256
static char rows[MOST][2048];
static struct iovec in[MOST], out[MOST];
static struct mmsghdr from[MOST], to[MOST];
void prepare(void) {
    for (int i = 0; i < MOST; i++) {
        in[i].iov_base = out[i].iov_base = rows[i];
        in[i].iov_len = sizeof rows[i];
        from[i].msg_hdr.msg_iov = &in[i]; to[i].msg_hdr.msg_iov = &out[i];
        from[i].msg_hdr.msg_iovlen = to[i].msg_hdr.msg_iovlen = 1;
    }
}
int forward(int fd, int batch, int wanted, const char *header) {
    int done = 0;
    while (done < wanted) {
        int n = recvmmsg(fd, from, batch, MSG_DONTWAIT, 0);
        if (n <= 0) break;
        for (int i = 0; i < n; i++) {
            memcpy(rows[i], header, 12);
            out[i].iov_len = from[i].msg_len;
        }
        int sent = 0;
        while (sent < n) {
            int m = sendmmsg(fd, to + sent, n - sent, MSG_DONTWAIT);
            if (m <= 0) return -1;
            sent += m;
        }
        done += n;
    }
    return done;
}
"""

Take = Callable[[], int]


class Lab:
    """A veth pair and a TAP in a namespace of this process, and what stands at their far ends."""

    def __init__(self, size: int) -> None:
        if ctypes.CDLL(None).unshare(0x40000000):
            raise SystemExit("this benchmark needs root")
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        self.tap_fd, _ = tap.open_tap(TAP)
        os.set_blocking(self.tap_fd, False)
        for request in (
            f"link add name {WIRE} type veth peer name {FAR}",
            f"link set {TAP} txqueuelen 8192",
        ):
            subprocess.run(["ip", *request.split()], check=True)
        for name in (WIRE, FAR, TAP):
            netif.set_ipv6_option(name, "disable_ipv6", 1)
            netif.set_up(name)
        time.sleep(1.2)  # link watch: until then a queue may drop
        self.mac = netif.mac(WIRE)
        self.far_wire, self.far_tap = self.open(FAR), self.open(TAP, 0x0003)
        inner = b"\x02\x00\x00\x00\x00\xcc" + CHILD_MAC + b"\x88\xb5"
        inner += bytes(size - 22 - len(inner))
        common = {"receiver": self.mac, "transmitter": CHILD_MAC, "origin": CHILD_MAC}
        self.frames = {
            "relay": self.table(encode(UpstreamData(**common, inner=inner))),
            "wire-to-tap": self.table(
                encode(DownstreamData(**common, target=self.mac, inner=inner))
            ),
            "tap-to-wire": self.table(inner),
        }
        self.sink = MsgTable(np.zeros((64, 2048), np.uint8))

    def open(self, ifname: str, protocol: int = packet.ETHERTYPE) -> packet.socket.socket:
        sock = packet.open_packet_socket(ifname, protocol=protocol, rcvbuf_bytes=MANY_BYTES)
        packet.set_send_buffer(sock, MANY_BYTES)
        return sock

    def table(self, frame: bytes) -> MsgTable:
        return MsgTable(np.tile(np.frombuffer(frame, np.uint8), (64, 1)))

    def lay(self, path: str) -> None:
        far = self.far_tap if path == "tap-to-wire" else self.far_wire
        for _ in range(COUNT // 64):
            done = 0
            while done < 64:
                done += self.frames[path].send(far.fileno(), done, 64 - done, 0)

    def arrived(self, path: str) -> int:
        count = 0
        far = self.far_tap if path == "wire-to-tap" else self.far_wire
        while True:
            try:
                count += self.sink.recv(far.fileno(), 64, packet.socket.MSG_DONTWAIT)
            except BlockingIOError:
                return count


@contextmanager
def agent(lab: Lab, mode: str, path: str) -> Iterator[Take]:
    """A node in that mode; what lets it take all that is there."""
    engines, _, batch = mode.partition(":")
    wire_name, _, tap_name = engines.partition("/")
    size = int(batch or 1)
    node = Obu(lab.mac)
    heartbeat = Heartbeat(
        receiver=b"\xff" * 6,
        transmitter=UPSTREAM_MAC,
        duration_ms=1,
        hello_id=1,
        hops=1,
        rsu=UPSTREAM_MAC,
    )
    node.on_wire(encode(heartbeat), time.monotonic_ns())
    with packet.open_packet_socket(
        WIRE, filter=bpf.own_or_group_filter(), rcvbuf_bytes=MANY_BYTES
    ) as sock:
        packet.set_send_buffer(sock, MANY_BYTES)
        wire = ENGINES[wire_name](
            Port(side=Side.WIRE, fd=sock.fileno(), ifname=WIRE, frame_limit=1514), size
        )
        tap_engine = ENGINES[tap_name or wire_name](
            Port(side=Side.TAP, fd=lab.tap_fd, ifname=TAP, frame_limit=1514), size
        )
        driver = Driver(node, wire, tap_engine, batched=mode != "per-packet")
        source = tap_engine if path == "tap-to-wire" else wire
        action, poll = driver._actions[source.fileno()], driver._epoll.poll

        def take() -> int:
            taken = 0
            while poll(0) and taken < COUNT:
                taken += action(time.monotonic_ns())
            return taken

        try:
            yield take
        finally:
            driver.close()
            wire.close()
            tap_engine.close()


@contextmanager
def floor(lab: Lab, mode: str, library: ctypes.CDLL) -> Iterator[Take]:
    batch = int(mode.partition(":")[2])
    with packet.open_packet_socket(
        WIRE, filter=bpf.own_or_group_filter(), rcvbuf_bytes=MANY_BYTES
    ) as sock:
        packet.set_send_buffer(sock, MANY_BYTES)
        header = UPSTREAM_MAC + lab.mac
        yield lambda: library.forward(sock.fileno(), batch, COUNT, header)


def compiled() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory, "floor.so")
        command = ["gcc", "-O2", "-shared", "-fPIC", "-x", "c", "-", "-o", str(target)]
        subprocess.run(command, input=FLOOR.encode(), check=True)
        library = ctypes.CDLL(str(target))
    library.prepare()
    return library


def measure(lab: Lab, path: str, take: Take) -> float | None:
    """CPU in µs for a frame: the median of some repeats; None if frames went astray."""
    spent = []
    lab.arrived(path)
    for _ in range(REPEATS):
        lab.lay(path)
        began = time.thread_time_ns()
        taken = take()
        spent.append(time.thread_time_ns() - began)
        if taken != COUNT or lab.arrived(path) != COUNT:
            return None
    return statistics.median(spent[2:]) / COUNT / 1000  # the first ones pay for cold caches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20, help="for each path (20)")
    parser.add_argument("--path", action="append", choices=PATHS)
    parser.add_argument("--bytes", type=int, default=256, help="of a frame with its headers (256)")
    parser.add_argument("modes", nargs="*", default=MODES)
    given = parser.parse_args()
    lab = Lab(given.bytes)
    library = compiled() if any(mode.startswith("floor") for mode in given.modes) else None
    for path in given.path or PATHS:
        modes = [mode for mode in given.modes if path == "relay" or not mode.startswith("floor")]
        found: dict[str, list[float | None]] = {mode: [] for mode in modes}
        deadline = time.monotonic() + given.seconds
        turn = 0
        while time.monotonic() < deadline or turn < 3:
            for mode in modes if turn % 2 == 0 else reversed(modes):
                if mode.startswith("floor"):
                    assert library is not None
                    opened = floor(lab, mode, library)
                else:
                    opened = agent(lab, mode, path)
                with opened as take:
                    found[mode].append(measure(lab, path, take))
            turn += 1
        report(path, given.bytes, found)


def report(path: str, size: int, found: dict[str, list[float | None]]) -> None:
    first = next(iter(found))
    print(f"\n{path}, {size} bytes: {len(found[first])} turns, ratios to {first}")
    print(f"  {'mode':20} {'µs':>6} {'middle half':>12} {'ratio':>6} {'middle half':>12}")
    for mode, values in found.items():
        counted = [value for value in values if value is not None]
        ratios = [b / a for a, b in zip(values, found[first], strict=True) if a and b]
        if not ratios:
            print(f"  {mode:20} –")
            continue
        low, middle, high = np.percentile(counted, (25, 50, 75))
        below, ratio, above = np.percentile(ratios, (25, 50, 75))
        print(
            f"  {mode:20} {middle:6.2f} {low:5.2f} … {high:4.2f} {ratio:6.2f} "
            f"{below:5.2f} … {above:4.2f}",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
