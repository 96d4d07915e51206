"""The socket of the launcher: connections, lines, and answers that have to wait.

Must not know nodes. Nothing here ever blocks: a client that dies, stalls or talks nonsense costs
only its own connection. Each has one turn at a time, for one read and one request, so that one that
talks without end keeps nobody else waiting.
"""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from testbed.launch import messages as launch_messages

_LONGEST_LINE: Final = 64 << 20
_READ_BYTES: Final = 1 << 18
_LONGEST_ERROR: Final = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Promise:
    """An answer that is given once `due()` holds, or at `deadline` (time.monotonic())."""

    due: Callable[[], bool]
    answer: Callable[[], dict[str, Any]]
    deadline: float | None = None


Handler = Callable[[dict[str, Any]], "dict[str, Any] | Promise"]
"""Takes a request; what it raises becomes the error that the client gets."""


@dataclass(slots=True, eq=False)
class _Client:
    sock: socket.socket
    received: bytearray = field(default_factory=bytearray)
    searched: int = 0
    unsent: bytearray = field(default_factory=bytearray)
    promise: Promise | None = None

    def has_request(self) -> bool:
        """Whether one is complete, and can be answered: what it was told before is on its way."""
        if self.promise is not None or self.unsent:
            return False
        # Each byte is looked at once, however long the line becomes.
        found = self.received.find(b"\n", self.searched)
        self.searched = len(self.received) if found < 0 else found
        return found >= 0

    def take_request(self) -> bytes:
        """The one that is complete."""
        line = bytes(self.received[: self.searched])
        del self.received[: self.searched + 1]
        self.searched = 0
        return line


class Server:
    """Takes requests of any number of clients, each answered in turn.

    Registers with `selector` callables without arguments, to be called when it says so.
    """

    def __init__(self, selector: selectors.BaseSelector, path: Path, handler: Handler) -> None:
        """Listen at `path`, which only our own user can open."""
        self._selector = selector
        self._handler = handler
        self._clients: set[_Client] = set()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._listener.bind(str(path))
        finally:
            os.umask(before)
        self._listener.listen(16)
        self._listener.setblocking(False)
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def next_deadline(self) -> float | None:
        """When `answer_the_due` has to be called at the latest."""
        if any(client.has_request() for client in self._clients):
            return time.monotonic()
        deadlines = [
            client.promise.deadline
            for client in self._clients
            if client.promise is not None and client.promise.deadline is not None
        ]
        return min(deadlines, default=None)

    def answer_the_due(self) -> None:
        """Take one request of each client, and keep the promises that can be kept now or must."""
        for client in list(self._clients):
            if client.has_request():
                self._take_request(client)
            promise = client.promise
            if promise is None or client not in self._clients:
                continue
            late = promise.deadline is not None and promise.deadline <= time.monotonic()
            if late or promise.due():
                client.promise = None
                self._send(client, promise.answer())

    def answer_all(self) -> None:
        """Keep all promises now, because there will be no later."""
        for client in list(self._clients):
            promise, client.promise = client.promise, None
            if client in self._clients and promise is not None:
                self._send(client, promise.answer())

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return  # gone again, or no descriptor left: the next one will ask again
        sock.setblocking(False)
        client = _Client(sock=sock)
        self._clients.add(client)
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._serve(client))

    def _drop(self, client: _Client) -> None:
        if client in self._clients:
            self._clients.discard(client)
            self._selector.unregister(client.sock)
            client.sock.close()

    def _serve(self, client: _Client) -> None:
        if client not in self._clients:
            return
        try:
            self._flush(client)
            data = client.sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)
            return
        client.received += data
        if not data or len(client.received) > _LONGEST_LINE:
            self._drop(client)

    def _take_request(self, client: _Client) -> None:
        try:
            reply = self._handler(launch_messages.decode(client.take_request()))
        except (KeyError, TypeError, ValueError) as error:
            reply = {"error": f"bad request: {error!r}"[:_LONGEST_ERROR]}
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"[:_LONGEST_ERROR]}
        if isinstance(reply, Promise):
            client.promise = reply
        else:
            self._send(client, reply)

    def _send(self, client: _Client, message: dict[str, Any]) -> None:
        client.unsent += launch_messages.encode(message)
        try:
            self._flush(client)
        except OSError:
            self._drop(client)

    def _flush(self, client: _Client) -> None:
        with suppress(BlockingIOError):
            while client.unsent:
                del client.unsent[: client.sock.send(client.unsent)]
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.unsent else 0)
        if self._selector.get_key(client.sock).events != wanted:
            self._selector.modify(client.sock, wanted, lambda: self._serve(client))
