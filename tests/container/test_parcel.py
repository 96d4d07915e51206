"""What goes into a container and what may come out of it."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from testbed.container.parcel import archive, pack, unpack
from testbed.errors import InputError, TestbedError

SCENARIO = """\
name: small
topology: ${PLACE:=maps}/here.yaml
description: needs ${NOTE}, but not $${HOME}
"""
TOPOLOGY = """\
name: here
trace: road.csv
nodes: [rsu1, {like: ../small.yaml}]
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "here.yaml").write_text(TOPOLOGY)
    (tmp_path / "maps" / "road.csv").write_text("1,2\n")
    (tmp_path / "maps" / "secret").write_text("not named by anybody")
    (tmp_path / "small.yaml").write_text(SCENARIO)
    return tmp_path / "small.yaml"


def test_every_file_that_a_file_names_goes_along_and_no_other(scenario: Path) -> None:
    packed = pack(str(scenario), env={"NOTE": "this"})
    folder = scenario.parent
    names = {path.resolve() for path in packed.files}
    assert names == {scenario, folder / "maps" / "here.yaml", folder / "maps" / "road.csv"}


def test_variables_that_are_referred_to_and_set_go_along_and_no_other(scenario: Path) -> None:
    packed = pack(str(scenario), env={"NOTE": "this", "HOME": "/nowhere", "OTHER": "x"})
    assert packed.environment == {"NOTE": "this"}


def test_a_relative_path_is_the_same_inside(
    scenario: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scenario.parent / "maps")
    packed = pack("../small.yaml", env={"NOTE": "this"})
    with tarfile.open(fileobj=io.BytesIO(archive(packed.files))) as tar:
        names = {"/" + name for name in tar.getnames()}
    assert str(scenario) in names


def test_a_shipped_scenario_needs_no_file() -> None:
    assert pack("batching", env={}).files == ()


def test_standard_input_is_refused() -> None:
    with pytest.raises(InputError, match="does not reach a container"):
        pack("-", env={})


def made(*entries: tuple[str, bytes | None]) -> io.BytesIO:
    """An archive of these files; None makes a symbolic link to /."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in entries:
            entry = tarfile.TarInfo(name)
            if content is None:
                entry.type, entry.linkname = tarfile.SYMTYPE, "/"
            else:
                entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content or b""))
    file.seek(0)
    return file


def test_results_land_in_their_directory(tmp_path: Path) -> None:
    written = unpack(made(("first/result.json", b"{}"), ("first/more/a", b"b")), tmp_path)
    assert sorted(written) == [tmp_path / "more" / "a", tmp_path / "result.json"]
    assert (tmp_path / "more" / "a").read_bytes() == b"b"


@pytest.mark.parametrize("name", ["first/../../outside", "first/a/../../../outside"])
def test_an_archive_that_wants_to_go_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    inner = tmp_path / "in" / "here"
    inner.mkdir(parents=True)
    with pytest.raises(TestbedError, match="goes elsewhere"):
        unpack(made((name, b"x")), inner)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_absolute_name_stays_inside_and_a_link_is_left_out(tmp_path: Path) -> None:
    unpack(made(("/etc/passwd", b"x"), ("first/link", None)), tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["etc", "passwd"]


def test_what_is_no_archive_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(TestbedError, match="no archive"):
        unpack(io.BytesIO(b"nonsense" * 200), tmp_path)
