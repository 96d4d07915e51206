"""Which trials `bench engines` makes, and in what order."""

from __future__ import annotations

import pytest

from testbed.bench.entries import (
    FLOOR,
    KERNEL,
    NAMES,
    Planned,
    chosen,
    entries_for,
    plan,
    unavailable,
)
from testbed.bench.rewrite import WAYS
from testbed.topology.model import TAP_ENGINES, WIRE_ENGINES
from testbed.traffic.paths import Path

SIZES = (1, 8, 32, 64)


def planned(*, floor: bool = True, rounds: int = 2) -> tuple[Planned, ...]:
    ways = {way: entries_for(way) for way in WAYS}
    return plan(ways, sizes=SIZES, rounds=rounds, floor=floor, kernel=True)


def test_every_engine_there_is_has_a_place() -> None:
    every = {entry for way in WAYS for entry in entries_for(way)}
    assert {entry.wire for entry in every} == set(WIRE_ENGINES) - {"auto"}
    assert {entry.tap for entry in every} == set(TAP_ENGINES) - {"auto"}
    assert {entry.name for entry in every} <= set(NAMES)


def test_each_trial_has_its_floor_beside_it_on_the_same_path_and_batch_size() -> None:
    trials = planned()
    assert [one.number for one in trials] == list(range(len(trials)))
    for one in trials:
        if one.entry.name == FLOOR:
            assert one.pair is None
            continue
        assert one.pair is not None
        floor = trials[one.pair]
        assert abs(one.pair - one.number) == 1
        assert floor.entry.name == FLOOR
        assert (floor.way, floor.round) == (one.way, one.round)
        assert floor.batch == (32 if one.entry.name == KERNEL else one.batch)


@pytest.mark.parametrize("way", WAYS)
def test_each_entry_has_each_size_once_a_round(way: Path) -> None:
    trials = [one for one in planned() if one.way is way and one.entry.name != FLOOR]
    for number in (0, 1):
        for entry in entries_for(way):
            sizes = sorted(
                one.batch or 0 for one in trials if one.entry == entry and one.round == number
            )
            assert sizes == ([1] if entry.singly else list(SIZES))


def test_every_second_round_goes_the_other_way_round() -> None:
    def order(number: int) -> list[tuple[str, int | None]]:
        return [
            (one.entry.name, one.batch)
            for one in planned()
            if one.round == number and one.way is Path.RELAY and one.entry.name != FLOOR
        ]

    assert order(0) == order(1)[::-1]


def test_without_a_floor_nothing_has_a_pair() -> None:
    trials = planned(floor=False)
    assert all(one.pair is None for one in trials)
    assert FLOOR not in {one.entry.name for one in trials}


def test_entries_are_chosen_by_name_or_by_wire_engine() -> None:
    entries = entries_for(Path.TAP_TO_WIRE)
    assert {one.name for one in chosen(entries, ["mmsg"])} == {"mmsg/per-packet", "mmsg/uring"}
    assert [one.name for one in chosen(entries, ["mmsg/uring"])] == ["mmsg/uring"]
    assert chosen(entries, []) == entries


def test_an_entry_lacks_what_either_of_its_engines_lacks() -> None:
    (entry,) = chosen(entries_for(Path.TAP_TO_WIRE), ["mmsg/uring"])
    works = {("mmsg", "wire"): None, ("uring", "tap"): None}
    assert unavailable(entry, works) is None
    why = unavailable(entry, works | {("uring", "tap"): "switched off"})
    assert why == "uring on the tap: switched off"
