"""Fixtures every test can use, and the check that a session leaves the machine as it found it.

Must not know any area under test: only names, run directories and what the kernel lists.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_SESSION_VARIABLE = "TESTBED_TEST_SESSION"
_GRACE_S = 10.0


def _base36(number: int) -> str:
    text = ""
    while True:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
        if not number:
            return text


SESSION_TOKEN = f"tbt{_base36(os.getpid())}x"
"""What every name made through these fixtures begins with, different in each session."""

_numbers = count(1)

_WORKER = "PYTEST_XDIST_WORKER" in os.environ

# What two workers share out: first what takes minutes, then file by file; and at last, by one of
# them while the other has nothing to do, all tests that have a tester's clock to keep.
_TAKING_MINUTES = {
    # One engine for both.
    "container/test_action.py": "containers",
    "container/test_real_engine.py": "containers",
    "running/test_crash.py": "crashes",
}
_MEASURING = (
    *("acceptance/", "bench/", "checks/", "scenario/", "traffic/"),
    *("cli/test_bench.py", "cli/test_measuring.py", "agent/test_coalescing.py"),
)
# Of these, what asks for no figures, or for little enough of them to be run beside others.
_MEASURING_ROUGHLY = (
    *("acceptance/", "checks/", "cli/test_bench.py", "cli/test_measuring.py"),
    *(
        f"scenario/test_{name}.py"
        for name in (
            *("feasible", "rate_search", "resume", "run_search", "scenario_files"),
            *("shipped_scenarios", "slowed", "trial_plan", "unpunctual", "watching"),
        )
    ),
    *(f"traffic/test_{name}.py" for name in ("frames", "layer", "sequence")),
    *("bench/test_bench_figures.py", "bench/test_engine_plan.py"),
)
_ALONE = "keeping time"


def _path(node_id: str) -> str:
    return node_id.partition("::")[0].partition("tests/")[2]


def _share(node_id: str) -> tuple[int, str]:
    """Tests with the same one stay together on one worker; lower numbers go first."""
    path = _path(node_id)
    if path in _TAKING_MINUTES:
        return 0, _TAKING_MINUTES[path]
    if path.startswith(_MEASURING) and not path.startswith(_MEASURING_ROUGHLY):
        return 2, _ALONE
    return 1, path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where there are workers: in the order in which shares are handed out.

    A host that takes a CPU away for a moment spoils what keeps time, whatever the code does, and
    most of what is tested here does: a test counts as failed when it has failed twice, one that
    measures when it has failed three times. What passed in the end is listed.
    """
    for item in items:
        measures = _path(item.nodeid).startswith(_MEASURING)
        item.add_marker(pytest.mark.flaky(reruns=2 if measures else 1))
    if _WORKER:
        items.sort(key=lambda item: _share(item.nodeid)[0])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Whoever has time takes the next share; the last one is for who is then alone."""
    from xdist.scheduler import LoadScopeScheduling

    class Shares(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _share(nodeid)[1]

        def _assign_work_unit(self, node: Any) -> None:
            others = [work for other, work in self.assigned_work.items() if other is not node]
            # A worker begins its last test only when it knows that nothing follows.
            busy = any(self._pending_of(work) > 1 for work in others)
            if not (busy and next(iter(self.workqueue)) == _ALONE):
                super()._assign_work_unit(node)

    return Shares(config, log)


@dataclass(frozen=True, kw_only=True, slots=True)
class Footprint:
    """What a session could leave behind, as the kernel lists it now."""

    namespaces: frozenset[str]
    links: frozenset[str]
    mounts: frozenset[str]
    processes: frozenset[str]

    @classmethod
    def take(cls) -> Footprint:
        netns = Path("/run/netns")
        names = frozenset(os.listdir(netns)) if netns.is_dir() else frozenset()
        mounts = set()
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            target = line.split()[4]
            # Made once and for good, by `ip netns add` and by whoever needed tracefs first.
            if target not in ("/run/netns", "/sys/kernel/tracing"):
                mounts.add(target)
        return cls(
            namespaces=names,
            links=frozenset(os.listdir("/sys/class/net")),
            mounts=frozenset(mounts),
            processes=frozenset(_marked_processes()),
        )

    def beyond(self, before: Footprint) -> list[str]:
        """What is here and was not before, in words."""
        return [
            *(f"namespace {name}" for name in sorted(self.namespaces - before.namespaces)),
            *(f"link {name}" for name in sorted(self.links - before.links)),
            *(f"mount {name}" for name in sorted(self.mounts - before.mounts)),
            *(f"process {name}" for name in sorted(self.processes - before.processes)),
        ]


def _marked_processes() -> Iterator[str]:
    """Living processes that a testbed or this session has started, by their environment."""
    ours = f"{_SESSION_VARIABLE}={SESSION_TOKEN}"
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        marks = [value for value in environment if value.startswith("TESTBED_MARK=")]
        if ours in environment:
            marks.append(SESSION_TOKEN)
        if marks:
            yield f"{entry.name} ({command.strip()[:80]}) [{' '.join(marks)}]"


@pytest.fixture(scope="session", autouse=True)
def _machine_as_before() -> Iterator[None]:
    """The session fails if a namespace, link, mount or process is left that was not there before.

    Where something else makes namespaces at the same time, a second worker of pytest-xdist or
    whatever TESTBED_TESTS_SHARED=1 tells of, the check is narrowed to what carries this session's
    own names; the rest is then a warning. `.ci/run` looks at the whole machine.
    """
    os.environ[_SESSION_VARIABLE] = SESSION_TOKEN
    before = Footprint.take()
    yield
    deadline = time.monotonic() + _GRACE_S
    shared = _WORKER or os.environ.get("TESTBED_TESTS_SHARED") == "1"
    while True:
        left = Footprint.take().beyond(before)
        ours = [item for item in left if SESSION_TOKEN in item] if shared else left
        if not ours or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    if ours:
        pytest.fail("left behind by this session:\n  " + "\n  ".join(ours), pytrace=False)
    if left:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            named = ", ".join(left[:3])
            warnings.warn(f"made meanwhile by others: {len(left)}, as {named}", stacklevel=1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """How much of what depends on chance is tried, and with which seed."""
    group = parser.getgroup("chance")
    group.addoption("--seed", type=int, default=20, help="of kills and of hostile input")
    group.addoption("--kills", type=int, default=100, help="moments at which something is killed")
    group.addoption("--fuzz-frames", type=int, default=200_000, help="hostile frames, in all")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of whatever a test leaves to chance; it belongs into the message of a failure."""
    return int(request.config.getoption("seed"))


@pytest.fixture
def root() -> None:
    """The test needs root and fails without it: a skipped test would look like a passed one."""
    if os.geteuid() != 0:
        pytest.fail("this test needs root: run it with sudo", pytrace=False)


@pytest.fixture
def testbed_name() -> str:
    """A testbed name that no other test and no other session uses."""
    return f"{SESSION_TOKEN}{_base36(next(_numbers))}"


@pytest.fixture
def run_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty base for run directories, set as TESTBED_RUN_DIR for the test and what it starts.

    Short, because the path of a unix socket ends at 107 bytes; in the session's own name, so that
    the mark of a process tells which session started it.
    """
    base = Path(tempfile.mkdtemp(prefix=f"{SESSION_TOKEN}-"))
    monkeypatch.setenv("TESTBED_RUN_DIR", str(base))
    yield base
    shutil.rmtree(base)


WaitUntil = Callable[..., None]


@pytest.fixture
def wait_until() -> WaitUntil:
    """`wait_until(predicate, timeout=5.0, what="…")`: polls; the test fails if it never holds."""

    def wait(predicate: Callable[[], object], timeout: float = 5.0, what: str = "") -> None:
        deadline = time.monotonic() + timeout
        pause = 0.001
        while not predicate():
            if time.monotonic() > deadline:
                pytest.fail(f"not within {timeout:g} s: {what or predicate}", pytrace=True)
            time.sleep(pause)
            pause = min(pause * 2, 0.05)

    return wait
