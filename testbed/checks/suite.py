"""All checks of all variants: brought up together, checked at the same time, taken down.

Must not know how a single check is made, nor what follows from one that failed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import repeat
from typing import Final

from testbed.checks import ground
from testbed.checks.incell import InCell
from testbed.checks.integrity import sizes_of
from testbed.checks.reachability import Reached, check_group, check_pairs
from testbed.results import Check, CheckKind
from testbed.rundir import last_words
from testbed.running import lifecycle
from testbed.running.joining import describe_exit
from testbed.running.running import Running
from testbed.scenario.model import Checks, Variant
from testbed.topology.model import Topology

TOGETHER: Final = 8
"""So many variants are up at once."""
_READY_S: Final = 5.0
_JOIN_S: Final = 5.0
_AGAIN_S: Final = 0.05


def rounds(variants: int) -> int:
    """In how many rounds so many variants are checked; of each `progress` is told."""
    return -(-variants // TOGETHER)


def run_checks(
    variants: Sequence[Variant],
    wanted: Checks,
    *,
    testbed: str,
    quick: bool,
    progress: Callable[[str], object] = lambda _: None,
) -> list[Check]:
    """Every wanted check of every variant, in the order of the variants.

    The nodes come up under the name `testbed`, and are gone when this returns or raises. What a
    node does wrong is in the checks, never raised.

    :raises Lacking: the kernel or the rights do not suffice.
    :raises TestbedError: the testbed could not be made.
    """
    made: list[Check] = []
    for start in range(0, len(variants), TOGETHER):
        chunk = variants[start : start + TOGETHER]
        progress("checks: " + ", ".join(variant.name for variant in chunk))
        made += _run_together(chunk, wanted, testbed=testbed, quick=quick)
    order = {variant.name: number for number, variant in enumerate(variants)}
    kinds = list(wanted.which)
    return sorted(made, key=lambda check: (order[check.variant], kinds.index(check.kind)))


def _run_together(
    variants: Sequence[Variant], wanted: Checks, *, testbed: str, quick: bool
) -> list[Check]:
    made: list[Check] = []
    own = wanted.topology
    in_cell = [kind for kind in wanted.which if own is None or kind in ("integrity", "failover")]
    elsewhere = [kind for kind in wanted.which if kind not in in_cell]
    for topology, name, kinds in (
        (ground.cell(), ground.CELL_NAME, in_cell),
        (own, "" if own is None else own.name, elsewhere),
    ):
        if topology is None or not kinds:
            continue
        topologies = [ground.as_variant(topology, one, wanted.kinds) for one in variants]
        with _up(ground.islands(topologies, name=testbed)) as running:
            lock = threading.Lock()
            subjects = [
                _Subject(
                    running,
                    lock,
                    index=index,
                    topology=one,
                    variant=variant,
                    called=name,
                    wanted=wanted,
                    quick=quick,
                )
                for index, (one, variant) in enumerate(zip(topologies, variants, strict=True))
            ]
            with ThreadPoolExecutor(len(subjects), thread_name_prefix="checks") as pool:
                for checks in pool.map(_Subject.check, subjects, repeat(kinds)):
                    made += checks
    return made


@contextmanager
def _up(topology: Topology) -> Iterator[Running]:
    """The testbed, in the medium, so that who hears whom can be changed; gone after the body."""
    running = lifecycle.up(topology, wait_s=_READY_S, cables=False)
    try:
        with running:
            yield running
    finally:
        lifecycle.down(topology.name)


class _Subject:
    """One variant on its island."""

    def __init__(
        self,
        running: Running,
        lock: threading.Lock,
        *,
        index: int,
        topology: Topology,
        variant: Variant,
        called: str,
        wanted: Checks,
        quick: bool,
    ) -> None:
        self._running = running
        self._lock = lock
        self._names = {node.name: ground.island_node(index, node.name) for node in topology.nodes}
        self._site = ground.site(running, index, topology)
        self._variant = variant
        self._called = called
        self._wanted = wanted
        self._quick = quick

    def check(self, kinds: Sequence[CheckKind]) -> list[Check]:
        """Make these checks. Where the nodes do not even join, all of them have failed."""
        begun = time.monotonic()
        with closing(self._site):
            why = self._open()
            if why is not None:
                return [self._made(kind, time.monotonic() - begun, why=why) for kind in kinds]
            why = self._site.wait_joined(_JOIN_S)
            made = list(self._make(kinds) if why is None else self._unjoined(kinds, why))
        return self._with_deaths(made)

    def _open(self) -> str | None:
        """Open the site as soon as every TAP is there; why not, if that takes too long."""
        told = [node.settings for node in self._site.topology.nodes if node.settings.is_program]
        own_s = max((one.ready_within_ms / 1000 for one in told), default=0.0)
        patience_s = own_s + _READY_S
        deadline = time.monotonic() + patience_s
        while True:
            try:
                self._site.open()
            except OSError as error:
                if dead := self._dead():
                    return dead
                if time.monotonic() > deadline:
                    name = str(error.filename)
                    return f"{name} has no TAP after {patience_s:g} s{self._last_words(name)}"
                time.sleep(_AGAIN_S)
            else:
                return None

    def _with_deaths(self, made: list[Check]) -> list[Check]:
        """A node that died is why whatever failed did; if nothing did, its death is a failure."""
        dead = self._dead()
        if dead is None:
            return made
        guilty = [check for check in made if not check.passed] or made[-1:]
        return [
            check.model_copy(
                update={
                    "passed": False,
                    "why": "; ".join(text for text in (dead, check.why) if text),
                }
            )
            if check in guilty
            else check
            for check in made
        ]

    def _dead(self) -> str | None:
        with self._lock:
            status = self._running.status()
        alike: dict[str, list[str]] = {}
        for plain, name in self._names.items():
            node = status.get(name)
            if node is not None and not node.alive:
                alike.setdefault(describe_exit(node), []).append(plain)
        said = [
            f"{', '.join(nodes)}: {how}{self._last_words(nodes[0], one_of=len(nodes))}"
            for how, nodes in alike.items()
        ]
        return "; ".join(said) or None

    def _last_words(self, node: str, *, one_of: int = 1) -> str:
        whose = "its log" if one_of == 1 else f"the log of {node}"
        return last_words(self._running.run.last_log_line(self._names[node]), whose=whose)

    def _unjoined(self, kinds: Sequence[CheckKind], why: str) -> Iterator[Check]:
        """Who reaches whom all the same says most about it; nothing else is worth a try."""
        for kind in kinds:
            if kind == "reachability":
                yield self._reached(kind, self._pairs, also=why)
            else:
                yield self._made(kind, 0.0, why=f"not tried: {why}")

    def _make(self, kinds: Sequence[CheckKind]) -> Iterator[Check]:
        if "reachability" in kinds:
            yield self._reached("reachability", self._pairs)
        if "group" in kinds:
            yield self._reached("group", lambda: check_group(self._site))
        if "integrity" in kinds or "failover" in kinds:
            yield from self._in_cell(kinds)

    def _pairs(self) -> Reached:
        return check_pairs(self._running, self._site, self._names)

    def _reached(
        self, kind: CheckKind, check: Callable[[], Reached], *, also: str | None = None
    ) -> Check:
        begun = time.monotonic()
        found = check()
        why = "; ".join(text for text in (also, found.why) if text) or None
        return self._made(kind, time.monotonic() - begun, why=why).model_copy(
            update={"pairs": found.pairs, "seen": found.seen}
        )

    def _in_cell(self, kinds: Sequence[CheckKind]) -> Iterator[Check]:
        found = InCell(self._site, self._rewire, within_s=self._wanted.resume_within_s)
        found.go(
            sizes_of(self._mtu(), quick=self._quick) if "integrity" in kinds else (),
            failover="failover" in kinds,
        )
        if "integrity" in kinds:
            yield self._made("integrity", found.integrity_s, why=found.integrity_why).model_copy(
                update={"sizes": found.sizes, "seen": found.seen}
            )
        if "failover" in kinds:
            yield self._made("failover", found.failover_s, why=found.failover_why).model_copy(
                update={"failovers": found.failovers}
            )

    def _mtu(self) -> int:
        return min(node.settings.mtu for node in self._site.topology.nodes)

    def _rewire(self, neighbours: Mapping[str, Collection[str]]) -> None:
        names = self._names
        wanted = {
            names[name]: {names[peer] for peer in peers} for name, peers in neighbours.items()
        }
        with self._lock:
            self._running.rewire(wanted)

    def _made(self, kind: CheckKind, seconds: float, *, why: str | None) -> Check:
        return Check(
            variant=self._variant.name,
            kind=kind,
            topology=self._called,
            passed=why is None,
            why=why,
            elapsed_s=round(seconds, 3),
        )
