"""The command as a program: streams, exit codes, environment, and how quickly it answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from testbed.topology.file import UNSUPPORTED

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "tests" / "report" / "small_result.json"
TESTBED = (sys.executable, "-m", "testbed")
CORNER = """\
name: tbtcorner
topology:
  nodes:
    rsu1: { kind: rsu }
    obu1: { kind: obu }
  links:
    - [rsu1, obu1]
"""


def run(
    *arguments: str, given: str | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (*TESTBED, *arguments),
        input=given,
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_help_is_quick() -> None:
    run("--help")  # once, so that bytecode is there
    took = []
    for _ in range(5):
        begun = time.perf_counter()
        done = run("--help")
        took.append(time.perf_counter() - begun)
        assert done.returncode == 0
    # Twice the aim, since other processes share the machine; loading one library more costs more.
    assert min(took) < 0.3


def test_help_loads_no_library_but_the_parser() -> None:
    script = (
        "import sys\n"
        "from testbed.cli import cli\n"
        "cli.main(['--help'], standalone_mode=False)\n"
        "heavy = {'rich', 'numpy', 'pydantic', 'scapy', 'scipy', 'pyroute2', 'yaml'}\n"
        "sys.exit(' '.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run((sys.executable, "-c", script), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_of_every_command_says_something() -> None:
    from testbed.cli import cli

    for name, command in cli.commands.items():
        done = run(name, "--help")
        assert done.returncode == 0
        assert command.get_short_help_str(limit=200).endswith(".")
        assert not command.get_short_help_str(limit=66).endswith("..."), name


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("validate",),
        ("validate", "pair", "-t", "line"),
        ("validate", "pair", "--nonsense"),
        ("validate", "pair", "--format", "xml"),
        ("validate", "no-such-file.yaml"),
        ("validate", "no-such-name"),
        ("schema", "nonsense"),
        ("up", "pair", "--wait", "10"),
        ("up", "pair", "--wait", "soon"),
    ],
)
def test_bad_usage_is_one_line_and_2(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")


def test_without_a_command_there_is_help_and_2() -> None:
    done = run()
    assert done.returncode == 2
    assert "Commands:" in done.stdout + done.stderr


def test_a_bad_file_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(CORNER + "  colour: blue\n")
    done = run("validate", str(file))
    assert done.returncode == 2
    assert f"{file}:8: " in done.stderr
    assert "colour" in done.stderr


def test_validate_tells_of_everything_that_is_wrong_a_line_each(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(CORNER.replace("kind: obu", "kind: obu, bach: 3") + "    - {loss: 1%}\n")
    done = run("validate", str(file))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f"error: {file}:5: topology.nodes.obu1: unknown key 'bach', did you mean 'batch'?",
        f"error: {file}:8: topology.links[1].loss: not supported: {UNSUPPORTED['loss']}",
        f"error: {file}:8: topology.links[1]: the key 'endpoints' is missing",
    ]
    # Whoever wanted something else of the file is told of the first, and how many follow.
    assert run("graph", str(file)).stderr.endswith("'batch'?; and 2 more errors in this file\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "pair"), "error: pair is a topology: `testbed up pair`"),
        (("up", "batching"), "error: batching is a scenario: `testbed run batching`"),
        (("capture", "obu1"), "`testbed exec NODE -- tcpdump -i radio0`"),
        (("top",), "`testbed inspect NODE --stats`"),
        (("link", "show"), "`testbed up FILE`"),
        (("run", str(ROOT / "topologies" / "pair.yaml")), "this is a topology: `testbed up FILE`"),
        (
            ("up", str(ROOT / "scenarios" / "batching.yaml")),
            "this is a scenario: `testbed run FILE`",
        ),
    ],
)
def test_what_is_asked_of_the_wrong_command_is_sent_to_the_right_one(
    arguments: tuple[str, ...], said: str
) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert said in line


@pytest.mark.parametrize("arguments", [("-",), ("-t", "-"), ("--topology", "-")])
def test_a_topology_can_come_from_stdin(arguments: tuple[str, ...]) -> None:
    done = run("validate", *arguments, "--format", "json", given=CORNER)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["name"] == "tbtcorner"


def test_an_option_can_come_from_the_environment() -> None:
    from_option = run("validate", "pair", "--format", "json").stdout
    assert json.loads(from_option)
    assert run("validate", "pair", env={"TESTBED_VALIDATE_FORMAT": "json"}).stdout == from_option
    named = run("validate", env={"TESTBED_VALIDATE_TOPOLOGY": "line"})
    assert "obu3" in named.stdout


def test_data_and_words_go_to_different_streams() -> None:
    done = run("validate", "pair")
    assert "10.77.0.1" in done.stdout
    assert "valid" in done.stderr
    assert "10.77.0.1" not in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_colours_only_where_they_are_wanted() -> None:
    wanted = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    assert "\x1b[1;31m" in run("validate", "no-such-name", env=wanted).stderr
    assert (
        "\x1b[1;31m" not in run("validate", "no-such-name", env=wanted | {"NO_COLOR": "1"}).stderr
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("schema", "topology"),
        ("validate", "highway"),
        ("validate", "highway", "--format", "json"),
        ("report", str(RESULT)),
        ("report", str(RESULT), "--fail-on", "missed"),
        ("compare", str(RESULT), str(RESULT)),
        ("completion", "bash"),
    ],
)
def test_without_a_reader_it_ends_as_other_tools_do(arguments: tuple[str, ...]) -> None:
    with subprocess.Popen(
        (*TESTBED, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == -signal.SIGPIPE
    for word in (b"Traceback", b"BrokenPipe", b"Exception", b"error"):
        assert word not in said


def test_without_a_reader_of_its_errors_it_ends_so_too() -> None:
    with subprocess.Popen(
        (*TESTBED, "nonsense"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
    assert process.returncode == -signal.SIGPIPE


@pytest.mark.parametrize("form", ["mermaid", "dot"])
def test_a_topology_is_drawn(form: str) -> None:
    done = run("graph", "line", "--format", form)
    assert done.returncode == 0
    assert done.stdout.startswith("graph ")
    assert "obu3" in done.stdout


def test_the_version_is_that_of_the_package() -> None:
    from agent import __version__

    assert run("--version").stdout.strip() == f"testbed {__version__}"


STOPPED = """
import sys, time
from testbed.cli.signals import StopSignals, exit_code
StopSignals().install()
try:
    print("begun", flush=True)
    time.sleep(60)
except KeyboardInterrupt as stop:
    try:
        print("undoing", flush=True)
        time.sleep({undoing})
    except KeyboardInterrupt:
        sys.exit(99)
    print("undone", flush=True)
    sys.exit(exit_code(stop))
"""


LOADING = """
import runpy, sys, time
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            print("loading", flush=True)
            time.sleep(60)
sys.meta_path.insert(0, Slow())
runpy.run_module("testbed", run_name="__main__")
"""


def test_ctrl_c_while_the_command_line_is_being_loaded_has_its_exit_code_too() -> None:
    with subprocess.Popen(
        (sys.executable, "-c", LOADING), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "loading\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == "error: stopped\n"
    assert process.returncode == 130
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["testbed"] == "testbed.entry:main"


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)]
)
def test_a_signal_stops_with_its_exit_code(number: int, status: int) -> None:
    with subprocess.Popen(
        (sys.executable, "-c", STOPPED.format(undoing=0)), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        assert process.stdout.read() == "undoing\nundone\n"
    assert process.returncode == status


def test_a_second_signal_does_not_cut_undoing_short_and_a_third_does() -> None:
    with subprocess.Popen(
        (sys.executable, "-c", STOPPED.format(undoing=60)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "undoing\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline().startswith("still undoing")
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.wait(10)
    assert process.returncode == 99


def test_one_part_that_cannot_be_imported_leaves_the_others_alone() -> None:
    script = (
        "import sys\n"
        "sys.modules['testbed.topology.graph'] = None\n"
        "from testbed.cli import main\n"
        "main(['validate', 'pair'])\n"
    )
    done = subprocess.run((sys.executable, "-c", script), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
