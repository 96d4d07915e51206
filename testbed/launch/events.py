"""What an agent tells its launcher by a pipe: read little by little, and taken for what it is.

Whoever has taken an agent over can write there what it likes: nothing that comes is believed to
have a form, and who says what cannot be read, or far too much, is not listened to any more. Must
not know nodes. Imported by the launcher, whose every import each node carries in memory.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from testbed.launch import messages as launch_messages
from testbed.printable import printable

READ_BYTES: Final = 1 << 16
"""So much at a time, and then it is another's turn; also the longest line."""
UNREADABLE: Final = 8
"""So many lines that are no event are noted; then the pipe is closed."""
AT_ONCE: Final = 4096
EACH_S: Final = 200.0
"""An agent tells when its upstream changes. A hostile radio can make that happen often, but each
event costs the launcher time: so many at once, and so many each second, are borne."""

_LONGEST_TEXT: Final = 4096
_MOST_SIDES: Final = 8
_MOST_HOPS: Final = 1 << 16
_MAC: Final = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """The agent works, with these engines: `requested`, `used` and `why` by side."""

    engines: Mapping[str, Mapping[str, str | None]] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Upstream:
    """What it sends through now: `mac`, `rsu` and `hops`; None if through nothing."""

    upstream: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """Why it ends."""

    error: str


Event: TypeAlias = Ready | Upstream | Failed


@dataclass(slots=True)
class Heard:
    """What one look at the pipe gave: `events`, and `notes` about what was none.

    `over` tells that nothing more will come; `refused`, in words, that this is because it is not
    listened to any more.
    """

    events: list[Event] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    over: bool = False
    refused: str | None = None


class EventPipe:
    """The end of a pipe from which events are read; a descriptor that is ours to close."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = b""
        self._unreadable = 0
        self._left = float(AT_ONCE)
        self._looked_at = time.monotonic()

    def fileno(self) -> int:
        """For a selector."""
        return self._descriptor

    def close(self) -> None:
        """Listen no longer; twice is fine."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def read(self) -> Heard:
        """What is new, of what one read gives."""
        heard = Heard()
        try:
            data = os.read(self._descriptor, READ_BYTES)
        except BlockingIOError:
            return heard
        if not data:
            heard.over = True
            return heard
        self._earn()
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if len(self._buffer) > READ_BYTES:  # no event is so long
            lines.append(self._buffer)
            self._buffer = b""
        for line in lines:
            self._left -= 1
            if self._left < 0:
                return self._refuse(heard, "it tells far too much")
            try:
                event = parse(line)
            except ValueError as error:
                self._unreadable += 1
                heard.notes.append(f"no event ({error}): {line[:100]!r}")
                if self._unreadable == UNREADABLE:
                    return self._refuse(heard, "it tells what cannot be read")
            else:
                if event is not None:
                    heard.events.append(event)
        return heard

    def _earn(self) -> None:
        now = time.monotonic()
        self._left = min(AT_ONCE, self._left + EACH_S * (now - self._looked_at))
        self._looked_at = now

    def _refuse(self, heard: Heard, why: str) -> Heard:
        heard.over, heard.refused = True, why
        return heard


def parse(line: bytes) -> Event | None:
    """The event in a line; None for one that nobody needs.

    :raises ValueError: it is none.
    """
    values = launch_messages.decode(line)
    match values.get("event"):
        case "ready":
            return Ready(engines=_engines(values.get("engines")))
        case "upstream":
            return Upstream(upstream=_upstream(values))
        case "failed":
            return Failed(error=_text(values.get("error")))
        case str():
            return None
    raise ValueError("it has no name")


def _engines(value: object) -> Mapping[str, Mapping[str, str | None]] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or len(value) > _MOST_SIDES:
        raise ValueError("engines are a few by side")
    engines = {}
    for side, one in value.items():
        if not isinstance(one, dict) or len(one) > _MOST_SIDES:
            raise ValueError("an engine has a few names")
        engines[_text(side)] = {
            _text(name): None if said is None else _text(said) for name, said in one.items()
        }
    return engines


def _upstream(values: Mapping[str, Any]) -> Mapping[str, Any] | None:
    mac, rsu, hops = (values.get(name) for name in ("mac", "rsu", "hops"))
    if mac is None:
        return None
    if rsu is not None:
        rsu = _mac(rsu)
    # A truth value is a number to Python.
    if hops is not None and not (type(hops) is int and 0 <= hops <= _MOST_HOPS):
        raise ValueError("hops are a small number")
    return {"mac": _mac(mac), "rsu": rsu, "hops": hops}


def _mac(value: object) -> str:
    if not isinstance(value, str) or _MAC.fullmatch(value) is None:
        raise ValueError("a neighbour is a MAC address")
    return value


def _text(value: object) -> str:
    """Text that can be shown: without what a terminal obeys, or cannot show."""
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise ValueError("not a text")
    shown = printable(value.replace("\n", " "))
    return shown.encode(errors="backslashreplace").decode()
