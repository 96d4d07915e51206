"""Pings between many namespaces at once, from one thread: who asks whom, and what came back.

Must not know what the pairs mean. Requests are spread so that few are under way at a time.
"""

from __future__ import annotations

import os
import selectors
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from types import TracebackType
from typing import Final

from testbed import echo
from testbed.echo import Family
from testbed.netns import run_in

_IN_FLIGHT: Final = 16
"""Fresh requests under way at once: enough to keep nodes busy, too few to flood a queue."""
_FRESH_S: Final = 0.1
"""A request that old makes room for another; its answer still counts until the timeout."""

_PAYLOAD: Final = struct.Struct("!8sI20x")


@dataclass(slots=True, eq=False)
class Tally:
    """What became of the requests of one pair in one family."""

    source: str
    target: str
    family: Family
    address: IPv4Address | IPv6Address
    sent: int = 0
    times_us: list[float] = field(default_factory=list)
    error: str | None = None


class Pinger:
    """Sockets in all namespaces. Close it, or use it in `with`: they keep the namespaces alive."""

    def __init__(self, namespaces: Mapping[str, str], families: Iterable[Family]) -> None:
        """`namespaces` maps what tallies call their source to the names of namespaces.

        :raises FileNotFoundError: a namespace is not there.
        """
        self._nonce = os.urandom(8)
        self._identifier = int.from_bytes(os.urandom(2), "big")
        self._selector = selectors.EpollSelector()
        self._sockets: dict[tuple[str, Family], socket.socket] = {}
        self._requests: list[tuple[Tally, int]] = []
        self._open: set[int] = set()
        try:
            for name, namespace in namespaces.items():
                for family in families:
                    sock = run_in(namespace, partial(echo.open_socket, family))
                    self._sockets[name, family] = sock
                    self._selector.register(sock, selectors.EVENT_READ, family)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the namespaces."""
        self._selector.close()
        for sock in self._sockets.values():
            sock.close()

    def __enter__(self) -> Pinger:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def round(
        self, tallies: Sequence[Tally], *, timeout_s: float, step: Callable[[], None]
    ) -> None:
        """One request of each tally, and its answer if it comes within `timeout_s`.

        `step` is called for every request that was sent.
        """
        waiting = deque(tallies)
        fresh: deque[tuple[int, int]] = deque()  # (number, sent at), oldest first
        unsettled: deque[tuple[int, int]] = deque()
        while waiting or unsettled:
            now = time.monotonic_ns()
            while fresh and (fresh[0][0] not in self._open or now - fresh[0][1] > _FRESH_S * 1e9):
                fresh.popleft()
            while unsettled and (
                unsettled[0][0] not in self._open or now - unsettled[0][1] > timeout_s * 1e9
            ):
                self._open.discard(unsettled.popleft()[0])
            while waiting and sum(number in self._open for number, _ in fresh) < _IN_FLIGHT:
                tally = waiting.popleft()
                number = self._send(tally)
                step()
                if number is not None:
                    sent_ns = self._requests[number][1]
                    fresh.append((number, sent_ns))
                    unsettled.append((number, sent_ns))
            self._receive(self._patience(fresh if waiting else unsettled, waiting, timeout_s))

    def _patience(
        self, queue: deque[tuple[int, int]], waiting: deque[Tally], timeout_s: float
    ) -> float:
        if not queue:
            return 0.0
        limit_s = _FRESH_S if waiting else timeout_s
        return max(0.0, limit_s - (time.monotonic_ns() - queue[0][1]) / 1e9) + 0.001

    def _send(self, tally: Tally) -> int | None:
        number = len(self._requests)
        message = echo.request(
            tally.family, self._identifier, number, _PAYLOAD.pack(self._nonce, number)
        )
        tally.sent += 1
        try:
            self._requests.append((tally, time.monotonic_ns()))
            self._sockets[tally.source, tally.family].sendto(message, (str(tally.address), 0))
        except OSError as error:
            tally.error = error.strerror
            return None
        self._open.add(number)
        return number

    def _receive(self, patience_s: float) -> None:
        for key, _ in self._selector.select(patience_s):
            sock, family = key.fileobj, key.data
            assert isinstance(sock, socket.socket)
            try:
                while True:
                    data = sock.recv(2048)
                    self._reply(family, data, time.monotonic_ns())
            except BlockingIOError:
                continue

    def _reply(self, family: Family, data: bytes, now_ns: int) -> None:
        payload = echo.reply_payload(family, data)
        if payload is None or len(payload) < _PAYLOAD.size:
            return
        nonce, number = _PAYLOAD.unpack_from(payload)
        # A second answer, or one after the timeout, is none.
        if nonce == self._nonce and number in self._open:
            self._open.discard(number)
            tally, sent_ns = self._requests[number]
            tally.times_us.append((now_ns - sent_ns) / 1e3)
