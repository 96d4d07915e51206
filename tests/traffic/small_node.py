"""A small node that speaks the protocol, shares no code with the agent, and errs when told to.

Run as a program inside a namespace. Faults name test frames by their sequence number modulo 10,
so that a test knows exactly how many there must be. Sequence number 0 always passes.

    --duplicate D   sent twice
    --late D        sent after the frame behind it
    --damage D      one byte of its payload changed
    --cut D         the last byte missing
    --gather D      with the frame behind it in one writev()
    --swallow D     not sent at all
    --stray D       sent to another neighbour than it should be
    --stall S       once, at sequence number 50, nothing is read for S seconds

Two faults that only a comparison shows:

    --group-once    a copy of group traffic goes to one OBU and to no other
    --twice         every system call of the data path is made twice, one of them for nothing

`--bind`, `--tap-name`, `--ip`, `--mtu` and `--hello-periodicity` are those of existing nodes.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import select
import socket
import struct
import time

MARKER = b"\x30\x30"
BROADCAST = b"\xff" * 6
SEQUENCE_AT = 40


class SmallNode:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.radio = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x3030))
        self.radio.bind((options.radio, 0x3030))
        if options.buffer:
            self.radio.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, options.buffer)
        else:
            self.radio.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)  # SO_RCVBUFFORCE
        self.mac = self.radio.getsockname()[4]
        self.tap = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(self.tap, 0x400454CA, struct.pack("16sH22x", options.tap.encode(), 0x1002))
        self.upstream: bytes | None = None
        self.routes: dict[bytes, bytes] = {}
        self.clients: dict[bytes, bytes | None] = {}
        self.heard: set[tuple[bytes, int]] = set()
        self.idle = select.poll()
        self.held: tuple[int, bytes] | None = None
        self.hello_id = 0
        self.next_hello = 0.0
        self.booted = time.monotonic()

    def run(self) -> None:
        up_tap(self.options)
        poller = select.poll()
        poller.register(self.radio, select.POLLIN)
        poller.register(self.tap, select.POLLIN)
        print("ready", flush=True)
        while True:
            wait = None
            if self.options.kind == "rsu":
                wait = max(0.0, self.next_hello - time.monotonic())
                if wait == 0:
                    self.hello()
                    wait = 0.1
            elif self.held:
                wait = 0.1
            ready = poller.poll(None if wait is None else wait * 1000)
            self.once_more()
            if not ready and self.held:
                self.release()
            for descriptor, _ in ready:
                try:
                    if descriptor == self.tap:
                        self.once_more()
                        self.on_tap(os.read(self.tap, 65536))
                    else:
                        self.once_more()
                        self.on_wire(self.radio.recv(65536))
                except OSError:  # a link that is down
                    continue

    def once_more(self) -> None:
        """A system call for nothing, beside one that is needed."""
        if self.options.twice:
            self.idle.poll(0)

    def hello(self) -> None:
        self.next_hello = time.monotonic() + self.options.hello_periodicity / 1000
        uptime = int((time.monotonic() - self.booted) * 1000)
        body = struct.pack("!QQII", 0, uptime, self.hello_id, 1) + self.mac
        self.hello_id += 1
        self.send(BROADCAST + self.mac + MARKER + b"\x00\x00" + body)

    def on_wire(self, frame: bytes) -> None:
        while len(frame) >= 16 and frame[12:14] == MARKER:
            kind = frame[14:16]
            size = {b"\x00\x00": 46, b"\x00\x01": 52}.get(kind, len(frame))
            message, frame = frame[:size], frame[size:]
            if message[:6] not in (self.mac, BROADCAST):
                continue
            if kind == b"\x00\x00":
                self.on_heartbeat(message)
            elif kind == b"\x00\x01":
                self.on_reply(message)
            elif kind == b"\x01\x00":
                self.on_upstream(message)
            elif kind == b"\x01\x01":
                self.on_downstream(message)

    def on_heartbeat(self, message: bytes) -> None:
        if self.options.kind == "rsu":
            return
        number = int.from_bytes(message[32:36], "big")
        source = message[40:46]
        if (source, number) in self.heard:
            return
        self.heard.add((source, number))
        self.upstream = message[6:12]
        hops = int.from_bytes(message[36:40], "big") + 1
        again = BROADCAST + self.mac + message[12:36] + hops.to_bytes(4, "big") + source
        reply = self.upstream + self.mac + MARKER + b"\x00\x01" + message[16:46] + self.mac
        # In one frame, as existing nodes do.
        self.send(again + reply)

    def on_reply(self, message: bytes) -> None:
        self.routes[message[46:52]] = message[6:12]
        if self.options.kind == "obu" and self.upstream not in (None, message[6:12]):
            assert self.upstream is not None
            self.send(self.upstream + self.mac + message[12:])

    def on_upstream(self, message: bytes) -> None:
        origin, inner = message[16:22], message[22:]
        if self.options.kind == "obu":
            if self.upstream is not None:
                self.data(self.upstream + self.mac + message[12:], 22)
            return
        self.clients[inner[6:12]] = origin
        self.forward(inner, origin)

    def on_downstream(self, message: bytes) -> None:
        goal = message[22:28]
        if self.options.kind == "rsu":
            return
        if goal == self.mac or goal[0] & 1:
            self.data(message[28:], 0)
        elif goal in self.routes:
            self.data(self.routes[goal] + self.mac + message[12:], 28)

    def on_tap(self, inner: bytes) -> None:
        if self.options.kind == "obu":
            if self.upstream is not None:
                head = self.upstream + self.mac + MARKER + b"\x01\x00" + self.mac
                self.data(head + inner, 22)
            return
        self.clients[inner[6:12]] = None
        self.forward(inner, None)

    def forward(self, inner: bytes, origin: bytes | None) -> None:
        """What an RSU does with an inner frame from an OBU, or from its own TAP (None)."""
        goal = inner[:6]
        if goal[0] & 1:
            if origin is not None:
                self.data(inner, 0)
            others = [obu for obu in sorted(self.routes) if obu != origin]
            for obu in others[:1] if self.options.group_once else others:
                self.data(self.down(self.routes[obu], goal) + inner, 28)
            return
        if goal not in self.clients:
            return
        obu_of = self.clients[goal]
        if obu_of is None:
            self.data(inner, 0)
        else:
            self.data(self.down(self.routes.get(obu_of, obu_of), obu_of) + inner, 28)

    def down(self, via: bytes, goal: bytes) -> bytes:
        return via + self.mac + MARKER + b"\x01\x01" + self.mac + goal

    def data(self, frame: bytes, header: int) -> None:
        """Send a data frame (to the TAP if it has no header), with the faults that are due."""
        inner = frame[header:]
        if inner[12:14] != b"\x08\x00" or len(inner) < 60:
            self.out(frame, header)
            return
        number = int.from_bytes(inner[SEQUENCE_AT : SEQUENCE_AT + 8], "big")
        options = self.options
        if options.stall and number == 50:
            options.stall, pause = 0, options.stall
            time.sleep(pause)
        digit = number % 10 if number else -1
        if digit == options.swallow:
            return
        if digit == options.damage:
            frame = frame[:-3] + bytes([frame[-3] ^ 0x40]) + frame[-2:]
        elif digit == options.cut:
            frame = frame[:-1]
        elif digit == options.stray and header:
            frame = b"\x02\x7b\x00\x00\x00\x77" + frame[6:]
        held, self.held = self.held, None
        if digit in (options.late, options.gather) and held is None:
            self.held = (header, frame)
            return
        if held is not None and options.gather >= 0:
            self.out(held[1] + frame, header)
            return
        self.out(frame, header)
        if digit == options.duplicate:
            self.out(frame, header)
        if held is not None:
            self.out(held[1], held[0])

    def release(self) -> None:
        if self.held is not None:
            (header, frame), self.held = self.held, None
            self.out(frame, header)

    def out(self, frame: bytes, header: int) -> None:
        if header:
            self.send(frame)
        else:
            self.once_more()
            try:
                os.write(self.tap, frame)
            except OSError:
                pass

    def send(self, frame: bytes) -> None:
        self.once_more()
        try:
            self.radio.send(frame)
        except OSError:
            pass


def up_tap(options: argparse.Namespace) -> None:
    name = options.tap.encode()
    if not options.ip:
        # A tester's frames and nothing else: the kernel is to say nothing of its own.
        with open(f"/proc/sys/net/ipv6/conf/{options.tap}/disable_ipv6", "w") as switch:
            switch.write("1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, 0x8922, struct.pack("16si20x", name, options.mtu))
        if options.ip:
            for request, address in ((0x8916, options.ip), (0x891C, "255.255.0.0")):
                packed = struct.pack(
                    "16sHH4s16x", name, socket.AF_INET, 0, socket.inet_aton(address)
                )
                fcntl.ioctl(sock, request, packed)
        fcntl.ioctl(sock, 0x8914, struct.pack("16sh22x", name, 0x1))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["obu", "rsu"])
    parser.add_argument("--radio", "--bind", default="radio0")
    parser.add_argument("--tap", "--tap-name", default="tap0")
    parser.add_argument("--ip")
    parser.add_argument("--mtu", type=int, default=1436)
    parser.add_argument("--hello-periodicity", type=int, default=100)
    parser.add_argument("--group-once", action="store_true")
    parser.add_argument("--twice", action="store_true")
    parser.add_argument("--buffer", type=int, default=0)
    parser.add_argument("--stall", type=float, default=0)
    for fault in ("duplicate", "late", "damage", "cut", "gather", "swallow", "stray"):
        parser.add_argument(f"--{fault}", type=int, default=-2)
    SmallNode(parser.parse_args()).run()


if __name__ == "__main__":
    main()
