"""The C program by itself, between sockets: every byte that goes through it."""

from __future__ import annotations

import mmap
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from testbed.bench import floor
from testbed.bench.floor import Compiled
from testbed.errors import Lacking

ADDRESSES = bytes(range(12))
DATA = bytes.fromhex("30300100")


def frame(number: int, *, size: int = 60, head: bytes = ADDRESSES + DATA) -> bytes:
    return head + struct.pack("!I", number) + bytes(size - len(head) - 4)


@dataclass
class Run:
    """The program between two sockets, and what it counts."""

    inlet: socket.socket
    outlet: socket.socket
    process: subprocess.Popen[bytes]
    counts: mmap.mmap

    def received_and_sent(self) -> tuple[int, int]:
        numbers = struct.unpack_from("=6Q", self.counts)
        return numbers[3], numbers[4]

    def take(self, count: int) -> list[bytes]:
        return [self.outlet.recv(4096) for _ in range(count)]


@pytest.fixture
def start(compiled: Compiled) -> Iterator[object]:
    """`start(source, sink, batch, strip, match, push)`: source and sink are "s" or "t"."""
    with ExitStack() as stack:

        def begin(source: str, sink: str, batch: int, strip: int, match: bytes, push: bytes) -> Run:
            inlet, taken = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            given, outlet = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            for one in (inlet, taken, given, outlet):
                stack.callback(one.close)
            outlet.settimeout(10)
            taken.setblocking(source == "s")
            memory = os.memfd_create("counts")
            stack.callback(os.close, memory)
            os.ftruncate(memory, mmap.PAGESIZE)
            process = subprocess.Popen(
                [
                    str(compiled.program),
                    f"{source}{taken.fileno()}",
                    f"{sink}{given.fileno()}",
                    str(batch),
                    str(strip),
                    match.hex() or "-",
                    push.hex() or "-",
                    str(memory),
                ],
                pass_fds=(taken.fileno(), given.fileno(), memory),
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            counts = stack.enter_context(mmap.mmap(memory, mmap.PAGESIZE))
            return Run(inlet, outlet, process, counts)

        yield begin


@pytest.mark.parametrize("batch", [1, 8, 256])
def test_a_frame_has_its_front_replaced_and_keeps_the_rest(start, batch: int) -> None:  # type: ignore[no-untyped-def]
    run = start("s", "s", batch, 12, DATA, b"\xaa" * 12)
    sent = [frame(number, size=60 + number) for number in range(9)]
    for one in sent:
        run.inlet.send(one)
    assert run.take(9) == [b"\xaa" * 12 + one[12:] for one in sent]


def test_a_header_is_pushed_in_front_of_what_a_tap_gives(start) -> None:  # type: ignore[no-untyped-def]
    header = bytes(range(100, 122))
    run = start("t", "s", 32, 0, b"", header)
    run.inlet.send(frame(1, head=b"no match is asked for"))
    assert run.take(1) == [header + frame(1, head=b"no match is asked for")]


def test_a_header_is_stripped_on_the_way_to_a_tap(start) -> None:  # type: ignore[no-untyped-def]
    run = start("s", "t", 32, 28, DATA, b"")
    run.inlet.send(frame(7, size=200))
    assert run.take(1) == [frame(7, size=200)[28:]]


def test_what_is_no_data_is_left_alone_and_keeps_nothing_from_going(start, wait_until) -> None:  # type: ignore[no-untyped-def]
    run = start("s", "s", 32, 12, DATA, b"\xbb" * 12)
    run.inlet.send(frame(1, head=ADDRESSES + bytes.fromhex("30300000")))
    run.inlet.send(b"short")
    run.inlet.send(frame(2))
    assert run.take(1) == [b"\xbb" * 12 + frame(2)[12:]]
    # A frame is there before it is counted.
    wait_until(lambda: run.received_and_sent() == (3, 1))


def test_what_the_kernel_refuses_is_counted_and_stops_nothing(start, wait_until) -> None:  # type: ignore[no-untyped-def]
    run = start("s", "s", 32, 12, DATA, b"\xcc" * 12)
    run.outlet.close()
    run.inlet.send(frame(1))
    run.inlet.send(frame(2))
    wait_until(lambda: struct.unpack_from("=6Q", run.counts)[5] == 2)
    assert run.process.poll() is None
    assert run.received_and_sent()[1] == 0


def test_bad_usage_is_refused(compiled: Compiled) -> None:
    for arguments in ([], ["x1", "s1", "1", "0", "-", "-", "1"]):
        done = subprocess.run(
            [str(compiled.program), *arguments], capture_output=True, check=False, timeout=10
        )
        assert done.returncode == 2
        assert done.stderr


def test_its_directory_goes_with_it(compiled: Compiled) -> None:
    with Compiled() as made:
        assert made.program.is_file()
    assert not made.program.parent.exists()


def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floor, "COMPILERS", ("no-such-compiler",))
    with pytest.raises(Lacking, match="no C compiler"):
        Compiled()


def test_a_compiler_that_cannot_is_told_with_its_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setattr(floor, "COMPILERS", ("false",))
    with pytest.raises(Lacking, match="cannot compile"):
        Compiled()
