"""What an agent tells by its pipe is taken for what it is, and never for more."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator

import fuzzing
import pytest

from testbed.launch import events
from testbed.launch.events import EventPipe, Failed, Heard, Ready, Upstream

MAC = "02:00:00:00:00:01"


@pytest.fixture
def pipe() -> Iterator[tuple[EventPipe, int]]:
    """The end that is read, and the descriptor that is written to."""
    read_end, write_end = os.pipe2(os.O_NONBLOCK)
    listening = EventPipe(read_end)
    yield listening, write_end
    listening.close()
    os.close(write_end)


@pytest.mark.parametrize(
    ("message", "event"),
    [
        (fuzzing.READY, Ready(engines=fuzzing.READY["engines"])),  # type: ignore[arg-type]
        ({"event": "ready", "name": "a", "pid": 5}, Ready(engines=None)),
        (
            {"event": "upstream", "mac": MAC, "rsu": MAC, "hops": 2, "more": []},
            Upstream(upstream={"mac": MAC, "rsu": MAC, "hops": 2}),
        ),
        ({"event": "upstream", "mac": None, "rsu": None, "hops": None}, Upstream(upstream=None)),
        ({"event": "failed", "error": "\x1b[2Jno\n\ud800"}, Failed(error="�[2Jno \\ud800")),
        ({"event": "stopped"}, None),
    ],
    ids=str,
)
def test_an_event_is_read(message: dict[str, object], event: events.Event | None) -> None:
    assert events.parse(json.dumps(message).encode()) == event


@pytest.mark.parametrize(
    "line",
    [
        "",
        "nonsense",
        "[]",
        "{}",
        '{"event":5}',
        '{"event":"ready","engines":[1,2]}',
        '{"event":"ready","engines":{"wire":"mmsg"}}',
        '{"event":"ready","engines":{"wire":{"used":["mmsg"]}}}',
        '{"event":"ready","engines":{"wire":{"used":"' + "x" * 5000 + '"}}}',
        '{"event":"upstream","mac":{}}',
        '{"event":"upstream","mac":"somebody"}',
        f'{{"event":"upstream","mac":"{MAC}","rsu":7}}',
        f'{{"event":"upstream","mac":"{MAC}","hops":true}}',
        f'{{"event":"upstream","mac":"{MAC}","hops":1e999}}',
        f'{{"event":"upstream","mac":"{MAC}","hops":' + "9" * 5000 + "}",
        '{"event":"failed","error":null}',
        "[" * 60_000,
        '{"event":' * 6000,
    ],
    ids=lambda line: line[:40],
)
def test_what_has_another_form_is_no_event(line: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        events.parse(line.encode())


def test_no_bytes_do_anything_else(seed: int) -> None:
    chance = random.Random(seed)
    seen = set()
    for _ in range(20_000):
        line = fuzzing.line(chance, fuzzing.EVENTS)
        try:
            event = events.parse(line)
        except ValueError:
            seen.add("none")
            continue
        seen.add(type(event).__name__)
        # It can be told on, and shown.
        match event:
            case Ready(engines=engines):
                used = [one.get("used") or "–" for one in (engines or {}).values()]
                shown = " / ".join(used) + json.dumps(engines)
            case Upstream(upstream=upstream):
                shown = json.dumps(upstream)
            case Failed(error=error):
                shown = error
            case None:
                shown = ""
        shown.encode()
    assert seen == {"none", "Ready", "Upstream", "Failed", "NoneType"}, seed


def test_who_tells_what_cannot_be_read_is_refused(pipe: tuple[EventPipe, int]) -> None:
    listening, write_end = pipe
    os.write(write_end, b"nonsense\n" * (events.UNREADABLE - 1) + b'{"event":"ready"}\n')
    heard = listening.read()
    assert (heard.over, len(heard.notes), len(heard.events)) == (False, events.UNREADABLE - 1, 1)
    os.write(write_end, b"more\n" * 100)
    heard = listening.read()
    assert (heard.over, heard.refused) == (True, "it tells what cannot be read")
    assert len(heard.notes) == 1


def test_a_line_without_end_is_no_event(pipe: tuple[EventPipe, int]) -> None:
    listening, write_end = pipe
    looks = 0
    while not (heard := listening.read()).over:
        os.write(write_end, b"x" * 65_536)
        looks += 1
    assert heard.refused == "it tells what cannot be read"
    assert looks <= 2 * events.UNREADABLE + 1


def test_who_tells_far_too_much_is_refused(pipe: tuple[EventPipe, int]) -> None:
    listening, write_end = pipe
    heard = Heard()
    told = 0
    while not heard.over:
        told += os.write(write_end, b'{"event":"x"}\n' * 1000) // 14
        heard = listening.read()
    assert heard.refused == "it tells far too much"
    # A second of an upstream that changes all the time is not yet too much.
    assert events.AT_ONCE < told < 2 * events.AT_ONCE


def test_no_more_is_read_at_once_than_one_read_gives(pipe: tuple[EventPipe, int]) -> None:
    listening, write_end = pipe
    assert listening.read() == Heard()
    for _ in range(2):
        os.write(write_end, b'{"event":"ready"}\n' * 3)
    assert len(listening.read().events) == 6
    assert listening.read() == Heard()
