"""The recipes for CI: well-formed, pinned to one base, granting what the code says is needed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from agent import __version__
from testbed.cli import cli
from testbed.container.rights import CAPABILITIES, DEVICES

ROOT = Path(__file__).resolve().parents[2]
NAMES = {one.name for one in CAPABILITIES}
UNCONFINED = {"apparmor=unconfined", "seccomp=unconfined", "systempaths=unconfined"}
RECIPES = {
    ".github/workflows/ci.yml": "github-workflows",
    "action.yml": "github-actions",
    ".gitlab-ci.yml": "gitlab-ci",
    "compose.yaml": "compose-spec",
}


def read(name: str) -> Any:
    # As YAML 1.1, which has `on` for true, like the programs that read these files.
    text = (ROOT / name).read_text(encoding="utf-8")
    return {"on" if key is True else key: value for key, value in yaml.safe_load(text).items()}


@pytest.mark.parametrize(("name", "schema"), RECIPES.items())
def test_a_recipe_is_what_its_reader_expects(name: str, schema: str) -> None:
    vendored = resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / f"{schema}.json"
    rules = json.loads(vendored.read_text(encoding="utf-8"))
    validator = jsonschema.validators.validator_for(rules)(rules)
    assert [error.message for error in validator.iter_errors(read(name))] == []


def scripts() -> list[tuple[str, str]]:
    """Every shell script in a recipe, and where it stands."""
    found = []
    for name in RECIPES:

        def look(value: Any, name: str = name) -> None:
            if isinstance(value, dict):
                for key, inner in value.items():
                    if key == "run" and isinstance(inner, str):
                        found.append((name, inner))
                    elif key in ("script", "before_script"):
                        found.append((name, "\n".join(inner)))
                    else:
                        look(inner)
            elif isinstance(value, list):
                for inner in value:
                    look(inner)

        look(read(name))
    return found


@pytest.mark.parametrize(("name", "script"), scripts())
def test_a_script_in_a_recipe_is_one(name: str, script: str) -> None:
    # Whatever is put in there comes from outside: it may only come in through variables.
    assert "${{" not in script
    done = subprocess.run(("bash", "-n", "-c", script), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_options_in_recipes_exist() -> None:
    known = {
        option
        for command in ("run", "compare", "doctor")
        if command in cli.commands
        for parameter in cli.commands[command].params
        for option in parameter.opts
    }
    for _, script in scripts():
        for line in script.splitlines():
            if re.search(r"(set -- |\./bootstrap )run ", line):
                used = {word.split("=")[0] for word in re.findall(r"(?<=\s|\")--[\w=-]+", line)}
                assert used <= known, line
    command = read("compose.yaml")["services"]["testbed"]["command"]
    assert {word for word in command if word.startswith("--")} <= known


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def step(name: str) -> Any:
    (found,) = (one for one in read("action.yml")["runs"]["steps"] if one["name"] == name)
    return found


def run_step(
    name: str, folder: Path, /, **variables: str
) -> tuple[subprocess.CompletedProcess[str], str]:
    """A step of the action as GitHub's runner runs it, with programs of `folder` before others."""
    summary = folder / "summary"
    done = subprocess.run(
        ("bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step(name)["run"]),
        cwd=folder,
        env={
            "PATH": f"{folder}:{os.environ['PATH']}", "RUNNER_TEMP": str(folder),
            "GITHUB_OUTPUT": str(folder / "outputs"), "GITHUB_STEP_SUMMARY": str(summary),
            **variables,
        },
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done, summary.read_text() if summary.exists() else ""


def test_the_image_of_an_earlier_commit_is_built_anew_and_one_of_others_is_not(
    tmp_path: Path,
) -> None:
    # An engine that has every image.
    program(tmp_path / "docker", 'echo "$@"')
    for image, built in (("testbed", True), ("example.org/ours:1", False)):
        done, _ = run_step("Build the image", tmp_path, IMAGE=image, BASE="", ACTION="/a")
        assert done.returncode == 0, done.stderr
        assert ("build --tag" in done.stdout) is built


@pytest.mark.parametrize(("said", "status"), [("no such file", 2), ("the figures", 0)])
def test_a_baseline_that_is_no_use_is_told_and_spoils_nothing(
    tmp_path: Path, said: str, status: int
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "result.json").write_text("{}")
    program(
        tmp_path / "testbed",
        f"[ $1 = run ] && exit 3; echo '{said}' >&{2 if status else 1}; exit {status}",
    )
    done, summary = run_step(
        "Run", tmp_path,
        TESTBED="testbed", SCENARIO="x", QUICK="true", FAIL_ON="missed", OUTPUT="out", IMAGE="i",
        BASELINE="base",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # Of the run, whatever the comparison ends with.
    assert "status=3" in (tmp_path / "outputs").read_text().splitlines()
    before = "Not compared with the baseline: " if status else ""
    assert summary == f"{before}{said}\n"
    assert step("Keep the reports")["if"].startswith("always() && ")


def test_a_job_at_gitlab_can_be_run_again_where_the_runner_keeps_things(tmp_path: Path) -> None:
    sources = tmp_path / "builds" / "sources"
    program(sources / "bootstrap", 'mkdir -p "$5" && cd "$(dirname "$0")" && pwd')
    program(sources / ".venv" / "bin" / "testbed", "echo compared")
    env = os.environ | {
        "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main", "TMPDIR": str(tmp_path),
        "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null",
    }  # fmt: skip
    for command in (
        ("init", "-q", "-b", "main"), ("add", "-f", "."),
        ("-c", "user.name=x", "-c", "user.email=x@y", "commit", "-q", "-m", "x"),
        ("remote", "add", "origin", str(sources)),
    ):  # fmt: skip
        subprocess.run(("git", *command), cwd=sources, env=env, check=True)
    script = "\n".join(read(".gitlab-ci.yml")["measure"]["script"])
    for _ in range(2):
        done = subprocess.run(
            ("bash", "-e", "-c", script), cwd=sources, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        # Each branch by its own program.
        this, base, compared = done.stdout.splitlines()
        assert (this, compared) == (str(sources), "compared")
        assert base.startswith(f"{tmp_path}/tmp.")


def test_compose_grants_what_is_needed_and_no_more() -> None:
    service = read("compose.yaml")["services"]["testbed"]
    assert service["cap_drop"] == ["ALL"]
    assert set(service["cap_add"]) == NAMES
    assert service["devices"] == list(DEVICES)
    assert service["network_mode"] == "none"
    assert set(service["security_opt"]) == UNCONFINED
    assert "privileged" not in service


def test_the_document_grants_the_same() -> None:
    text = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    assert set(re.findall(r"--cap-add (\w+)", text)) == NAMES
    assert set(re.findall(r"--security-opt (\S+)", text)) == UNCONFINED
    table = text[text.index("## What it gets") : text.index("## Plain docker run")]
    assert set(re.findall(r"`([A-Z_]{4,})`", table)) >= NAMES
    (block,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    runner = tomllib.loads(block)["runners"]["docker"]
    # Beyond what the engine gives by itself.
    assert set(runner["cap_add"]) <= NAMES
    assert set(runner["security_opt"]) == UNCONFINED


def test_the_base_is_pinned_in_one_place() -> None:
    (base,) = re.findall(r"^ARG BASE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert re.fullmatch(r"debian:\w+-\d{8}-slim", base)
    jobs = read(".gitlab-ci.yml")["default"]["image"]
    assert jobs + "-slim" == base


def test_an_image_says_which_version_is_in_it_without_being_told() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^ARG VERSION=(.*)$", text, re.MULTILINE) == [__version__]


def test_only_what_the_image_is_made_of_goes_to_the_engine() -> None:
    wanted = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"
    }
    copied = set()
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            copied |= set(line.split()[1:-1])
    assert copied == wanted
    assert all((ROOT / name).exists() for name in wanted)


def test_the_engine_script_can_be_run_and_says_how() -> None:
    script = ROOT / ".ci" / "engine"
    assert script.stat().st_mode & 0o111
    subprocess.run(("sh", "-n", script), check=True)
    done = subprocess.run((script,), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert ".ci/engine down DIR" in done.stderr


def test_the_engine_script_takes_no_directory_of_others(tmp_path: Path) -> None:
    script = ROOT / ".ci" / "engine"
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "kept").write_text("")
    with subprocess.Popen(("tail", "-f", mine / "kept")) as at_work:
        for command in ("up", "down"):
            done = subprocess.run((script, command, mine), capture_output=True, text=True)
            assert done.returncode == 2, done.stderr
            assert len(done.stderr.splitlines()) == 1
        assert at_work.poll() is None
        at_work.terminate()
    assert [path.name for path in mine.iterdir()] == ["kept"]
    # What is gone already, or was never filled, is down.
    (mine / "kept").unlink()
    for _ in range(2):
        subprocess.run((script, "down", mine), check=True)
        assert not mine.exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_for_that_shell(shell: str) -> None:
    done = subprocess.run(
        (sys.executable, "-m", "testbed", "completion", shell), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"_TESTBED_COMPLETE={shell}_complete" in done.stdout


def test_bash_completes_commands_and_options(tmp_path: Path) -> None:
    (tmp_path / "testbed").write_text(f'#!/bin/sh\nexec {sys.executable} -m testbed "$@"\n')
    (tmp_path / "testbed").chmod(0o755)
    script = f"""
    PATH={tmp_path}:$PATH
    eval "$(testbed completion bash)"
    complete_words() {{
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
        _testbed_completion testbed
        echo "${{COMPREPLY[*]}}"
    }}
    complete_words testbed val
    complete_words testbed run --quic
    """
    done = subprocess.run(("bash", "-c", script), cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["validate", "--quick"], done.stderr
