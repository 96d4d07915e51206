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
from collections.abc import Callable, Mapping
from typing import Any, Final

from agent.errors import ConfigError

MAX_REQUEST_BYTES: Final = 4096
MAX_CLIENTS: Final = 32
_PATH_MAX: Final = 107
"""Longest path of a unix socket (sockaddr_un, unix(7))."""

Answer = Callable[[Mapping[str, Any]], Mapping[str, Any]]


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
        listener.listen(8)
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
    __slots__ = ("inbox", "outbox", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.inbox = bytearray()
        self.outbox = bytearray()


class Control:
    """Serves the clients of one listener. `fileno` becomes readable when `serve` has work."""

    def __init__(self, listener: socket.socket, answer: Answer) -> None:
        self._listener = listener
        self._answer = answer
        self._clients: dict[int, _Client] = {}
        self._epoll = select.epoll()
        self._epoll.register(listener.fileno(), select.EPOLLIN)

    def fileno(self) -> int:
        return self._epoll.fileno()

    def serve(self) -> None:
        """Do what can be done now, without waiting."""
        for fd, mask in self._epoll.poll(0):
            if fd == self._listener.fileno():
                self._accept()
                continue
            client = self._clients.get(fd)
            if client is None:
                continue
            try:
                done = self._read(client) if mask & ~select.EPOLLOUT else False
                self._write(client)
            except OSError:
                done = True
            if done and not client.outbox:
                self._forget(client)

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

    def _read(self, client: _Client) -> bool:
        """Take in what is there and answer whole lines; True when nothing more will come."""
        try:
            data = client.sock.recv(1 << 16)
        except BlockingIOError:
            return False
        client.inbox += data
        while (end := client.inbox.find(b"\n")) >= 0:
            line = bytes(client.inbox[:end])
            del client.inbox[: end + 1]
            client.outbox += json.dumps(self._reply(line)).encode() + b"\n"
        if len(client.inbox) > MAX_REQUEST_BYTES:
            client.inbox.clear()
            client.outbox += b'{"error": "the request is too long"}\n'
            return True
        return not data

    def _reply(self, line: bytes) -> Mapping[str, Any]:
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
        # Nothing more is read from a client that does not take its answers.
        events = select.EPOLLOUT if client.outbox else select.EPOLLIN
        self._epoll.modify(client.sock.fileno(), events)

    def _forget(self, client: _Client) -> None:
        del self._clients[client.sock.fileno()]
        client.sock.close()

    def close(self) -> None:
        """Close listener and clients; the file stays, it belongs to whoever gave the path."""
        for client in self._clients.values():
            client.sock.close()
        self._clients.clear()
        self._epoll.close()
        self._listener.close()
