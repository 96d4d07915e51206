"""The wheel: it builds, has in it what it should, and works where there is no source tree."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def build(folder: Path, target: str, *, tree: Path = ROOT) -> None:
    subprocess.run(
        (sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)),
        cwd=tree,
        check=True,
        capture_output=True,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build(folder, "wheel")
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel by itself in a folder, its dependencies from the environment of the tests."""
    folder = tmp_path_factory.mktemp("installed")
    alone = "--no-deps --no-index --quiet --disable-pip-version-check --root-user-action=ignore"
    subprocess.run(
        (sys.executable, "-m", "pip", "install", *alone.split(), "--target", folder, wheel),
        check=True,
        capture_output=True,
    )
    return folder


def run_installed(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-c", "from testbed.cli import main; main()", *arguments),
        cwd=installed.parent,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("sort", ["topologies", "scenarios"])
def test_what_is_shipped_is_in_the_wheel(wheel: Path, sort: str) -> None:
    shipped = {path.name for path in (ROOT / sort).glob("*.yaml")}
    prefix = f"testbed/share/{sort}/"
    names = zipfile.ZipFile(wheel).namelist()
    assert shipped
    assert {name.removeprefix(prefix) for name in names if name.startswith(prefix)} == shipped


def test_the_wheel_has_every_module_and_no_test(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {
        str(path.relative_to(ROOT))
        for package in ("agent", "testbed")
        for path in (ROOT / package).rglob("*.py")
    }
    assert modules <= names
    assert "testbed/bench/forward.c" in names
    assert not [name for name in names if name.startswith("tests/")]
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_both_commands_are_declared(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (one for one in archive.namelist() if one.endswith("entry_points.txt"))
    text = archive.read(name).decode()
    assert "testbed = testbed.entry:main" in text
    assert "testbed-agent = agent.cli:main" in text


def test_shipped_topologies_are_found_by_name_without_the_source_tree(installed: Path) -> None:
    shipped = sorted((ROOT / "topologies").glob("*.yaml"))
    assert shipped
    for path in shipped:
        done = run_installed(installed, "validate", path.stem, "--format", "json")
        assert done.returncode == 0, done.stderr
        assert str(installed) in done.stdout


def test_shipped_scenarios_are_found_by_name_without_the_source_tree(installed: Path) -> None:
    shipped = sorted((ROOT / "scenarios").glob("*.yaml"))
    assert shipped
    for path in shipped:
        done = run_installed(installed, "validate", path.stem, "--format", "json")
        assert done.returncode == 0, done.stderr
        assert str(installed) in done.stdout


def test_a_file_of_ones_own_is_validated_without_the_source_tree(
    installed: Path, tmp_path: Path
) -> None:
    topology = tmp_path / "own.yaml"
    nodes = "{rsu1: {kind: rsu}, obu1: {kind: KIND}}"
    text = f"name: own\ntopology:\n  nodes: {nodes}\n  links: [[rsu1, obu1]]\n"
    topology.write_text(text.replace("KIND", "obu"))
    assert run_installed(installed, "validate", str(topology)).returncode == 0
    topology.write_text(text.replace("KIND", "car"))
    done = run_installed(installed, "validate", str(topology))
    assert done.returncode == 2
    assert f"{topology}:3: " in done.stderr


def test_help_and_doctor_work_without_the_source_tree(installed: Path) -> None:
    assert run_installed(installed, "--help").returncode == 0
    assert run_installed(installed, "completion", "bash").returncode == 0
    done = run_installed(installed, "doctor", "--format", "json")
    assert done.returncode in (0, 4)
    assert {"root", "veth", "tap"} <= {one["key"] for one in json.loads(done.stdout)}


def test_the_version_stands_in_one_place(wheel: Path, installed: Path) -> None:
    (line,) = re.findall(
        r'^__version__ = "(\S+)"$', (ROOT / "agent" / "__init__.py").read_text(), re.MULTILINE
    )
    assert wheel.name.startswith(f"vanet_testbed-{line}-")
    assert run_installed(installed, "--version").stdout == f"testbed {line}\n"


def test_the_source_distribution_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    build(tmp_path, "sdist")
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = tar.getnames()
    subprocess.run(("tar", "-xzf", archive, "-C", tmp_path), check=True)
    assert not [name for name in names if "/.venv/" in name or "__pycache__" in name]
    (tree,) = (path for path in tmp_path.iterdir() if path.is_dir())
    build(tmp_path / "again", "wheel", tree=tree)
    (again,) = (tmp_path / "again").glob("*.whl")
    assert again.name == wheel.name
    assert sorted(zipfile.ZipFile(again).namelist()) == sorted(zipfile.ZipFile(wheel).namelist())


def test_the_page_of_a_result_is_made_without_the_source_tree(installed: Path) -> None:
    stored = ROOT / "tests" / "report" / "small_result.json"
    done = run_installed(installed, "report", str(stored), "--format", "html")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("<!DOCTYPE html>")
