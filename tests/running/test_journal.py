"""The journal tells what may be there, whatever cut its writer short."""

from __future__ import annotations

from pathlib import Path

import pytest
from running_helpers import make_topology

from testbed.kernel.operations import MakeNamespace
from testbed.running import journal
from testbed.running.journal import Journal, JournalError
from testbed.running.plan import plan

PLAN = plan(make_topology("t", ["rsu", "a", "b"], segments=[["rsu", "a", "b"]]))


def write(path: Path) -> None:
    """A whole life: everything begun and done, one thing undone, one begun and left."""
    log = Journal.begin_new(path, "t")
    for operation in PLAN.operations:
        inode = 7 if isinstance(operation, MakeNamespace) else None
        log.begin(operation, inode=inode)
        log.done(operation.key)
    log.undone("node/a")
    log.begin(PLAN.operations[-1])
    log.close()


def test_it_tells_what_was_done_in_the_order_it_was(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path)
    state = journal.read(path)
    assert state is not None
    assert list(state.operations.values()) == [op for op in PLAN.operations if op.key != "node/a"]
    assert state.unfinished == {PLAN.operations[-1].key}
    assert state.header.testbed == "t"
    assert state.header.of_this_boot
    assert state.entries["netns/a"].inode == 7


def test_cut_anywhere_it_tells_what_was_there_then(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path)
    data = path.read_bytes()
    ends = [number + 1 for number, byte in enumerate(data) if byte == ord("\n")]
    whole = tmp_path / "whole"
    cut = tmp_path / "cut"
    for end in range(0, len(data), 7):
        # A line that lacks nothing but its end is whole.
        last = max((e for e in ends if e - 1 <= end), default=0)
        whole.write_bytes(data[:last])
        cut.write_bytes(data[:end])
        assert journal.read(cut) == journal.read(whole)


def test_a_line_after_a_cut_one_counts(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path)
    path.write_bytes(path.read_bytes()[:-9])
    log = Journal(path)
    log.begin(PLAN.operations[-2])
    log.close()
    state = journal.read(path)
    assert state is not None
    assert PLAN.operations[-2].key in state.unfinished


def test_without_a_header_nothing_was_ever_made(tmp_path: Path) -> None:
    assert journal.read(tmp_path / "none") is None
    (tmp_path / "empty").touch()
    assert journal.read(tmp_path / "empty") is None
    (tmp_path / "cut").write_text('{"format":1,"test')
    assert journal.read(tmp_path / "cut") is None


def test_another_format_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text('{"format":99}\n')
    with pytest.raises(JournalError, match="format 99, this version reads 1"):
        journal.read(tmp_path / "journal")


@pytest.mark.parametrize("line", ["[]", '{"begin":{"op":"unheard"}}', '{"done":["never begun"]}'])
def test_nonsense_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "journal"
    Journal.begin_new(path, "t").close()
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(JournalError):
        journal.read(path)


def test_of_another_boot(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path)
    path.write_text(path.read_text().replace(journal.boot_id(), "another"))
    state = journal.read(path)
    assert state is not None
    assert not state.header.of_this_boot
