"""`--container` where there is no engine, and what of it needs none."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import click
import pytest

from testbed.cli import cli
from testbed.cli.contained import forwarded, is_written_with_equals
from testbed.errors import InputError
from testbed.experiment.runjournal import reserved

TESTBED = (sys.executable, "-m", "testbed")


def run(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (*TESTBED, *arguments),
        cwd=cwd,
        env=os.environ | (env or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("command", [("run", "batching"), ("doctor",)])
def test_no_engine_is_one_line_and_4(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = run(*command, "--container", cwd=tmp_path, env={"DOCKER_HOST": f"unix://{tmp_path}/no"})
    assert done.returncode == 4
    assert done.stderr == (
        f"error: no container engine at unix://{tmp_path}/no: No such file or directory: "
        "start one (`systemctl start docker`), or name another in DOCKER_HOST\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_breaks_off_is_one_line_and_4(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/sock")
        listener.listen()

        def hang_up() -> None:
            listener.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        done = run(
            "doctor", "--container", cwd=tmp_path, env={"DOCKER_HOST": f"unix://{tmp_path}/sock"}
        )
    assert done.returncode == 4
    assert done.stderr.startswith("error: no container engine at ")
    assert len(done.stderr.splitlines()) == 1


AS_NOBODY = """
import os, sys
# Loaded first: another user may be unable to read the packages.
import rich.console, rich.progress, rich.text, testbed.console, testbed.cli
import testbed.container.session, testbed.scenario.loader, http.client, encodings.idna
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
testbed.cli.main(["doctor", "--container"])
"""


def test_an_engine_that_one_may_not_talk_to_is_said_so(root: None, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/sock")
        os.chmod(f"{tmp_path}/sock", 0o600)
        for folder in (tmp_path, *tmp_path.parents[:2]):
            folder.chmod(0o755)
        done = subprocess.run(
            (sys.executable, "-c", AS_NOBODY),
            env=os.environ | {"DOCKER_HOST": f"unix://{tmp_path}/sock"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 4, done.stderr
    assert "no right to talk to the container engine" in done.stderr
    assert "docker, as a rule" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "batching", "--privileged"), "--container is not given"),
        (("doctor", "--privileged"), "--container is not given"),
        (("run", "--container"), "Missing argument 'SCENARIO'"),
        (("run",), "Missing argument 'SCENARIO'"),
        (("run", "--container", "no-such-scenario"), "no shipped scenario of that name"),
        (("run", "-", "--container"), ""),
        # An image, since nothing else can stand there; before, it was taken for the scenario.
        (("run", "--container=myimage"), "Missing argument 'SCENARIO'"),
        (("run", "--container", "/dev/shm/no-such.yaml"), "no such file"),
    ],
)
def test_bad_usage_is_found_without_an_engine(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = run(*arguments, cwd=tmp_path, env={"DOCKER_HOST": f"unix://{tmp_path}/no"})
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


SMALL = """\
name: small
topology: pair
kind: checks
variants: {only: {baseline: true, engine: per-packet, handler: per-packet, batch: 1}}
"""


def test_a_directory_with_an_unfinished_run_is_refused_without_an_engine(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    journal = tmp_path / "out" / "journal.jsonl"
    journal.parent.mkdir()
    journal.write_text("of a run\n")
    arguments = ("run", "small.yaml", "--container", "--output", "out")
    done = run(*arguments, cwd=tmp_path, env={"DOCKER_HOST": f"unix://{tmp_path}/no"})
    assert done.returncode == 2
    assert "this directory holds a run that has not come to its end" in done.stderr
    assert journal.read_text() == "of a run\n"
    with journal.open("w") as another:
        fcntl.flock(another, fcntl.LOCK_EX)
        done = run(*arguments, cwd=tmp_path, env={"DOCKER_HOST": f"unix://{tmp_path}/no"})
    assert done.returncode == 2
    assert "a run is at work in this directory" in done.stderr


def test_a_journal_that_is_put_there_meanwhile_stays(tmp_path: Path) -> None:
    with reserved(tmp_path):
        (tmp_path / "new").write_text("of a run that was killed\n")
        (tmp_path / "new").rename(tmp_path / "journal.jsonl")
    assert (tmp_path / "journal.jsonl").read_text() == "of a run that was killed\n"
    with pytest.raises(InputError, match="not come to its end"), reserved(tmp_path):
        pass
    (tmp_path / "journal.jsonl").unlink()
    with reserved(tmp_path):
        assert (tmp_path / "journal.jsonl").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_written_to_is_found_without_an_engine(tmp_path: Path) -> None:
    done = run(
        "run", "batching", "--container", "--output", "/proc/self",
        cwd=tmp_path, env={"DOCKER_HOST": f"unix://{tmp_path}/no"},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: /proc/self/journal.jsonl: ")
    assert len(done.stderr.splitlines()) == 1


def test_encryption_without_certificates_is_one_line_and_4(tmp_path: Path) -> None:
    encrypted = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path)}
    for host in ("tcp://127.0.0.1:2376", "nonsense://x"):
        done = run("doctor", "--container", cwd=tmp_path, env=encrypted | {"DOCKER_HOST": host})
        assert done.returncode == 4
        assert done.stderr.startswith("error: no ")
        assert len(done.stderr.splitlines()) == 1
        assert "DOCKER_CERT_PATH" in done.stderr


def test_a_lone_option_with_equals_names_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    command = cli.commands["run"]

    def equals(*arguments: str) -> bool:
        with command.make_context("run", list(arguments)) as context:
            return is_written_with_equals(context)

    assert equals("--container=myimage")
    assert not equals("--container", "batching")


def options(*arguments: str) -> list[str]:
    command = cli.commands["run"]
    with command.make_context(
        "run", list(arguments), parent=click.Context(cli, auto_envvar_prefix="TESTBED")
    ) as context:
        return list(forwarded(context))


def test_options_go_along_as_they_were_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert options("batching", "--container", "--quick", "--fail-on", "missed,inconclusive") == [
        "--quick",
        "--fail-on=missed,inconclusive",
    ]
    assert options("--seed", "7", "--output", "here", "batching", "--container=x") == ["--seed=7"]
    monkeypatch.setenv("TESTBED_RUN_QUICK", "1")
    monkeypatch.setenv("TESTBED_RUN_SEED", "8")
    assert options("batching", "--container=x") == ["--quick", "--seed=8"]
    monkeypatch.setenv("TESTBED_RUN_QUICK", "false")
    assert options("batching", "--seed=9") == ["--seed=9"]


HOLDING = """
import signal, sys
from testbed.container import inside
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
inside.hold()
print("held", flush=True)
signal.pause()
"""


def test_a_command_gets_sigterm_when_its_standard_input_ends() -> None:
    with subprocess.Popen(
        (sys.executable, "-c", HOLDING),
        env=os.environ | {"TESTBED_LIFELINE": "stdin"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"held\n"
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(timeout=10) == 143


def test_a_command_that_is_asked_to_stop_before_it_listens_ends_in_good_order() -> None:
    with subprocess.Popen(
        (*TESTBED, "doctor"),
        env=os.environ | {"TESTBED_LIFELINE": "stdin", "TESTBED_CONTAINER": "in a test"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        # Written long before Python runs. Standard input stays open.
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.wait(timeout=30) == 143
        assert process.stdout is not None
        assert process.stderr is not None
        # Who asked it to stop says so.
        assert process.stdout.read() == b""
        assert process.stderr.read().strip() == b""


def test_one_whose_input_has_ended_before_gets_it_at_once() -> None:
    reader, writer = os.pipe()
    os.close(writer)
    with subprocess.Popen(
        (sys.executable, "-c", HOLDING),
        env=os.environ | {"TESTBED_LIFELINE": "stdin"},
        stdin=reader,
        stdout=subprocess.DEVNULL,
    ) as process:
        os.close(reader)
        assert process.wait(timeout=10) == 143


def test_without_being_asked_nobody_is_held_to_anything(tmp_path: Path) -> None:
    with subprocess.Popen(
        (sys.executable, "-c", HOLDING), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"held\n"
        process.stdin.close()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 143
