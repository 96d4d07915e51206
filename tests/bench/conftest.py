"""The floor's program, compiled once for each file of tests that wants it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from testbed.bench.floor import COMPILERS, Compiled


@pytest.fixture(scope="module")
def compiled() -> Iterator[Compiled]:
    if not any(map(shutil.which, COMPILERS)):
        pytest.skip("there is no C compiler: apt-get install gcc libc6-dev")
    with Compiled() as made:
        yield made
