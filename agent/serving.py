"""HTTP for whoever wants to know what an agent counts, from a thread beside the loop.

The loop only puts the document together, when the thread asks for it; waiting for clients, turning
the document into text and sending it happen in the thread. Must not know what the document holds,
nor how it is turned into text.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from agent.errors import AgentError, ConfigError

log = logging.getLogger("agent")

Document = Mapping[str, Any]
Render = Callable[[Document], tuple[str, bytes]]
"""(content type, content) of a document."""

PATIENCE_S: Final = 2.0
"""Time that a client has for its request and for taking the answer, one client at a time."""
_ANSWER_S: Final = 5.0
_LONGEST_REQUEST: Final = 8192
_PLAIN: Final = "text/plain; charset=utf-8"


class Desk:
    """Questions from other threads, answered by the loop. `fileno` is readable when there are."""

    def __init__(self, answer: Callable[[], Document]) -> None:
        self._answer = answer
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._waiting: deque[_Question] = deque()
        self._lock = threading.Lock()
        self._closed = False

    def fileno(self) -> int:
        return self._fd

    def ask(self) -> Document:
        """The answer, from another thread. TimeoutError if the loop has none to give any more."""
        question = _Question()
        with self._lock:
            if self._closed:
                raise TimeoutError("the agent is ending")
            self._waiting.append(question)
            os.eventfd_write(self._fd, 1)
        if not question.done.wait(_ANSWER_S) or question.answer is None:
            raise TimeoutError("the agent does not answer")
        return question.answer

    def serve(self) -> None:
        """Answer what was asked; in the loop."""
        os.eventfd_read(self._fd)
        if not self._waiting:
            return
        answer = self._answer()
        while self._waiting:
            question = self._waiting.popleft()
            question.answer = answer
            question.done.set()

    def close(self) -> None:
        """Let whoever waits go."""
        with self._lock:
            self._closed = True
            os.close(self._fd)
        for question in self._waiting:
            question.done.set()


class _Question:
    __slots__ = ("answer", "done")

    def __init__(self) -> None:
        self.answer: Document | None = None
        self.done = threading.Event()


def open_listener(host: str, port: int) -> socket.socket:
    """A socket that listens there; on every address if `host` is empty.

    :raises ConfigError: nobody has that address, or the port is taken.
    :raises AgentError: the kernel refused otherwise.
    """
    family = socket.AF_INET6 if ":" in host or not host else socket.AF_INET
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        if host:
            raise
        family, host = socket.AF_INET, "0.0.0.0"
        listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and not host:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host or "::", port))
        listener.listen(8)
    except OSError as error:
        listener.close()
        raise ConfigError(f"metrics: cannot listen on {host}:{port}: {error.strerror}") from error
    return listener


class MetricsServer:
    """Serves /metrics (`render`) and /stats (JSON) until `close`.

    Start it when the process has given up its rights: a thread takes over those of its maker.
    """

    def __init__(self, listener: socket.socket, desk: Desk, render: Render) -> None:
        self._listener = listener
        self._desk = desk
        self._render = render
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def close(self) -> None:
        """Stop; a client that is being served is not waited for longer than it has time."""
        try:
            # Wakes the thread from accept.
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            log.debug("metrics: %s", error)
        self._listener.close()
        if self._thread.is_alive():
            self._thread.join(PATIENCE_S)

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                try:
                    self._serve(client)
                except OSError as error:
                    log.debug("metrics: client: %s", error)

    def _serve(self, client: socket.socket) -> None:
        deadline = time.monotonic() + PATIENCE_S
        request = b""
        while b"\r\n\r\n" not in request and b"\n\n" not in request:
            client.settimeout(max(deadline - time.monotonic(), 0.001))
            part = client.recv(4096)
            request += part
            if not part or len(request) > _LONGEST_REQUEST:
                return
        status, kind, content = self._answer(request.split(b"\n", 1)[0])
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n"
        head += "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
        only_head = request.startswith(b"HEAD ")
        client.settimeout(max(deadline - time.monotonic(), 0.001))
        client.sendall(head.encode() + (b"" if only_head else content))

    def _answer(self, line: bytes) -> tuple[str, str, bytes]:
        """Status, content type and content for a request line."""
        words = line.decode("latin-1").split()
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return "400 Bad Request", _PLAIN, b"this is HTTP\n"
        method, target, _ = words
        if method not in ("GET", "HEAD"):
            return "405 Method Not Allowed", _PLAIN, b"only GET and HEAD\n"
        path = target.partition("?")[0]
        if path not in ("/metrics", "/stats"):
            return "404 Not Found", _PLAIN, b"/metrics for Prometheus, /stats as JSON\n"
        try:
            document = self._desk.ask()
            if path == "/stats":
                return "200 OK", "application/json", json.dumps(document).encode() + b"\n"
            return "200 OK", *self._render(document)
        except (TimeoutError, AgentError) as error:
            return "503 Service Unavailable", _PLAIN, f"{error}\n".encode()
