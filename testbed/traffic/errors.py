"""What goes wrong with test traffic, apart from bad input and a kernel that lacks something."""

from __future__ import annotations

from testbed.errors import TestbedError


class TrafficError(TestbedError):
    """Test traffic could not be made, sent or counted."""


class NotForwarding(TrafficError):
    """The node under test, or the path, does not pass the test traffic on."""


class WorkerDied(TrafficError):
    """A process of the tester ended before its work was done."""
