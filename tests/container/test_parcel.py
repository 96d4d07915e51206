"""What goes into a container and what may come out of it."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from testbed import shipped
from testbed.container import parcel
from testbed.container.parcel import Parcel, archive, bring, unpack
from testbed.errors import InputError, TestbedError
from testbed.files.variables import AskedFor
from testbed.scenario.loader import load_scenario

SCENARIO = """\
name: small
topology: ${PLACE:=maps}/here.yaml
description: needs ${NOTE}, but not $${HOME}
kind: checks
variants: {only: {baseline: true, engine: per-packet, handler: per-packet, batch: 1}}
"""
TOPOLOGY = """\
name: here
topology:
  defaults: {command: [./node, "{iface}", road.csv, /dev/null], ready: {log: up}}
  nodes: {rsu1: {kind: rsu, hello: {period: "${HELLO:=1s}"}}, obu1: {kind: obu}}
  links: [[rsu1, obu1]]
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "here.yaml").write_text(TOPOLOGY)
    (tmp_path / "maps" / "node").write_text("#!/bin/sh\n")
    (tmp_path / "maps" / "road.csv").write_text("1,2\n")
    (tmp_path / "maps" / "secret").write_text("not named by anybody")
    (tmp_path / "small.yaml").write_text(SCENARIO)
    return tmp_path / "small.yaml"


def pack(given: str | Path, **variables: str) -> Parcel:
    """As `run` packs it."""
    asked = AskedFor(variables)
    loaded = load_scenario(given, env=asked)
    return parcel.pack(str(given), read=loaded.files, env=asked.found)


def test_every_file_that_a_file_names_goes_along_and_no_other(scenario: Path) -> None:
    packed = pack(scenario, NOTE="this")
    maps = scenario.parent / "maps"
    names = {path.resolve() for path in packed.files}
    assert names == {scenario, maps / "here.yaml", maps / "node", maps / "road.csv"}


def test_variables_that_are_referred_to_and_set_go_along_and_no_other(scenario: Path) -> None:
    packed = pack(scenario, NOTE="this", HELLO="2s", HOME="/nowhere", OTHER="x")
    assert packed.environment == {"HELLO": "2s", "NOTE": "this"}


def test_the_variables_of_a_shipped_topology_go_along_and_its_file_does_not(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(SCENARIO.replace("${PLACE:=maps}/here.yaml", "highway"))
    packed = pack(mine, NOTE="this", HELLO_PERIOD="300ms", OTHER="x")
    assert packed.environment == {"HELLO_PERIOD": "300ms", "NOTE": "this"}
    assert packed.files == (mine,)


def names_in(packed: Parcel) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(archive(packed.files))) as tar:
        return {"/" + entry.name + "/" * entry.isdir() for entry in tar}


def test_a_relative_path_is_the_same_inside(
    scenario: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scenario.parent / "maps")
    assert str(scenario) in names_in(pack("../small.yaml", NOTE="this"))


def test_a_directory_that_a_path_only_passes_is_made(
    scenario: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = scenario.parent
    (folder / "empty" / "deep").mkdir(parents=True)
    monkeypatch.chdir(folder)
    names = names_in(pack("empty/deep/../../small.yaml", NOTE="this"))
    assert {f"{folder}/empty/deep/", str(scenario), f"{folder}/maps/here.yaml"} <= names


def test_a_way_through_a_symbolic_link_leads_to_the_same_file_or_is_refused(
    scenario: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = scenario.parent / "here"
    here.mkdir()
    (here / "link").symlink_to(scenario.parent / "maps")
    monkeypatch.chdir(here)
    # The parent of what the link leads to, which is not the parent of the link.
    packed = pack("link/../small.yaml", NOTE="this")
    with tarfile.open(fileobj=io.BytesIO(archive(packed.files))) as tar:
        inside = tar.extractfile(f"{here}/small.yaml"[1:])
        assert inside is not None
        assert inside.read().decode() == SCENARIO
    (here / "small.yaml").write_text("another")
    with pytest.raises(InputError, match="two files would have one path"):
        archive([*packed.files, here / "small.yaml"])


def test_a_shipped_scenario_needs_no_file() -> None:
    assert pack("batching").files == ()


def test_a_shipped_file_that_is_named_by_its_path_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = shipped.find("scenarios", "batching")
    assert found is not None
    assert found in pack(found).files
    monkeypatch.chdir(found.parent.parent)
    assert found in pack("scenarios/batching.yaml").files


def test_what_a_container_has_itself_cannot_be_put_in() -> None:
    with pytest.raises(InputError, match="a container has a /dev of its own"):
        parcel.pack("x", read=("/dev/shm/scenario.yaml",), env={})


def test_standard_input_is_refused() -> None:
    with pytest.raises(InputError, match="does not reach a container"):
        parcel.pack("-", read=(), env={})


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


def test_results_that_cannot_be_written_are_kept_and_what_was_there_stays(tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("of an earlier run")
    (tmp_path / "result.json" / "taken").mkdir(parents=True)
    with pytest.raises(TestbedError, match=r"result\.json: Is a directory") as caught:
        bring(made(("first/result.json", b"{}"), ("first/report.md", b"new")), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.md", "result.json"]
    assert (tmp_path / "report.md").read_text() == "of an earlier run"
    kept = Path(str(caught.value).rpartition(" is in ")[2])
    try:
        with tarfile.open(kept) as tar:
            assert tar.getnames() == ["first/result.json", "first/report.md"]
    finally:
        kept.unlink()
