"""Tables where there is not room for all of them: no name and no address is broken."""

from __future__ import annotations

import io
import json
import re

import pytest
from click.testing import CliRunner

from testbed.cli import cli
from testbed.cli.inspect import _print_nodes
from testbed.columns import Column, fit
from testbed.naturally import naturally
from testbed.running.inspect import NodeView, UpstreamView


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def text(self) -> str:
        """What is read, without what makes it bold."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self.getvalue())


def terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> Terminal:
    """One on stdout from now on, in place of what pytest has there."""
    stream = Terminal()
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    return stream


def node(number: int, why: str | None = None) -> NodeView:
    return NodeView(
        name=f"obu{number}",
        kind="obu",
        state="ready",
        why=why,
        pid=16389 + number,
        exit_status=None,
        uptime_s=1.0,
        netns=f"tb.corner.obu{number}",
        mac="02:55:0a:cd:a5:f6",
        ipv4=f"10.77.0.{number}/16",
        ipv6=f"fd77:7465:7374::{number}/64",
        medium="p1",
        hears=("rsu1",),
        upstream=UpstreamView(node="rsu1", rsu="rsu1", hops=1),
        engines={"wire": {"used": "xsk-tx"}, "tap": {"used": "uring"}},
        stats=None,
    )


@pytest.mark.parametrize(
    ("width", "shown", "gone"),
    [
        (120, {"16390", "fd77:7465:7374::1/64", "10.77.0.1/16", "xsk-tx"}, set()),
        (80, {"16390", "10.77.0.1/16", "xsk-tx"}, {"fd77:7465:7374::1/64"}),
        (60, {"10.77.0.1/16", "rsu1"}, {"16390", "fd77:7465:7374::1/64", "xsk-tx"}),
        (40, {"obu1", "ready", "rsu1"}, {"16390", "10.77.0.1/16"}),
        # Nothing can go without which a row says nothing: it becomes a block.
        (24, {"obu1", "ready", "16390", "10.77.0.1/16"}, set()),
    ],
)
def test_inspect_leaves_columns_out_before_it_breaks_an_address(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    width: int,
    shown: set[str],
    gone: set[str],
) -> None:
    screen = terminal(monkeypatch, width)
    _print_nodes((node(1), node(2)))
    text = screen.text()
    assert max(map(len, text.splitlines())) <= width
    words = set(text.split())
    assert shown <= words
    assert not gone & words
    assert ("no room here for: " in capsys.readouterr().err) == bool(gone)


def test_prose_breaks_between_words_before_columns_go(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch, 90)
    why = "exited with status 2; its log ends with: Missing option '--hello-periodicity'"
    _print_nodes((node(1, why), node(2)))
    words = set(screen.text().split())
    assert {"'--hello-periodicity'", "10.77.0.1/16", "why"} <= words


def test_where_nobody_looks_everything_is_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    _print_nodes((node(1, "why " * 100),))
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_no_word_is_broken_and_no_room_left_unused() -> None:
    columns = [Column("a", 10, 10), Column("b", 60, 12), Column("c", 8, 8)]
    assert fit(columns, 100, gap=2) == {0: 10, 1: 60, 2: 8}
    assert fit(columns, 50, gap=2) == {0: 10, 1: 28, 2: 8}
    assert fit(columns, 34, gap=2, spare=("c",)) == {0: 10, 1: 22}
    assert fit(columns, 33, gap=2) is None
    assert fit([], 10, gap=2) == {}


def test_names_are_in_the_order_in_which_people_count() -> None:
    names = ["o10", "o2", "o1", "rsu1", "o2b", "o", "7"]
    assert sorted(names, key=naturally) == ["7", "o", "o1", "o2", "o2b", "o10", "rsu1"]


def test_validate_says_how_many_where_a_node_hears_many() -> None:
    for numbers, heard in ((range(60), "60 nodes"), ((10, 9, 2), "o2, o9, o10")):
        obus = [f"o{number}" for number in numbers]
        nodes = {"r": {"kind": "rsu"}} | {name: {"kind": "obu"} for name in obus}
        file = {"name": "many", "topology": {"nodes": nodes, "segments": [["r", *obus]]}}
        shown = CliRunner().invoke(cli, ["validate", "-"], input=json.dumps(file))
        assert shown.exit_code == 0, shown.output
        (line,) = (line for line in shown.stdout.splitlines() if line.startswith("r "))
        assert re.split(r"\s{2,}", line)[2] == heard
