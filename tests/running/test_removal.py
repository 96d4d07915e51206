"""`down` gets along with whatever was done to a testbed's directory, and says what stays."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from click.testing import CliRunner
from running_helpers import leftovers, make_topology

from testbed import rundir
from testbed.cli import cli
from testbed.errors import InputError, TestbedError
from testbed.kernel import mounts, netns
from testbed.rundir import BASE_VARIABLE, RunDir
from testbed.running import journal, lifecycle
from testbed.topology.model import Topology

pytestmark = pytest.mark.usefixtures("root")


def pair(name: str) -> Topology:
    return make_topology(name, ["rsu", "a"], links=[("rsu", "a")])


@contextmanager
def mounted(place: Path, *arguments: str) -> Iterator[None]:
    subprocess.check_call(["mount", *arguments, str(place)])
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=False, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("how", ["by name", "all"])
def test_a_full_disk_keeps_nobody_from_removing(
    run_dir: Path, testbed_name: str, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    base = run_dir / "disk"
    base.mkdir(mode=0o700)
    with mounted(base, "-t", "tmpfs", "-o", "size=256k", "tmpfs"):
        monkeypatch.setenv(BASE_VARIABLE, str(base))
        lifecycle.up(pair(testbed_name)).close()
        with suppress(OSError), (base / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(4096)):
                pass
        # Whatever the lock file had, it has to give nothing away.
        os.truncate(RunDir(base / testbed_name).lock, 0)
        with suppress(OSError), (base / "more").open("wb", buffering=0) as filler:
            filler.write(bytes(4096))
        removed = lifecycle.down(testbed_name) if how == "by name" else lifecycle.down_all()
        assert removed.remaining == ()
        assert not (base / testbed_name).exists()
        (base / "filler").unlink()
        (base / "more").unlink(missing_ok=True)
        assert leftovers(testbed_name, base) == []


GARBAGE = {
    "no header": lambda text: "garbage\n" + text.split("\n", 1)[1],
    "not an object": lambda text: text + "[1]\n",
    "brackets": lambda text: text + "[" * 90_000 + "\n",
    "another's namespace": lambda text: text.replace('"netns":"tb.', '"netns":"../../tmp/tb.'),
    "no such operation": lambda text: text + '{"begin":{"op":"explode"}}\n',
}


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("how", ["by name", "all"])
def test_a_damaged_journal_is_said_by_up_and_no_obstacle_for_down(
    run_dir: Path, testbed_name: str, garbage: str, how: str
) -> None:
    lifecycle.up(pair(testbed_name)).close()
    run = RunDir(run_dir / testbed_name)
    text = run.journal.read_text()
    changed = GARBAGE[garbage](text)
    assert changed != text
    run.journal.write_text(changed)
    with pytest.raises(journal.Damaged, match="`testbed down` removes what is there"):
        lifecycle.up(pair(testbed_name))
    removed = lifecycle.down(testbed_name) if how == "by name" else lifecycle.down_all()
    assert removed.testbeds == (testbed_name,)
    assert len(removed.namespaces) == 2
    assert removed.remaining == ()
    assert leftovers(testbed_name, run_dir) == []


@pytest.mark.parametrize("how", ["removed", "emptied"])
def test_up_leaves_alone_what_runs_without_a_journal(
    run_dir: Path, testbed_name: str, how: str
) -> None:
    run = RunDir(run_dir / testbed_name)
    with lifecycle.up(pair(testbed_name)) as running:
        run.journal.unlink() if how == "removed" else os.truncate(run.journal, 0)
        before = {name: node.pid for name, node in running.status().items()}
        with pytest.raises(TestbedError, match=f"`testbed down {testbed_name}`"):
            lifecycle.up(pair(testbed_name))
        assert {name: node.pid for name, node in running.status().items()} == before
    assert len(lifecycle.down(testbed_name).namespaces) == 2
    assert leftovers(testbed_name, run_dir) == []


def test_one_that_cannot_be_removed_keeps_no_other_and_is_named(
    run_dir: Path, testbed_name: str
) -> None:
    lifecycle.up(pair(testbed_name)).close()
    bad = run_dir / f"0{testbed_name}"  # looked at first
    (bad / "lock").mkdir(parents=True)
    bad.chmod(0o700)
    try:
        removed = lifecycle.down_all()
        assert removed.testbeds == (testbed_name,)
        assert [one for one in removed.remaining if str(bad / "lock") in one] != []
        done = CliRunner().invoke(cli, ["down", "--all"])
        assert isinstance(done.exception, TestbedError)
        assert done.exception.exit_code == 1
    finally:
        (bad / "lock").rmdir()
        bad.rmdir()
    assert leftovers(testbed_name, run_dir) == []


def test_what_is_mounted_in_a_nodes_directory_is_taken_off_and_not_emptied(
    run_dir: Path, testbed_name: str, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis").write_text("kept")
    lifecycle.up(pair(testbed_name)).close()
    node = RunDir(run_dir / testbed_name).node("a")
    place, deeper = node / "with blank", node / "with blank" / "deeper"
    place.mkdir()
    with mounted(place, "--bind", str(mine)):
        deeper.mkdir()
        with mounted(deeper, "-t", "tmpfs", "tmpfs"):
            assert mounts.below(run_dir) == [deeper, place]
            assert lifecycle.down(testbed_name).remaining == ()
            assert mounts.below(run_dir) == []
    assert (mine / "thesis").read_text() == "kept"
    assert leftovers(testbed_name, run_dir) == []


def test_a_directory_that_others_can_write_to_is_not_believed(
    run_dir: Path, testbed_name: str
) -> None:
    run = RunDir(run_dir / testbed_name)
    before = run_dir.stat()
    try:
        os.chown(run_dir, 65534, 65534)
        with pytest.raises(InputError, match="of user 65534'; expected a directory of root's"):
            lifecycle.up(pair(testbed_name))
    finally:
        os.chown(run_dir, before.st_uid, before.st_gid)
        run.path.rmdir() if run.path.exists() else None
    run.path.mkdir()
    run.path.chmod(0o770)
    with pytest.raises(InputError, match="drwxrwx---"):
        lifecycle.down(testbed_name)
    run.path.rmdir()
    # In a base like /tmp entries belong to who made them.
    run_dir.chmod(0o1777)
    try:
        lifecycle.up(pair(testbed_name)).close()
        lifecycle.down(testbed_name)
    finally:
        run_dir.chmod(before.st_mode & 0o7777)
    assert leftovers(testbed_name, run_dir) == []


def test_a_link_in_the_place_of_a_directory_is_not_followed(
    run_dir: Path, testbed_name: str, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (run_dir / testbed_name).symlink_to(other)
    with pytest.raises(InputError, match="lrwxrwxrwx"):
        lifecycle.up(pair(testbed_name))
    assert lifecycle.down_all() == lifecycle.Removed()
    assert list(other.iterdir()) == []
    (run_dir / testbed_name).unlink()


def test_the_lock_names_its_holder_again_and_again(run_dir: Path, testbed_name: str) -> None:
    run = RunDir(run_dir / testbed_name)
    for _ in range(2):
        with rundir.locked(run, create=True), pytest.raises(lifecycle.Busy) as told:
            lifecycle.down(testbed_name)
        assert f"(process {os.getpid()})" in str(told.value)
    lifecycle.down(testbed_name)


def test_a_note_that_was_being_written_by_a_killed_command_goes(root: None) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    draft = netns.MADE_NOTE.with_name(f"{netns.MADE_NOTE.name}.{gone.pid}")
    mine = netns.MADE_NOTE.with_name(f"{netns.MADE_NOTE.name}.{os.getpid()}")
    draft.touch()
    mine.touch()
    try:
        netns.tidy_directory()
        assert not draft.exists()
        assert mine.exists()
    finally:
        mine.unlink()
