"""Who hears whom, on the real kernel, without any agent."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from running_helpers import Radio, make_topology

from testbed.errors import InputError
from testbed.kernel import netns
from testbed.kernel.netns import namespace_name
from testbed.running import lifecycle
from testbed.running.lifecycle import Running
from testbed.topology.model import Topology

WaitUntil = Callable[..., None]

pytestmark = pytest.mark.usefixtures("root", "run_dir")


@contextmanager
def radios(
    topology: Topology, *, cables: bool = True
) -> Iterator[tuple[Running, dict[str, Radio]]]:
    with ExitStack() as stack:
        stack.callback(lifecycle.down, topology.name)
        running = stack.enter_context(lifecycle.up(topology, agents=False, cables=cables))
        ears = {}
        for node in topology.nodes:
            ears[node.name] = Radio(topology.name, node)
            stack.callback(ears[node.name].close)
        yield running, ears


def everybody_speaks(topology: Topology, ears: dict[str, Radio], wait_until: WaitUntil) -> None:
    """Each node sends to all, and to each other node; exactly its neighbours hear every frame."""
    neighbours = topology.neighbours()
    macs = {node.mac: node.name for node in topology.nodes}
    number = 0
    for name, radio in ears.items():
        targets = ["ff:ff:ff:ff:ff:ff", *(m for m in macs if macs[m] != name)][:4]
        first = number
        for mac in targets:
            radio.send(number, to=mac)
            number += 1
        heard: dict[str, list[int]] = {other: [] for other in ears}

        def collect(heard: dict[str, list[int]] = heard) -> bool:
            for other, ear in ears.items():
                heard[other] += [n for _, n in ear.heard()]
            return all(len(heard[peer]) >= len(targets) for peer in neighbours[name])  # noqa: B023

        wait_until(collect, what=f"what {name} sent")
        sent = list(range(first, number))
        expected = {other: sent if other in neighbours[name] else [] for other in ears}
        assert heard == expected


def test_two_that_hear_only_each_other_share_a_cable(
    testbed_name: str, wait_until: WaitUntil
) -> None:
    topology = make_topology(testbed_name, ["rsu", "obu"], links=[("rsu", "obu")])
    with radios(topology) as (running, ears):
        everybody_speaks(topology, ears, wait_until)
        assert running.report is not None
        assert {phase.name: phase.count for phase in running.report.phases}["radios"] == 1


def test_hidden_nodes_do_not_hear_each_other(testbed_name: str, wait_until: WaitUntil) -> None:
    names = ["rsu", "a", "b", "c"]
    topology = make_topology(testbed_name, names, links=[("rsu", "a"), ("a", "b"), ("b", "c")])
    with radios(topology) as (_, ears):
        everybody_speaks(topology, ears, wait_until)


def test_unicast_is_overheard_by_exactly_the_neighbours(
    testbed_name: str, wait_until: WaitUntil
) -> None:
    topology = make_topology(
        testbed_name,
        ["rsu1", "rsu2", "a", "b", "c", "d", "lonely", "x", "y"],
        segments=[["rsu1", "a", "b", "c"], ["rsu2", "c", "d"], ["lonely"]],
        links=[("x", "y")],
    )
    with radios(topology) as (_, ears):
        everybody_speaks(topology, ears, wait_until)


@pytest.mark.parametrize("size", [33, 34, 70])
def test_more_neighbours_than_one_filter_takes(
    testbed_name: str, size: int, wait_until: WaitUntil
) -> None:
    names = [f"n{number}" for number in range(size)]
    topology = make_topology(testbed_name, ["rsu", *names], links=[("rsu", n) for n in names])
    with radios(topology) as (running, ears):
        everybody_speaks(topology, ears, wait_until)
        # From many to few and back: nothing of the old chains may answer.
        for peers in (names[:2], names, [], names[:33], names[:32], names[1:]):
            running.rewire({"rsu": peers})
            ears["rsu"].send(1)
            heard: Counter[str] = Counter()

            def collect(peers: list[str] = peers, heard: Counter[str] = heard) -> bool:
                for name in names:
                    heard[name] += len(ears[name].heard())
                return all(heard[peer] for peer in peers)

            wait_until(collect)
            assert {name for name, count in heard.items() if count} == set(peers)
            assert set(heard.values()) <= {0, 1}


@pytest.mark.parametrize("size", [3, 80])
def test_changing_who_hears_loses_and_doubles_nothing(
    testbed_name: str, size: int, wait_until: WaitUntil
) -> None:
    names = [f"n{number}" for number in range(size)]
    topology = make_topology(testbed_name, ["rsu", *names], segments=[["rsu", *names]])
    chance = random.Random(1)
    always, sometimes = names[0], names[1:]
    with radios(topology) as (running, ears):
        stop = threading.Event()
        sent = 0

        def speak() -> None:
            nonlocal sent
            while not stop.is_set():
                ears["rsu"].send(sent)
                sent += 1
                stop.wait(0.0005)  # 80 copies of a frame each: the queue behind a veth holds 1000

        speaker = threading.Thread(target=speak)
        speaker.start()
        try:
            heard: dict[str, list[int]] = {name: [] for name in names}
            for _ in range(60):
                chosen = chance.sample(sometimes, chance.randrange(len(sometimes) + 1))
                running.rewire({"rsu": [always, *chosen]})
                for name in names:
                    heard[name] += [number for _, number in ears[name].heard()]
        finally:
            stop.set()
            speaker.join()

        def collect() -> bool:
            for name in names:
                heard[name] += [number for _, number in ears[name].heard()]
            return len(heard[always]) >= sent

        wait_until(collect, what="all frames at the node that always hears")
        assert heard[always] == list(range(sent))
        for name in sometimes:
            assert heard[name] == sorted(set(heard[name])), f"{name} heard a frame twice"
        assert any(0 < len(heard[name]) < sent for name in sometimes)


def test_a_pair_can_be_put_in_the_medium_and_moved(
    testbed_name: str, wait_until: WaitUntil
) -> None:
    topology = make_topology(testbed_name, ["rsu", "obu"], links=[("rsu", "obu")])
    with radios(topology, cables=False) as (running, ears):
        everybody_speaks(topology, ears, wait_until)
        running.rewire({"rsu": [], "obu": ["rsu"]})
        ears["rsu"].send(1)
        ears["obu"].send(2)
        got: list[int] = []
        wait_until(lambda: got.extend(n for _, n in ears["rsu"].heard()) or got)
        assert got == [2]
        assert ears["obu"].heard() == []


def test_a_node_on_a_cable_cannot_be_moved(testbed_name: str) -> None:
    topology = make_topology(testbed_name, ["rsu", "obu"], links=[("rsu", "obu")])
    with radios(topology) as (running, _), pytest.raises(InputError, match="no port"):
        running.rewire({"rsu": []})


def test_nothing_is_heard_where_nobody_speaks(testbed_name: str) -> None:
    """Kernels announce themselves on new interfaces; here nothing may come that no node sent."""
    names = ["rsu", "a", "b"]
    topology = make_topology(testbed_name, names, links=[("rsu", "a"), ("a", "b")])
    with radios(topology):

        def counters() -> list[str]:
            lines = Path("/proc/thread-self/net/dev").read_text().splitlines()[2:]
            return [line.split()[2] + line.split()[10] for line in lines]

        # What the kernel says of its own accord it says within a second of an interface coming up
        # (router solicitation, duplicate detection, group membership reports).
        quiet = threading.Event()
        quiet.wait(1.5)
        for name in (*names, "_medium"):
            seen = netns.run_in(namespace_name(testbed_name, name), counters)
            assert set(seen) == {"00"}, f"frames in {name}"
