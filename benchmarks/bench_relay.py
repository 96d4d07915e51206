"""How fast an OBU relays from the radio to the radio: per packet, batched, and the bare calls.

    python benchmarks/bench_relay.py [--rounds 5] [--seconds 1.0] [--flows 1] [MODE …]

Two namespaces joined by a veth pair: in one the node under test, alone on its CPU; in the other a
generator with ready frames, and the interface's own counter as the sink. A mode is `per-packet`,
`mmsg:N` (the agent with batches of N) or `bare:N` (a loop of recvmmsg, header rewrite and sendmmsg
without any protocol: what Python can do at all). Modes alternate in each round; what counts is
their ratio within a round, and on a busy machine the best of each. Needs root; everything it makes
goes with it.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.batch import HEADROOM, FrameBatch
from agent.linux import mmsg, netif, packet
from agent.protocol.codec import encode
from agent.protocol.messages import Heartbeat, UpstreamData

RADIO = "radio0"
BROADCAST = b"\xff" * 6
UPSTREAM_MAC = b"\x02\x00\x00\x00\x00\xaa"
CHILD_MAC = b"\x02\x00\x00\x00\x00\xbb"
FRAME_BYTES = 256
DEFAULT_MODES = (
    "per-packet",
    "mmsg:1",
    "mmsg:8",
    "mmsg:32",
    "mmsg:64",
    "bare:8",
    "bare:32",
    "bare:64",
)

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_MSG_WAITFORONE = 0x10000  # not in Python's socket module


class Namespace:
    """A namespace without a name, for as long as this process lives."""

    def __init__(self) -> None:
        def make() -> None:
            if _libc.unshare(_CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "unshare")
            self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        self.path = f"/proc/{os.getpid()}/fd/{self.fd}"

    @contextmanager
    def entered(self) -> Iterator[None]:
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        _libc.setns(self.fd, _CLONE_NEWNET)
        try:
            yield
        finally:
            _libc.setns(before, _CLONE_NEWNET)
            os.close(before)


@dataclass(frozen=True)
class Sample:
    """One trial: delivered packets per second, CPU time per packet in µs, batch fill."""

    pps: float
    cpu_us: float
    fill: float | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--flows", type=int, default=1)
    parser.add_argument("modes", nargs="*", default=DEFAULT_MODES)
    given = parser.parse_args()
    if os.geteuid() != 0:
        parser.exit(4, "needs root\n")

    node, peer = Namespace(), Namespace()
    with peer.entered():
        subprocess.run(
            f"ip link add name {RADIO} type veth peer name {RADIO} netns {node.path}".split(),
            check=True,
        )
    for namespace in (node, peer):
        with namespace.entered():
            netif.set_ipv6_option(RADIO, "disable_ipv6", 1)
            netif.set_up(RADIO)
    with node.entered():
        mac = netif.mac(RADIO)

    samples: dict[str, list[Sample]] = {mode: [] for mode in given.modes}
    with generator(peer, mac, given.flows) as generate:
        for turn in range(given.rounds):
            order = list(given.modes)
            for mode in order if turn % 2 == 0 else reversed(order):
                samples[mode].append(trial(mode, node, peer, mac, generate, given.seconds))
    report(samples)


def report(samples: dict[str, list[Sample]]) -> None:
    first = next(iter(samples))
    print(
        f"{'mode':12} {'pps':>9} {'best':>9} {'µs/packet':>10} {'best':>6} {'fill':>6}   to {first}"
    )
    for mode, taken in samples.items():
        # On a machine that is busy enough a trial may see nothing at all: that is no data.
        counted = [one for one in taken if one.pps]
        pairs = zip(taken, samples[first], strict=True)
        ratios = sorted(one.pps / base.pps for one, base in pairs if one.pps and base.pps)
        if not ratios:
            print(f"{mode:12} –")
            continue
        pps = [one.pps for one in counted]
        cpu = [one.cpu_us for one in counted]
        fills = [one.fill for one in counted if one.fill is not None]
        fill = f"{statistics.median(fills):6.1f}" if fills else "     –"
        print(
            f"{mode:12} {statistics.median(pps):9.0f} {max(pps):9.0f} "
            f"{statistics.median(cpu):10.2f} {min(cpu):6.2f} {fill}   "
            f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} … {ratios[-1]:.2f})"
        )


@contextmanager
def generator(peer: Namespace, mac: bytes, flows: int) -> Iterator[Callable[[bool], None]]:
    """A process that sends as fast as it can while switched on; SIGUSR1 and SIGUSR2 switch it."""
    frames = []
    for number in range(64):
        child = CHILD_MAC[:-1] + bytes([16 + number % flows])
        inner = UPSTREAM_MAC + child + b"\x88\xb5"
        inner += bytes(FRAME_BYTES - 22 - len(inner))
        frames.append(
            encode(UpstreamData(receiver=mac, transmitter=child, origin=child, inner=inner))
        )
    # Blocked before the child exists: a switch that comes early must wait, not kill.
    switches = [signal.SIGUSR1, signal.SIGUSR2]
    signal.pthread_sigmask(signal.SIG_BLOCK, switches)
    pid = _fork(peer, lambda: _generate(frames))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, switches)
    try:
        yield lambda on: os.kill(pid, signal.SIGUSR1 if on else signal.SIGUSR2)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _fork(namespace: Namespace, work: Callable[[], None]) -> int:
    """A child that does nothing but `work`, in that namespace; its pid."""
    with namespace.entered():
        pid = os.fork()
        if pid == 0:
            try:
                work()
            except BaseException:
                traceback.print_exc()
            os._exit(1)
    return pid


def _generate(frames: list[bytes]) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    sock = packet.open_packet_socket(RADIO, protocol=0)
    rows = np.frombuffer(b"".join(frames), np.uint8).reshape(len(frames), FRAME_BYTES).copy()
    table = mmsg.MsgTable(rows)
    while True:
        signal.sigwait([signal.SIGUSR1])
        while signal.SIGUSR2 not in signal.sigpending():
            for _ in range(50):
                try:
                    table.send(sock.fileno(), 0, len(frames), 0)
                except OSError:
                    continue
        signal.sigwait([signal.SIGUSR2])


def trial(
    mode: str,
    node: Namespace,
    peer: Namespace,
    mac: bytes,
    generate: Callable[[bool], None],
    seconds: float,
) -> Sample:
    kind, _, batch = mode.partition(":")
    process = None
    if kind == "bare":
        pid = _fork(node, lambda: _bare(mac, int(batch)))
    else:
        with node.entered():
            process = _agent(kind, batch)
        pid = process.pid
    events = process.stdout if process is not None else None
    if events is not None:
        _until(events, "ready")
        with peer.entered(), packet.open_packet_socket(RADIO, protocol=0) as sock:
            heartbeat = Heartbeat(
                receiver=BROADCAST,
                transmitter=UPSTREAM_MAC,
                duration_ms=1,
                hello_id=1,
                hops=1,
                rsu=UPSTREAM_MAC,
            )
            sock.send(encode(heartbeat))
        _until(events, "upstream")
    generate(True)
    time.sleep(0.3)
    with peer.entered():
        before, cpu_before, start = netif.counters(RADIO), _cpu_ns(pid), time.monotonic_ns()
        time.sleep(seconds)
        after, cpu_after, end = netif.counters(RADIO), _cpu_ns(pid), time.monotonic_ns()
    generate(False)
    fill = None
    if process is None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    else:
        process.terminate()
        assert process.stdout is not None
        process.stdout.read()
        process.wait()
        stats = json.loads(STATS.read_text())
        counts = {int(n): times for n, times in stats["fill"]["wire"].items()}
        fill = sum(n * times for n, times in counts.items()) / max(sum(counts.values()), 1)
    packets = after.rx_packets - before.rx_packets
    return Sample(
        pps=packets / (end - start) * 1e9,
        cpu_us=(cpu_after - cpu_before) / max(packets, 1) / 1e3,
        fill=fill,
    )


STATS = Path(f"/tmp/bench-relay-{os.getpid()}.json")


def _agent(kind: str, batch: str) -> subprocess.Popen[bytes]:
    handler = "per-packet" if kind == "per-packet" else "batched"
    command = [
        *(sys.executable, "-m", "agent.cli", "obu", "-b", RADIO, "--event-fd", "1"),
        *("--log-level", "error", "--engine", kind, "--handler", handler),
        *("--batch", batch or "1", "--stats-file", str(STATS), "--quiet-tap"),
    ]
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        return subprocess.Popen(command, stdout=subprocess.PIPE)
    finally:
        os.sched_setaffinity(0, before)


def _until(events, kind: str) -> None:  # type: ignore[no-untyped-def]
    for line in events:
        if json.loads(line)["event"] == kind:
            return
    raise SystemExit(f"the agent ended before it was {kind}")


def _cpu_ns(pid: int) -> int:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def _bare(mac: bytes, batch: int) -> None:
    """recvmmsg, the header of every row overwritten, sendmmsg; nothing else."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    sock = packet.open_packet_socket(RADIO)
    fd = sock.fileno()
    sock.setblocking(True)
    frames = FrameBatch(batch, 1515)
    receive, send = mmsg.MsgTable(frames.data), mmsg.MsgTable(frames.data)
    receive.reset_receive(offset=HEADROOM)
    send.reset_receive(offset=HEADROOM)
    header = np.frombuffer(UPSTREAM_MAC + mac, np.uint8)
    heads = frames.data[:, HEADROOM : HEADROOM + 12]
    while True:
        n = receive.recv(fd, batch, _MSG_WAITFORONE)
        heads[:n] = header
        send.iov_len[:n] = receive.msg_len[:n]
        send.send(fd, 0, n, 0)


if __name__ == "__main__":
    try:
        main()
    finally:
        STATS.unlink(missing_ok=True)
