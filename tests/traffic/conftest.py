"""Real wires for the tester's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from traffic_rig import Wire, wired


@pytest.fixture
def wire(root: None, testbed_name: str) -> Iterator[Wire]:
    """Two namespaces with a wire between them, gone after the test."""
    with wired(testbed_name) as made:
        yield made
