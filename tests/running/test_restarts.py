"""When a node that died is started again; that it is, is in test_launcher."""

from __future__ import annotations

from testbed.launch import restarts
from testbed.launch.restarts import Restarts


def test_pauses_grow_and_come_to_an_end() -> None:
    row = Restarts()
    pauses = [row.pause_s(0.1) for _ in range(restarts.LIMIT)]
    assert pauses == [0.25, 0.5, 1, 2, 4, 8, 16, 30]
    assert row.pause_s(restarts.CALM_S / 2) is None
    assert row.total == restarts.LIMIT


def test_a_node_that_lasted_begins_a_new_row() -> None:
    row = Restarts()
    for _ in range(restarts.LIMIT):
        row.pause_s(0.1)
    assert row.pause_s(restarts.CALM_S) == restarts.FIRST_S
    assert row.pause_s(0.1) == 2 * restarts.FIRST_S
    assert row.total == restarts.LIMIT + 2
