"""Networks for tests of live agents; gone when the test ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_net import Net


@pytest.fixture
def net(root: None, run_dir: Path) -> Iterator[Net]:
    """Makes namespaces, links and agents."""
    made = Net(run_dir)
    yield made
    made.close()
