"""A child process that makes exactly as many calls as it is told, when it is told.

Run as a program: reads commands from stdin, one a line, and answers ``done`` to each.
"""

from __future__ import annotations

import mmap
import os
import queue
import select
import socket
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import Self

OUT, IN = 60, 61
"""Descriptors on which the child writes and reads, so that their numbers are known."""


def calls(count: int) -> None:
    """`count` times each: write, read, send, receive, poll without waiting."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    watched = select.poll()
    watched.register(IN, select.POLLIN)
    for _ in range(count):
        os.write(OUT, b"x")
        os.read(IN, 1)
        here.send(b"x")
        there.recv(1)
        watched.poll(0)
    here.close()
    there.close()


def work(command: str) -> None:
    name, _, argument = command.partition(" ")
    number = int(argument or 0)
    if name == "calls":
        calls(number)
    elif name == "thread":
        thread = threading.Thread(target=calls, args=(number,))
        thread.start()
        thread.join()
    elif name == "fork":
        child = os.fork()
        if child == 0:
            calls(number)
            os._exit(0)
        os.waitpid(child, 0)
    elif name == "keep":
        keep()
    elif name == "reap":
        os.wait()
    elif name == "in-thread":
        kept_thread.put(number)
        kept_thread.join()
    elif name == "in-child":
        here, there = kept_child[0]
        os.write(there, f"{number}\n".encode())
        os.read(here, 1)
    elif name == "burn":
        until = time.thread_time_ns() + number * 1_000_000
        while time.thread_time_ns() < until:
            pass
    elif name == "sleep":
        for _ in range(number):
            time.sleep(0.0005)
    elif name == "touch":
        memory = mmap.mmap(-1, number * mmap.PAGESIZE)
        for page in range(number):
            memory[page * mmap.PAGESIZE] = 1
        kept.append(memory)
    else:
        raise ValueError(command)


kept: list[mmap.mmap] = []
kept_thread: queue.Queue[int] = queue.Queue()
kept_child: list[tuple[int, int]] = []


def keep() -> None:
    """Start a thread and a process that stay, and do calls when they are told to."""

    def thread() -> None:
        while True:
            calls(kept_thread.get())
            kept_thread.task_done()

    threading.Thread(target=thread, daemon=True).start()
    orders, told = os.pipe()
    done, tell = os.pipe()
    if os.fork() == 0:
        os.close(told)
        with os.fdopen(orders) as lines:
            for line in lines:
                calls(int(line))
                os.write(tell, b"x")
        os._exit(0)
    os.close(orders)
    kept_child.append((done, told))


class Child:
    """The parent's end of such a child. Context manager."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.tell("calls 0")

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, command: str) -> None:
        """Have it do one thing and wait until it has."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"

    def end(self) -> None:
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()


if __name__ == "__main__":
    reader, writer = os.pipe()
    os.dup2(writer, OUT)
    os.dup2(reader, IN)
    for line in sys.stdin:
        work(line.strip())
        os.write(1, b"done\n")
