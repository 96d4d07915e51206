"""The control socket: one JSON line in, one JSON line out, never waiting for a client.

Must not know what the commands do: it hands each request to a function and sends back its answer.
"""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import stat
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.errors import ConfigError

MAX_REQUEST_BYTES: Final = 4096
MAX_CLIENTS: Final = 32
MAX_UNSENT_BYTES: Final = 1 << 16
"""So much may wait for a client to take it; more of its requests are answered once it has."""
_GONE: Final = select.EPOLLHUP | select.EPOLLERR
_PATH_MAX: Final = 107
"""Longest path of a unix socket (sockaddr_un, unix(7))."""


@dataclass(frozen=True, slots=True)
class Later:
    """An answer that takes a while: `work` finds it, in a thread of its own, and does not raise."""

    work: Callable[[], Mapping[str, Any]]


Answer = Callable[[Mapping[str, Any]], Mapping[str, Any] | Later]


def open_listener(path: str) -> socket.socket:
    """A listening unix socket at `path`, for the owner alone (0600).

    A socket that nobody listens on any more is replaced.

    :raises ConfigError: the path is too long, taken, or cannot be made.
    """
    if len(os.fsencode(path)) > _PATH_MAX:
        raise ConfigError(f"control socket: {path!r} is too long (expected at most {_PATH_MAX})")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    before = os.umask(0o177)
    try:
        try:
            listener.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            _remove_stale(path)
            listener.bind(path)
        listener.listen(MAX_CLIENTS)
    except OSError as error:
        listener.close()
        raise ConfigError(f"control socket {path}: {error.strerror}") from error
    finally:
        os.umask(before)
    return listener


def _remove_stale(path: str) -> None:
    """Unlink a socket without a listener; OSError EADDRINUSE if it is anything else."""
    if stat.S_ISSOCK(os.lstat(path).st_mode):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
                return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


class _Client:
    __slots__ = ("ended", "inbox", "outbox", "sock", "waits")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.inbox = bytearray()
        self.outbox = bytearray()
        self.waits = False
        """For an answer that comes later; nothing more is read from it until then."""
        self.ended = False
        """Nothing more will come from it."""

    def answerable(self) -> bool:
        """Whether a whole request is here that can be answered now."""
        return not self.waits and len(self.outbox) < MAX_UNSENT_BYTES and b"\n" in self.inbox


class Control:
    """Serves the clients of one listener. `fileno` becomes readable when `serve` has work."""

    def __init__(self, listener: socket.socket, answer: Answer) -> None:
        self._listener = listener
        self._answer = answer
        self._clients: dict[int, _Client] = {}
        self._epoll = select.epoll()
        self._epoll.register(listener.fileno(), select.EPOLLIN)
        self._late_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._late_fd, select.EPOLLIN)
        self._late: deque[tuple[_Client, Mapping[str, Any]]] = deque()
        self._lock = threading.Lock()
        self._closed = False

    def fileno(self) -> int:
        return self._epoll.fileno()

    def serve(self) -> None:
        """Do what can be done now, without waiting."""
        for fd, mask in self._epoll.poll(0):
            if fd == self._listener.fileno():
                self._accept()
                continue
            if fd == self._late_fd:
                self._take_late()
                continue
            client = self._clients.get(fd)
            if client is not None:
                self._attend(client, mask)

    def _attend(self, client: _Client, mask: int) -> None:
        try:
            if mask & ~select.EPOLLOUT:
                self._read(client)
            self._answer_next(client)
            self._write(client)
        except OSError:
            self._forget(client)
            return
        if client.waits:
            if mask & _GONE:
                # It goes on counting as a client, so that answers for nobody cannot pile up.
                self._epoll.unregister(client.sock.fileno())
        elif client.ended and not client.outbox and not client.answerable():
            self._forget(client)

    def _take_late(self) -> None:
        os.eventfd_read(self._late_fd)
        while self._late:
            client, answer = self._late.popleft()
            client.waits = False
            client.outbox += _line(answer)
            self._attend(client, 0)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        if len(self._clients) >= MAX_CLIENTS:
            sock.close()
            return
        sock.setblocking(False)
        self._clients[sock.fileno()] = _Client(sock)
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _read(self, client: _Client) -> None:
        """Take in what is there."""
        try:
            data = client.sock.recv(1 << 16)
        except BlockingIOError:
            return
        client.inbox += data
        client.ended = client.ended or not data

    def _answer_next(self, client: _Client) -> None:
        """Answer one whole line: frames wait meanwhile. The next has its turn by `_write`."""
        if client.answerable():
            end = client.inbox.index(b"\n")
            line = bytes(client.inbox[:end])
            del client.inbox[: end + 1]
            reply = self._reply(line)
            if isinstance(reply, Later):
                self._begin(client, reply)
            else:
                client.outbox += _line(reply)
        elif len(client.inbox) > MAX_REQUEST_BYTES and b"\n" not in client.inbox:
            client.inbox.clear()
            client.outbox += b'{"error": "the request is too long"}\n'
            client.ended = True

    def _begin(self, client: _Client, later: Later) -> None:
        client.waits = True
        thread = threading.Thread(target=self._find, args=(client, later.work), daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no further thread is allowed to this process
            client.waits = False
            client.outbox += b'{"error": "there is no room to find that out"}\n'

    def _find(self, client: _Client, work: Callable[[], Mapping[str, Any]]) -> None:
        """In a thread: find the answer, and hand it to the loop."""
        answer = work()
        with self._lock:
            if not self._closed:
                self._late.append((client, answer))
                os.eventfd_write(self._late_fd, 1)

    def _reply(self, line: bytes) -> Mapping[str, Any] | Later:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return {"error": "the request is not JSON"}
        if not isinstance(request, dict):
            return {"error": 'the request is no object such as {"cmd": "stats"}'}
        return self._answer(request)

    def _write(self, client: _Client) -> None:
        if client.outbox:
            try:
                del client.outbox[: client.sock.send(client.outbox)]
            except BlockingIOError:
                pass
        # Nothing more is read from a client that does not take its answers, or waits for one. One
        # that can be written to comes again at once, and so do the requests it has still here.
        if client.outbox or client.answerable():
            events = select.EPOLLOUT
        else:
            events = 0 if client.waits else select.EPOLLIN
        self._epoll.modify(client.sock.fileno(), events)

    def _forget(self, client: _Client) -> None:
        del self._clients[client.sock.fileno()]
        client.sock.close()

    def close(self) -> None:
        """Close listener and clients; the file stays, it belongs to whoever gave the path."""
        for client in self._clients.values():
            client.sock.close()
        self._clients.clear()
        with self._lock:
            self._closed = True
            os.close(self._late_fd)
        self._epoll.close()
        self._listener.close()


def _line(answer: Mapping[str, Any]) -> bytes:
    return json.dumps(answer).encode() + b"\n"
