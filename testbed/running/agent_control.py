"""Asks running agents over their control sockets, all at once.

An agent may have been taken over: it gets a bounded time for its whole answer, a bounded length,
and what it says is used only if it has the shape that it should have. Must not know what the
answers mean. A request is one JSON line, its answer one JSON line.
"""

from __future__ import annotations

import os
import selectors
import socket
import stat
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from testbed.rundir import RunDir

MAX_ANSWER_BYTES: Final = 1 << 20
"""Some ten thousand routes; what an agent counts without them is a few thousand bytes."""
_AT_ONCE_BYTES: Final = 1 << 18


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What an agent counts, or why that is not known: both None if nothing came in time.

    `stats` has all that `agent_answers.Stats` has, as JSON has it.
    `nonsense` goes on after the agent's name: "does not answer sensibly: …".
    """

    stats: Mapping[str, Any] | None = None
    nonsense: str | None = None


def ask_stats(run: RunDir, names: Collection[str], *, timeout_s: float = 1.0) -> dict[str, Told]:
    """What every node in `names` counts."""
    lines = _ask(run, names, "stats", timeout_s)
    return {name: _told(lines.get(name)) for name in names}


def ask_for_heartbeats(run: RunDir, names: Collection[str], *, timeout_s: float = 1.0) -> None:
    """Let these RSUs send one; returns when all have answered, whatever they say, or time is up."""
    _ask(run, names, "hello", timeout_s)


def _told(answer: _Answer | None) -> Told:
    if answer is None or not (answer.complete or answer.too_long or answer.ended):
        return Told()
    # Here, so that bringing up a testbed, which only asks for heartbeats, does without.
    from testbed.running import agent_answers

    try:
        if answer.too_long:
            raise ValueError(f"more than {MAX_ANSWER_BYTES} bytes")
        if not answer.complete:
            raise ValueError("its answer ends in the middle")
        return Told(stats=agent_answers.stats(answer.line))
    except ValueError as error:
        return Told(nonsense=f"does not answer sensibly: {error}")


@dataclass(slots=True)
class _Answer:
    """What of one came so far; `ended` if there will be no more, though something had come."""

    received: bytearray = field(default_factory=bytearray)
    complete: bool = False
    too_long: bool = False
    ended: bool = False

    @property
    def line(self) -> bytes:
        """The whole line, once it is `complete`."""
        return bytes(self.received[: self.received.index(b"\n")])

    def take(self, sock: socket.socket) -> bool:
        """Take what is there; whether nothing more is waited for."""
        try:
            data = sock.recv(_AT_ONCE_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.ended = bool(self.received)
            return True
        self.received += data
        self.complete = b"\n" in data and self.received.index(b"\n") < MAX_ANSWER_BYTES
        self.too_long = not self.complete and len(self.received) > MAX_ANSWER_BYTES
        return self.complete or self.too_long


def _ask(
    run: RunDir, names: Collection[str], command: Literal["stats", "hello"], timeout_s: float
) -> dict[str, _Answer]:
    """What came in time from those that can be reached."""
    answers: dict[str, _Answer] = {}
    request = b'{"cmd": "%s"}\n' % command.encode()
    deadline = time.monotonic() + timeout_s
    with selectors.DefaultSelector() as selector:
        try:
            for name in names:
                sock = _connect(run, name)
                if sock is None:
                    continue
                answers[name] = _Answer()
                selector.register(sock, selectors.EVENT_READ, answers[name])
                with suppress(OSError):  # one that is gone: what is read next ends at once
                    sock.sendall(request)
            while selector.get_map() and (left_s := deadline - time.monotonic()) > 0:
                for key, _ in selector.select(left_s):
                    answering = key.fileobj
                    assert isinstance(answering, socket.socket)
                    if key.data.take(answering):
                        selector.unregister(answering)
                        answering.close()
        finally:
            for key in list(selector.get_map().values()):
                if isinstance(key.fileobj, socket.socket):
                    key.fileobj.close()
    return answers


def _connect(run: RunDir, name: str) -> socket.socket | None:
    try:
        # The directory is the agent's: what lies there may be a link to somebody else's socket.
        place = os.open(run.control_socket(name), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISSOCK(os.fstat(place).st_mode):
            return None
        sock = socket.socket(
            socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        try:
            # By its descriptor: the path itself may be longer than an address can hold.
            sock.connect(f"/proc/self/fd/{place}")
        except OSError:
            sock.close()
            return None
    finally:
        os.close(place)
    return sock
