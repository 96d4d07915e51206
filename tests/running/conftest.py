"""Takes down what a failed test left up, so that one failure is one failure."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testbed.running import lifecycle


@pytest.fixture(autouse=True)
def _swept(request: pytest.FixtureRequest) -> Iterator[None]:
    if "run_dir" not in request.fixturenames:
        yield
        return
    request.getfixturevalue("run_dir")
    yield
    lifecycle.down_all()
