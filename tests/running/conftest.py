"""A launcher by itself; and what a failed test left up is taken down, so that one fails alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from launching import namespace, start

from testbed import rundir
from testbed.kernel import processes
from testbed.launch.client import Launcher
from testbed.rundir import RunDir
from testbed.running import lifecycle
from testbed.running.journal import Journal


@pytest.fixture(autouse=True)
def _swept(request: pytest.FixtureRequest) -> Iterator[None]:
    if "run_dir" not in request.fixturenames:
        yield
        return
    request.getfixturevalue("run_dir")
    yield
    lifecycle.down_all()


@pytest.fixture
def run(run_dir: Path, testbed_name: str) -> Iterator[RunDir]:
    found = rundir.run_dir(testbed_name)
    with rundir.locked(found, create=True):
        Journal.begin_new(found.journal, testbed_name).close()
    yield found
    for marked in processes.find_marked(found.path):
        with suppress(ProcessLookupError):  # a node ends with its launcher
            os.kill(marked.pid, signal.SIGKILL)
    rundir.remove(found)


@pytest.fixture
def there(run: RunDir) -> Iterator[str]:
    with namespace(f"tb.{run.name}.n") as name:
        yield name


@pytest.fixture
def launcher(run: RunDir) -> Iterator[Launcher]:
    with start(run) as started:
        yield started
