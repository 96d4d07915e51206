"""A scenario in a container of a real engine: the same outcome as outside, and nothing left."""

from __future__ import annotations

import gc
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from engine_under_test import RealEngine, same_twice

from testbed import shipped
from testbed.container.rights import CAPABILITIES, Capability, Rights
from testbed.container.session import Order, run
from testbed.errors import Lacking
from testbed.measure.statistics import assess
from testbed.results.store import load_result

ROOT = Path(__file__).resolve().parents[2]
TESTBED = (sys.executable, "-m", "testbed")

# The engine itself, and a compiler, which only `bench` has a use for.
NOT_INSIDE = ("program-docker", "program-cc", "container", "room")

# The making of engine and image counts as the first test's.
pytestmark = [
    pytest.mark.timeout(660),
    pytest.mark.usefixtures("root", "real_engine"),
    # The engine's library leaves sockets of streams to the garbage collector; see _collected.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """Such a socket is collected in the test that it is of, and not told of in a later one."""
    yield
    gc.collect()


NEAR = """\
name: near
topology:
  nodes:
    rsu1: {kind: rsu, hello: {period: "${TBT_HELLO}"}}
    obu1: {kind: obu}
  links:
    - [rsu1, obu1]
"""


@pytest.fixture
def scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TBT_HELLO", "500ms")
    (tmp_path / "near.yaml").write_text(NEAR)
    (tmp_path / "same.yaml").write_text(same_twice("tbt-same", trial="200ms"))
    long = same_twice("tbt-same", trial="2s", repeats=40)
    (tmp_path / "long.yaml").write_text(long)
    (tmp_path / "unchecked.yaml").write_text(long + "checks: {which: []}\n")
    return tmp_path


def in_container(
    engine: RealEngine, *arguments: str, cwd: Path, check: int | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        (*TESTBED, *arguments, f"--container={engine.image}"),
        cwd=cwd,
        env=engine.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert check is None or done.returncode == check, done.stderr
    return done


def verdicts(folder: Path) -> dict[str, str]:
    return {one.target.key: str(one.verdict) for one in assess(load_result(folder))}


def test_the_outcome_is_that_of_the_same_run_outside(
    real_engine: RealEngine, scenario: Path, run_dir: Path
) -> None:
    arguments = ("--fail-on", "inconclusive", "--seed", "5", "--output")
    (scenario / "passed").mkdir()

    def written(path: Path) -> tuple[int, int]:
        return path.stat().st_ino, path.stat().st_mtime_ns

    before = {path: written(path) for path in scenario.glob("*.yaml")}
    # Into a directory whose files have copies in the container, by a way that only passes another.
    inside = in_container(real_engine, "run", "passed/../same.yaml", *arguments, ".", cwd=scenario)
    outside = subprocess.run(
        (*TESTBED, "run", "same.yaml", *arguments, "outside"),
        cwd=scenario, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert inside.returncode == outside.returncode == 3, inside.stderr + outside.stderr
    found = verdicts(scenario)
    assert found == verdicts(scenario / "outside")
    assert found == {"throughput-low": "inconclusive"}
    # What the run has written has come out, and nothing else.
    assert {path: written(path) for path in before} == before
    new = {path.name for path in set(scenario.iterdir()) - set(before)} - {"outside", "passed"}
    assert new == {path.name for path in (scenario / "outside").iterdir()}
    assert new >= {"result.json", "report.md"}
    # What the run inside says of files is true outside, where they belong to whoever asked.
    assert "written: result.json, " in inside.stderr
    assert "all of it: testbed report ." in inside.stderr
    assert (scenario / "result.json").stat().st_uid == os.geteuid()
    assert "claimed and found" in inside.stdout
    result = load_result(scenario)
    assert result.seed == 5
    assert result.scenario.source == "passed/../same.yaml"
    assert any(note.startswith("in a container of the image") for note in result.notes)
    assert real_engine.containers() == []


def test_everything_that_up_and_run_need_is_in_the_container(
    real_engine: RealEngine, tmp_path: Path
) -> None:
    done = in_container(real_engine, "doctor", "--format", "json", cwd=tmp_path, check=0)
    findings = {one["key"]: one for one in json.loads(done.stdout)}
    lacking = [one for one in findings.values() if one["needed_by"] and not one["available"]]
    assert lacking == []
    here = json.loads(
        subprocess.run(
            (*TESTBED, "doctor", "--format", "json"), capture_output=True, text=True, check=True
        ).stdout
    )
    # Engines and programs: what this kernel can do, it can do in there.
    for one in here:
        if one["key"] == "real-time" and "gets no real time" in done.stderr:
            # Others on this machine have all of it. It is said, and how to get it.
            assert "--cpu-rt-runtime" in findings["real-time"]["how_to_get"]
        elif one["available"] and not one["key"].startswith(NOT_INSIDE):
            assert findings[one["key"]]["available"], one["key"]
    assert real_engine.containers() == []


def test_no_capability_is_granted_that_is_not_asked_for(
    real_engine: RealEngine, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", real_engine.environment.get("DOCKER_HOST", ""))
    few = tuple(one for one in CAPABILITIES if one.name != "SYS_PTRACE")
    rights = Rights(capabilities=few)
    order = Order(arguments=("doctor",), image=real_engine.image, rights=rights)
    assert run(order, say=lambda _: None).status == 4
    assert "missing: CAP_SYS_PTRACE" in capfd.readouterr().out
    assert real_engine.containers() == []


def test_a_capability_that_the_engine_does_not_know(
    real_engine: RealEngine, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", real_engine.environment.get("DOCKER_HOST", ""))
    new = Capability(name="TIME_TRAVEL", used_for="results before the run", needed=False)
    said: list[str] = []
    order = Order(
        arguments=("--version",),
        image=real_engine.image,
        rights=Rights(capabilities=(*CAPABILITIES, new)),
    )
    assert run(order, say=said.append).status == 0
    assert "the engine does not know TIME_TRAVEL: without results before the run" in said
    assert capfd.readouterr().out.startswith("testbed ")

    cannot_do_without = Capability(name="TIME_TRAVEL", used_for="results before the run")
    with pytest.raises(Lacking, match="does not know the capability TIME_TRAVEL"):
        run(
            Order(
                arguments=("--version",),
                image=real_engine.image,
                rights=Rights(capabilities=(cannot_do_without,)),
            ),
            say=said.append,
        )
    assert real_engine.containers() == []


def test_real_time_that_others_have_is_done_without_and_missed_in_words(
    real_engine: RealEngine, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if not Path("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists():
        pytest.skip("this kernel does not share real time out among control groups")
    monkeypatch.setenv("DOCKER_HOST", real_engine.environment.get("DOCKER_HOST", ""))
    other = real_engine.docker(
        "create", "--network=none", "--cpu-rt-runtime=950000", "--entrypoint=sleep",
        real_engine.image, "60",
    )  # fmt: skip
    said: list[str] = []
    try:
        # Does not start where somebody else has it, which is as good here.
        subprocess.run(
            ("docker", "start", other),
            env=real_engine.environment,
            check=False,
            capture_output=True,
        )
        doctor = Order(arguments=("doctor", "--format=json"), image=real_engine.image)
        assert run(doctor, say=said.append).status == 0
    finally:
        real_engine.docker("rm", "-f", other)
    assert sum("gets no real time" in line for line in said) == 1
    findings = {one["key"]: one for one in json.loads(capfd.readouterr().out)}
    assert not findings["real-time"]["available"]
    assert "--cpu-rt-runtime" in findings["real-time"]["how_to_get"]
    assert real_engine.containers() == []


def test_all_rights_are_given_or_refused_in_words(real_engine: RealEngine, tmp_path: Path) -> None:
    done = in_container(real_engine, "doctor", "--privileged", cwd=tmp_path)
    if done.returncode:
        assert done.returncode == 4
        assert "without --privileged it is asked for fewer" in done.stderr.splitlines()[-1]
    assert real_engine.containers() == []


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("no-such-image", 4, "has no image 'no-such-image': `docker build -t no-such-image"),
        ("BAD::NAME", 2, "no image can have that name (got 'BAD::NAME'"),
    ],
)
def test_an_image_that_is_not_there(
    real_engine: RealEngine, tmp_path: Path, name: str, status: int, said: str
) -> None:
    done = subprocess.run(
        (*TESTBED, "run", "batching", f"--container={name}"),
        cwd=tmp_path,
        env=real_engine.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    assert said in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@contextmanager
def built_upon(engine: RealEngine, *changes: str) -> Iterator[str]:
    """An image upon ours, with these changes as a Dockerfile has them."""
    name = f"{engine.image}-other"
    made = engine.docker("create", "--network=none", engine.image)
    try:
        words = [word for change in changes for word in ("--change", change)]
        engine.docker("commit", *words, made, name)
        yield name
    finally:
        engine.docker("rm", made)
        if engine.docker("images", "-q", name):
            engine.docker("rmi", name)


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        (("LABEL org.opencontainers.image.title=other",), 4, "is no testbed image"),
        ((), 1, "ended with 0, but has left no result.json"),
    ],
)
def test_what_is_no_testbed_does_not_end_with_0(
    real_engine: RealEngine, tmp_path: Path, changes: tuple[str, ...], status: int, said: str
) -> None:
    with built_upon(real_engine, 'ENTRYPOINT ["true"]', *changes) as image:
        done = subprocess.run(
            (*TESTBED, "run", "batching", f"--container={image}"),
            cwd=tmp_path, env=real_engine.environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert said in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
    assert real_engine.containers() == []


# In one container, without the checks, which take most of the time; until the first trial is due.
BEGINNING = """
import json, tempfile
from dataclasses import replace
from testbed import doctor, shipped
from testbed.errors import Lacking
from testbed.experiment.runner import run_scenario
from testbed.scenario.loader import load_scenario
from testbed.scenario.model import Checks

class Begun(Exception):
    pass

def begun(step):
    if step.title.endswith(")") or scenario.kind == "checks":
        raise Begun

ends = {}
for name in shipped.names("scenarios"):
    scenario = load_scenario(name)
    if scenario.kind != "checks":
        scenario = replace(scenario, checks=Checks(which=()))
    try:
        run_scenario(scenario, quick=True, output_dir=tempfile.mkdtemp(), progress=begun)
        ends[name] = "ended without a trial"
    except (Begun, Lacking) as error:
        ends[name] = str(error)
absent = [one for one in doctor.examine(doctor.checks()) if not one.available]
print(json.dumps([ends, [f"no {one.title} ({one.why_not})" for one in absent]]))
"""


def test_every_shipped_scenario_begins_or_is_refused_for_what_the_doctor_finds(
    real_engine: RealEngine, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", real_engine.environment.get("DOCKER_HOST", ""))
    said: list[str] = []
    with built_upon(real_engine, 'ENTRYPOINT ["/opt/testbed/bin/python"]') as image:
        ended = run(Order(arguments=("-c", BEGINNING), image=image), say=said.append)
    told = capfd.readouterr()
    assert ended.status == 0, told.err
    ends, absent = json.loads(told.out)
    assert list(ends) == shipped.names("scenarios")
    for name, refusal in ends.items():
        assert not refusal or any(one in refusal for one in absent), (name, refusal)
    if not any("gets no real time" in line for line in said):
        # What needs it has it, with what a container gets, on whatever kernel.
        assert not any("real-time" in one for one in absent), absent
    assert real_engine.containers() == []


class Background:
    """A long run in a container, left alone once it has begun to measure."""

    def __init__(
        self,
        engine: RealEngine,
        cwd: Path,
        *,
        host: str | None = None,
        scenario: str = "unchecked.yaml",
    ) -> None:
        environment = engine.environment | ({} if host is None else {"DOCKER_HOST": host})
        self.process = subprocess.Popen(
            (*TESTBED, "run", scenario, "--output", "out", f"--container={engine.image}"),
            cwd=cwd,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self.said = []
        for line in self.process.stderr:
            self.said.append(line)
            if "left: relay" in line:
                return
        pytest.fail("".join(self.said))

    def end(self) -> tuple[int, str]:
        """Exit code, and everything that it said, once it has ended."""
        _, rest = self.process.communicate(timeout=60)
        return self.process.returncode, "".join(self.said) + rest


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_takes_the_container_away(
    real_engine: RealEngine, scenario: Path, number: signal.Signals, status: int
) -> None:
    begun = Background(real_engine, scenario, scenario="long.yaml")
    assert len(real_engine.containers()) == 1
    begun.process.send_signal(number)
    ended, said = begun.end()
    assert ended == status, said
    assert said.splitlines()[-1] == "error: stopped"
    assert said.count("stopped") == 1
    assert real_engine.containers() == []
    # What was checked until then is kept, as it is outside; but nobody can go on with it.
    assert load_result(scenario / "out").interrupted
    assert "what was measured until now is in out/result.json\n" in said
    assert not (scenario / "out" / "journal.jsonl").exists()


@pytest.mark.parametrize("when", ["before it is made", "as soon as it runs"])
def test_ctrl_c_counts_however_early_it_comes(
    real_engine: RealEngine, scenario: Path, wait_until: Callable[..., None], when: str
) -> None:
    process = subprocess.Popen(
        (*TESTBED, "run", "long.yaml", "--output", "out", f"--container={real_engine.image}"),
        cwd=scenario, env=real_engine.environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    said = process.stderr.readline()
    assert said.startswith("container engine ")
    if when == "as soon as it runs":
        wait_until(
            lambda: real_engine.docker("ps", "-q", "--filter", "label=testbed.owner"),
            timeout=30,
            what="the container runs",
        )
    process.send_signal(signal.SIGINT)
    # Far less than what a container has for its end.
    _, rest = process.communicate(timeout=30)
    assert process.returncode == 130, rest
    assert rest.splitlines()[-1] == "error: stopped"
    assert "Traceback" not in rest
    assert real_engine.containers() == []
    assert not (scenario / "out").exists()


def test_what_a_killed_command_leaves_ends_by_itself_and_is_swept(
    real_engine: RealEngine, scenario: Path, wait_until: Callable[..., None]
) -> None:
    begun = Background(real_engine, scenario)
    begun.process.kill()
    begun.end()
    (left,) = real_engine.containers()
    wait_until(
        lambda: real_engine.docker("inspect", "-f", "{{.State.Status}}", left) == "exited",
        timeout=30,
        what="the container ends when its command is gone",
    )
    down = subprocess.run(
        (*TESTBED, "down", "--all", "--format", "json"),
        env=real_engine.environment | {"TESTBED_RUN_DIR": str(scenario / "none")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(json.loads(down.stdout)["containers"]) == 1
    assert real_engine.containers() == []


class Relay:
    """A socket in front of the engine's, whose connections can all be cut at once."""

    def __init__(self, path: Path, engine: str) -> None:
        self.host = f"unix://{path}"
        self._engine = engine.removeprefix("unix://")
        self._open: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                engine = socket.socket(socket.AF_UNIX)
                engine.connect(self._engine)
                self._open += [client, engine]
                for pair in ((client, engine), (engine, client)):
                    threading.Thread(target=self._copy, args=pair, daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """Close everything, and take no more."""
        for one in (self._listener, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def test_a_lost_connection_is_said_and_the_next_run_takes_the_container_away(
    real_engine: RealEngine, scenario: Path, wait_until: Callable[..., None]
) -> None:
    relay = Relay(scenario / "s", real_engine.host or "unix:///var/run/docker.sock")
    begun = Background(real_engine, scenario, host=relay.host)
    relay.cut()
    status, said = begun.end()
    assert status == 1
    assert "the connection to the container engine is lost" in said.splitlines()[-1]
    assert "`testbed down --all` will" in said
    (left,) = real_engine.containers()
    wait_until(
        lambda: real_engine.docker("inspect", "-f", "{{.State.Status}}", left) == "exited",
        timeout=30,
        what="the container ends when the connection is gone",
    )
    done = in_container(real_engine, "doctor", cwd=scenario, check=0)
    assert "which an earlier run left" in done.stderr
    assert real_engine.containers() == []


def test_the_image_is_an_installation_and_nothing_else(real_engine: RealEngine) -> None:
    about = json.loads(real_engine.docker("image", "inspect", real_engine.image))[0]
    config = about["Config"]
    assert config["Entrypoint"] == ["testbed"]
    assert config["Labels"]["org.opencontainers.image.title"] == "testbed"
    assert config["Healthcheck"]["Test"] == ["NONE"]
    look = (
        "import testbed, importlib.util, pathlib, sys; "
        "print(testbed.__file__); "
        "print(importlib.util.find_spec('pip'), importlib.util.find_spec('setuptools')); "
        "print(sorted(p.name for p in pathlib.Path('/').glob('**/pyproject.toml')))"
    )
    said = real_engine.docker(
        "run", "--rm", "--network=none", "--entrypoint=/opt/testbed/bin/python", real_engine.image,
        "-c", look,
    ).splitlines()  # fmt: skip
    assert said[0].startswith("/opt/testbed/lib/")
    assert said[1:] == ["None None", "[]"]


@pytest.mark.parametrize("name", ["batching", "writev", "pair", "highway"])
def test_what_is_shipped_is_found_in_the_image(real_engine: RealEngine, name: str) -> None:
    said = real_engine.docker(
        "run", "--rm", "--network=none", real_engine.image, "validate", name, "--format=json"
    )
    assert "/opt/testbed/lib/" in said


def test_the_documented_docker_run_gives_what_is_needed(real_engine: RealEngine) -> None:
    text = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    found = re.search(r"^(docker run(?:.|\n)*?) run batching", text, re.MULTILINE)
    assert found is not None
    words = shlex.split(found[1].replace("\\\n", " ").replace("$PWD", "/tmp"))
    assert words[-1] == "testbed"
    real_engine.docker(*words[1:-1], real_engine.image, "doctor")
