"""The wheel: it builds, has in it what it should, and works where there is no source tree."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)),
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
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
    assert not [name for name in names if name.startswith("tests/")]
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_both_commands_are_declared(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (one for one in archive.namelist() if one.endswith("entry_points.txt"))
    text = archive.read(name).decode()
    assert "testbed = testbed.cli:main" in text
    assert "testbed-agent = agent.cli:main" in text


def test_shipped_topologies_are_found_by_name_without_the_source_tree(installed: Path) -> None:
    shipped = sorted((ROOT / "topologies").glob("*.yaml"))
    assert shipped
    for path in shipped:
        done = run_installed(installed, "validate", path.stem, "--format", "json")
        assert done.returncode == 0, done.stderr
        assert str(installed) in done.stdout


def test_help_and_doctor_work_without_the_source_tree(installed: Path) -> None:
    assert run_installed(installed, "--help").returncode == 0
    assert run_installed(installed, "doctor").returncode in (0, 4)


def test_the_page_of_a_result_is_made_without_the_source_tree(installed: Path) -> None:
    stored = ROOT / "tests" / "report" / "small_result.json"
    done = run_installed(installed, "report", str(stored), "--format", "html")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("<!DOCTYPE html>")
