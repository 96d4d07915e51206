"""Lines that are nearly what a launcher hears, and lines that are nothing; for these tests."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any, Final

READY: Final = {
    "event": "ready",
    "engines": {"wire": {"requested": "auto", "used": "mmsg", "why": "fast"}},
}
UPSTREAM: Final = {"event": "upstream", "mac": "02:00:00:00:00:01", "rsu": None, "hops": 1}
EVENTS: Final = (READY, UPSTREAM, {"event": "failed", "error": "why"}, {"event": "stopped"})
REQUESTS: Final = (
    {"cmd": "status"},
    {"cmd": "forget", "names": ["x"]},
    {"cmd": "stop", "names": ["x"], "timeout_s": 0.1},
    {"cmd": "watch", "serial": 0, "timeout_s": 0.1},
    {"cmd": "start", "specs": [{"name": "x", "netns": "x", "config": None}], "restart": False},
)


def value(chance: random.Random, depth: int = 0) -> Any:
    """Anything that JSON has, as Python reads it."""
    number = chance.randrange(10 if depth < 4 else 8)
    match number:
        case 0:
            return None
        case 1:
            return chance.random() < 0.5
        case 2:
            return chance.choice([0, -1, 7, 1 << 70, 10**300, -(1 << 63)])
        case 3:
            return chance.choice([0.5, float("nan"), float("inf"), 1e-300, -1e300])
        case 4 | 5:
            return "".join(chance.choices("a:0\x00\x1b\ud800\u202e\n{}é", k=chance.randrange(20)))
        case 6 | 7:
            return chance.choice(["ready", "wire", "used", "02:00:00:00:00:01", "x" * 5000])
        case 8:
            return [value(chance, depth + 1) for _ in range(chance.randrange(4))]
    return {str(value(chance, 9)): value(chance, depth + 1) for _ in range(chance.randrange(4))}


def line(chance: random.Random, wellformed: Sequence[dict[str, Any]]) -> bytes:
    """One of them with something else in one place, cut, joined, or no JSON at all; one line."""
    message = json.loads(json.dumps(chance.choice(wellformed)))
    match chance.randrange(6):
        case 0:
            message[chance.choice(list(message))] = value(chance)
        case 1:
            message[str(value(chance, 9))] = value(chance)
        case 2:
            for name in list(message):
                if name not in ("event", "cmd"):
                    message[name] = value(chance)
        case 3:
            deep = chance.choice([10, 2000, 30_000])
            return chance.choice([b"[", b'{"event":', b'{"cmd":[']) * deep + b"\n"
        case 4:
            return chance.randbytes(chance.randrange(200)).replace(b"\n", b" ") + b"\n"
    text = json.dumps(message).encode()
    if chance.random() < 0.2:
        text = text[: chance.randrange(len(text) + 1)]
    if chance.random() < 0.1:
        text = chance.choice([b"\xff\xfe", b"\xef\xbb\xbf", b"\0"]) + text
    return text + b"\n"
