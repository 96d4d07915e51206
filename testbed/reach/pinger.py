"""Pings between many namespaces at once, from one thread: who asks whom, and what came back.

Must not know what the pairs mean. Requests are spread so that few are under way at a time.
"""

from __future__ import annotations

import os
import selectors
import socket
import struct
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from types import TracebackType
from typing import Final

from testbed.kernel.netns import run_in
from testbed.reach import echo
from testbed.reach.echo import Family

IN_FLIGHT: Final = 16
"""Fresh requests under way at once: enough to keep nodes busy, too few to flood a queue."""
_FRESH_NS: Final = (5_000_000, 200_000_000)
"""A request that old makes room for another, though its answer still counts until the timeout: the
usual time of an answer, within these bounds, so that busy nodes are asked more slowly."""

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

    def __init__(
        self,
        namespaces: Mapping[str, str],
        families: Iterable[Family],
        *,
        timeout_s: float,
        in_flight: int = IN_FLIGHT,
    ) -> None:
        """`namespaces` maps what tallies call their source to the names of namespaces.

        An answer counts if it comes within `timeout_s`. With one request `in_flight` each waits
        for the one before it, and for nothing else.

        :raises FileNotFoundError: a namespace is not there.
        """
        self._nonce = os.urandom(8)
        self._identifier = int.from_bytes(os.urandom(2), "big")
        self._selector = selectors.EpollSelector()
        self._sockets: dict[tuple[str, Family], socket.socket] = {}
        self._in_flight = in_flight
        self._timeout_ns = int(timeout_s * 1e9)
        self._usual_ns = float(_FRESH_NS[0])
        self._sent = 0
        # Both in the order of sending, with the time of it.
        self._open: dict[int, tuple[Tally, int]] = {}
        self._fresh: dict[int, int] = {}
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

    def ask(self, tally: Tally) -> int:
        """Send a request as soon as there is room for it; its number, one more than the last."""
        while len(self._fresh) >= self._in_flight:
            self._pump(self._fresh_ns())
        number = self._sent
        self._sent += 1
        message = echo.request(
            tally.family, self._identifier, number, _PAYLOAD.pack(self._nonce, number)
        )
        tally.sent += 1
        sent_ns = time.monotonic_ns()
        try:
            self._sockets[tally.source, tally.family].sendto(message, (str(tally.address), 0))
        except OSError as error:
            tally.error = error.strerror
        else:
            self._open[number] = (tally, sent_ns)
            self._fresh[number] = sent_ns
        return number

    def settled(self, number: int) -> bool:
        """Whether this request and all before it were answered or are given up."""
        return not self._open or next(iter(self._open)) > number

    def settle(self, number: int) -> None:
        """Wait until that holds."""
        while not self.settled(number):
            self._pump(self._timeout_ns)

    def _fresh_ns(self) -> int:
        low, high = _FRESH_NS
        return int(min(max(self._usual_ns, low), high))

    def _pump(self, patience_ns: int) -> None:
        """Take in answers; wait for the first at most until the oldest request is too old."""
        now = time.monotonic_ns()
        oldest = next(iter(self._fresh.values()), None)
        if oldest is None:
            oldest = next((sent_ns for _, sent_ns in self._open.values()), now)
        wait_ns = max(0, min(patience_ns, oldest + patience_ns - now))
        for key, _ in self._selector.select(wait_ns / 1e9 + 0.001):
            sock, family = key.fileobj, key.data
            assert isinstance(sock, socket.socket)
            try:
                while True:
                    self._answer(family, sock.recv(2048), time.monotonic_ns())
            except BlockingIOError:
                continue
        self._age(time.monotonic_ns())

    def _age(self, now: int) -> None:
        fresh_ns = self._fresh_ns()
        while self._fresh and now - next(iter(self._fresh.values())) > fresh_ns:
            del self._fresh[next(iter(self._fresh))]
        while self._open:
            number, (_, sent_ns) = next(iter(self._open.items()))
            if now - sent_ns <= self._timeout_ns:
                break
            del self._open[number]

    def _answer(self, family: Family, data: bytes, now: int) -> None:
        payload = echo.reply_payload(family, data)
        if payload is None or len(payload) < _PAYLOAD.size:
            return
        nonce, number = _PAYLOAD.unpack_from(payload)
        # A second answer, or one after the timeout, is none.
        if nonce != self._nonce or number not in self._open:
            return
        tally, sent_ns = self._open.pop(number)
        self._fresh.pop(number, None)
        tally.times_us.append((now - sent_ns) / 1e3)
        self._usual_ns += (now - sent_ns - self._usual_ns) / 8
