"""Agents that have been taken over say what they like; whoever asks them holds out, and says so."""

from __future__ import annotations

import copy
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from running_helpers import make_topology

from testbed.cli import nodeview
from testbed.experiment.nodewatch import NodeWatch
from testbed.rundir import RunDir
from testbed.running import agent_answers, agent_control, joining, lifecycle
from testbed.running.agent_control import MAX_ANSWER_BYTES, Told, ask_stats
from testbed.running.inspect import NodeView
from testbed.running.lifecycle import Running

Lie = Callable[[socket.socket], None]

MAC = "02:00:00:00:00:01"
SIDE = dict.fromkeys(("rx_frames", "rx_bytes", "tx_frames", "tx_bytes", "kernel_drops"), 5)
ENGINE = {"requested": "auto", "used": "mmsg", "why": None}
CANDIDATE = {"mac": MAC, "rsu": MAC, "hops": 1, "score_us": 12.5}
HONEST: dict[str, Any] = {
    "schema": 1,
    "name": "a",
    "kind": "obu",
    "pid": 7,
    "mac": MAC,
    "uptime_ns": 10**9,
    "landlock": 7,
    "user_namespaces": "refused",
    "handler": "batched",
    "batch": 32,
    "adaptive_batch": {"wire": {"size": 8, "fill": 0.5}},
    "engines": {"wire": ENGINE, "tap": ENGINE},
    "wire": SIDE,
    "tap": SIDE,
    "syscalls": {"epoll_wait": 3},
    "saved_syscalls": {"wire": -2, "tap": 3},
    "wakeups": 3,
    "fill": {"wire": {"1": 5}, "tap": {}},
    "carried": {"wire": {}, "tap": {"2": 1}},
    "queues": {"wire": {"receive": {"bytes": 1, "limit_bytes": 9}}, "tap": None},
    "messages": {"heartbeat": 3},
    "drops": {"overheard": 1},
    "waited_ns": 4,
    "coalescing": {
        "mode": "adaptive",
        "max_wait_us": 1000,
        "waits": 1,
        "decisions": {"waited": 1},
        "late_us": None,
    },
    "upstream": CANDIDATE,
    "candidates": [CANDIDATE],
    "routes": [{"node": MAC, "next_hop": MAC, "hops": 1, "score_us": None}],
    "clients": 0,
}
NODE = NodeView(
    name="a",
    kind="obu",
    state="ready",
    why=None,
    pid=7,
    exit_status=None,
    uptime_s=1.0,
    netns="tb.x.a",
    mac=MAC,
    ipv4="10.77.0.3/16",
    ipv6="fd77::3/64",
    medium=None,
    hears=(),
    upstream=None,
    engines=None,
    stats=None,
)


def line(document: object) -> bytes:
    return json.dumps(document).encode() + b"\n"


def changed(**parts: object) -> bytes:
    return line({**HONEST, **parts})


@contextmanager
def lying(path: Path, lie: Lie) -> Iterator[None]:
    """Answer as it pleases on the socket at `path`."""
    stopped = threading.Event()
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        directory = os.open(path.parent, os.O_PATH)
        listener.bind(f"/proc/self/fd/{directory}/{path.name}")
        os.close(directory)
        listener.listen(8)
        listener.settimeout(0.02)

        def serve() -> None:
            while not stopped.is_set():
                with suppress(OSError):
                    client, _ = listener.accept()
                    with client:
                        client.settimeout(5)
                        client.recv(4096)
                        lie(client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()


def saying(what: bytes) -> Lie:
    return lambda client: client.sendall(what)


def endless(client: socket.socket) -> None:
    while True:
        client.sendall(b"[" * (1 << 16))


def dripping(client: socket.socket) -> None:
    for _ in range(100):
        client.sendall(b" ")
        time.sleep(0.03)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made = RunDir(tmp_path / "x")
    made.control_socket("a").parent.mkdir(parents=True)
    return made


def told(run: RunDir, lie: Lie, **more: float) -> Told:
    with lying(run.control_socket("a"), lie):
        return ask_stats(run, ["a"], **more)["a"]


def test_what_an_honest_one_counts_comes_as_it_is(run: RunDir) -> None:
    assert told(run, saying(line(HONEST))) == Told(stats=HONEST)
    assert told(run, saying(line(HONEST) + b"and more")) == Told(stats=HONEST)


NONSENSE = {
    "nested": b"[" * 100_000 + b"\n",
    "nested objects": b'{"drops":' * 100_000 + b"\n",
    "nested in its place": changed(drops=json.loads("[" * 200 + "]" * 200)),
    "nothing there": b"{}\n",
    "a part missing": line({k: v for k, v in HONEST.items() if k != "candidates"}),
    "a part too many": changed(surprise=1),
    "a name that no terminal should see": changed(**{"\x1b[2J" * 1000: 1}),
    "no JSON": b"hello\n",
    "no text": bytes(range(128, 256)) + b"\n",
    "no object": b"17\n",
    "nothing at all": b"\n",
    "NaN": changed(waited_ns=float("nan")),
    "infinite": changed(candidates=[{**CANDIDATE, "score_us": float("inf")}]),
    "a number of 4000 digits": changed(wakeups=10**4000),
    "one of 100 000": line(HONEST).replace(b'"wakeups": 3', b'"wakeups": ' + b"9" * 100_000),
    "below zero": changed(wakeups=-1),
    "text for a number": changed(wakeups="3"),
    "true for a number": changed(wakeups=True),
    "a number for a text": changed(name=3),
    "control characters": changed(name="\x1b[31m"),
    "other control characters": changed(name="\x9b31m"),
    "half a character": line(HONEST).replace(b'"name": "a"', b'"name": "\\ud800"'),
    "a long text": changed(name="x" * 5000),
    "a batch size that is none": changed(fill={"wire": {"many": 1}, "tap": {}}),
    "a side missing": changed(fill={"wire": {}}),
    "no MAC": changed(upstream={**CANDIDATE, "mac": "here"}),
    "an error": line({"error": "unknown command"}),
    "the end in the middle": line(HONEST)[:-9],
    "too much": changed(routes=HONEST["routes"] * 20_000),
    "too much in one line without end": b" " * (MAX_ANSWER_BYTES + 1),
}


@pytest.mark.parametrize("what", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_a_reason_in_a_few_printable_words(run: RunDir, what: bytes) -> None:
    found = told(run, saying(what), timeout_s=5)
    assert found.stats is None
    assert found.nonsense is not None
    assert found.nonsense.startswith("does not answer sensibly: ")
    assert found.nonsense.isprintable()
    assert len(found.nonsense) < 250


def test_one_that_never_ends_costs_neither_memory_nor_time(run: RunDir) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.monotonic()
    found = told(run, endless)
    assert time.monotonic() - begun < 5
    assert found.nonsense == f"does not answer sensibly: more than {MAX_ANSWER_BYTES} bytes"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10


def test_the_whole_answer_has_one_deadline(run: RunDir) -> None:
    with lying(run.control_socket("a"), dripping):
        begun = time.monotonic()
        assert ask_stats(run, ["a"], timeout_s=0.3) == {"a": Told()}
        assert time.monotonic() - begun < 2
        agent_control.ask_for_heartbeats(run, ["a"], timeout_s=0.3)


def test_liars_do_not_keep_the_honest_from_being_heard(run: RunDir) -> None:
    run.control_socket("b").parent.mkdir()
    with (
        lying(run.control_socket("a"), endless),
        lying(run.control_socket("b"), saying(line(HONEST))),
    ):
        found = ask_stats(run, ["a", "b", "none"])
    assert found["a"].nonsense
    assert found["b"] == Told(stats=HONEST)
    assert found["none"] == Told()


def test_a_link_to_another_socket_is_not_followed(run: RunDir, tmp_path: Path) -> None:
    with lying(tmp_path / "other", saying(line(HONEST))):
        run.control_socket("a").symlink_to(tmp_path / "other")
        assert ask_stats(run, ["a"]) == {"a": Told()}
    run.control_socket("a").unlink()
    run.control_socket("a").write_text("no socket")
    assert ask_stats(run, ["a"]) == {"a": Told()}


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**15, max_value=10**30)
    | st.floats()
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield above
    if isinstance(value, dict | list):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(one, (*above, key))


PLACES = sorted(places(HONEST), key=str)


def replaced(document: Any, place: tuple[Any, ...], what: Any) -> Any:
    if not place:
        return what
    made = copy.deepcopy(document)
    at = made
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = what
    return made


@contextmanager
def watching(*answers: Any) -> Iterator[NodeWatch]:
    """Over a whole window, in which the node answers so."""
    told = iter(answers)
    watch = NodeWatch(
        "a",
        os.getpid(),
        lambda: Told(stats=next(told)),
        count_calls=None,
        clock=time.monotonic_ns,
    )
    with watch:
        watch.start()
        watch.end()
        watch.finish()
        yield watch


def used(stats: Any) -> None:
    """Everything that commands do with it."""
    for _, rows in nodeview.tables(replace(NODE, stats=stats), {}, stats=True):
        assert all(isinstance(cell, str | int | float | None) for row in rows for cell in row)
    json.dumps(stats, allow_nan=False, ensure_ascii=False).encode()
    with watching(HONEST, HONEST, stats, stats) as watch:
        watch.counts()
        watch.drops()


@given(places=st.lists(st.tuples(st.sampled_from(PLACES), anything), min_size=1, max_size=3))
def test_whatever_stands_anywhere_can_be_used_or_is_refused(
    places: list[tuple[tuple[Any, ...], Any]],
) -> None:
    document: Any = HONEST
    for place, what in places:
        with suppress(LookupError, TypeError):
            document = replaced(document, place, what)
    stats = why = None
    try:
        stats = agent_answers.stats(line(document))
    except ValueError as error:
        why = str(error)
    if why is None:
        used(stats)
    else:
        assert why.isprintable()


@given(what=st.binary(max_size=200), cut=st.integers(0, len(line(HONEST))))
def test_any_bytes_are_refused_in_words(what: bytes, cut: int) -> None:
    for answer in (what, line(HONEST)[:cut] + what + line(HONEST)[cut:]):
        with suppress(ValueError):
            used(agent_answers.stats(answer))


def test_counts_that_become_less_are_not_believed() -> None:
    less = {**HONEST, "wakeups": 1}
    with watching(HONEST, HONEST, less, less) as watch:
        pass
    assert watch.lacking == ("what a counts itself: it told of less than before",)
    assert watch.drops() is None
    assert watch.counts().wakeups is None
    assert watch.counts().cpu is not None


# -- with a real testbed


@pytest.fixture
def running(root: None, run_dir: Path, testbed_name: str) -> Iterator[Running]:
    links = [("rsu", "a")]
    topology = make_topology(testbed_name, ["rsu", "a"], links=links, command=None)
    with lifecycle.up(topology) as made:
        yield made
        lifecycle.down(testbed_name)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-m", "testbed", *arguments), capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    "lie", [saying(b"[" * 100_000 + b"\n"), saying(b'{"messages": []}\n'), endless]
)
def test_commands_show_it_as_the_reason_of_that_node(running: Running, lie: Lie) -> None:
    with lying(running.run.control_socket("a"), lie):
        shown = command("inspect", "-n", running.name, "a", "--stats")
        told = (
            f"error: {running.name} is up, but not all of it: a: its agent does not answer sensibly"
        )
        assert shown.returncode == 3
        assert shown.stderr.splitlines()[-1].startswith(told)
        assert "ready: its agent does not answer sensibly: " in shown.stdout
        as_json = command("inspect", "-n", running.name, "--format", "json")
        assert as_json.returncode == 3
        nodes = {node["name"]: node for node in json.loads(as_json.stdout)["nodes"]}
        assert nodes["a"]["stats"] is None
        assert "does not answer sensibly" in nodes["a"]["why"]
        assert nodes["rsu"]["stats"] is not None
        assert nodes["rsu"]["why"] is None
        status = {name: replace(one, upstream=None) for name, one in running.status().items()}
        (why,) = joining.explain(
            running.topology, running.run, status, expected=["a"], running=["a"]
        )
        assert str(why).startswith("a: no upstream, and its agent does not answer sensibly: ")
