"""Scenario files: found, read, checked and resolved; the one way from a file to a `Scenario`.

Must not know the kernel or a tester. Reports everything that is wrong with a file at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

from testbed import shipped, targets
from testbed.errors import InputError
from testbed.files import yamlfile
from testbed.files.document import Document, Place, dotted
from testbed.files.problems import Problems
from testbed.files.sort import is_topology
from testbed.files.validation import check
from testbed.scenario import frameroom
from testbed.scenario import model as values
from testbed.scenario.file import Extent, PointBody, Quick, ScenarioFile
from testbed.scenario.searches import DEFAULTS, resolve_search
from testbed.scenario.traffic_file import LoadBody, Traffic
from testbed.scenario.variants import expand_variants, known_names, unknown
from testbed.topology.loader import load_topology
from testbed.topology.model import KINDS, Kind, Node, Topology

DEFAULT_REPEATS = 10
DEFAULT_TRIAL_S = 10.0
DEFAULT_WARM_UP_S = 1.0
DEFAULT_COUNTING_S = 2.0
DEFAULT_RESUME_S = 3.0

_TIMED = frozenset(
    ("measure", "traffic", "targets", "repeats", "trial", "warm_up", "counting", "search", "quick")
)
"""Keys that mean nothing where nothing is timed."""


def load_scenario(path: str | Path, *, env: Mapping[str, str] | None = None) -> values.Scenario:
    """The scenario in that file, on standard input (`-`), or shipped under that bare name.

    `env` (os.environ unless given) replaces `${VAR}` in it and in its topology. The topology is
    looked for beside the scenario first, then among the shipped ones. Raises `InputError`.
    """
    variables = os.environ if env is None else env
    found = shipped.locate("scenarios", path)
    document = yamlfile.read(found, env=variables)
    if is_topology(document):
        raise InputError("this is a topology: `testbed up FILE`", file=document.file)
    file = check(ScenarioFile, document)
    topology = _topology(file.topology, document, ("topology",), variables)
    checked_in = file.checks.topology
    checks = values.Checks(
        which=tuple(kind for kind in values.CHECKS if kind in (file.checks.which or ()))
        if file.checks.which is not None
        else values.CHECKS,
        topology=None
        if checked_in is None
        else _topology(checked_in, document, ("checks", "topology"), variables),
        resume_within_s=file.checks.resume_within or DEFAULT_RESUME_S,
    )
    text = Path(found).read_text() if str(found) != yamlfile.STDIN else None
    return _Resolver(file, document, topology, checks).scenario(text)


def _topology(text: str, document: Document, place: Place, env: Mapping[str, str]) -> Topology:
    beside = Path(document.file).parent / text
    path = str(beside) if beside.is_file() else text
    if path == text and not (os.path.isfile(text) or shipped.find("topologies", text)):
        told, expected = shipped.unknown(text, "topologies")
        raise document.error(
            place, f"{dotted(place)}: {told}", value=text, expected=f"a file, or {expected}"
        )
    return load_topology(path, env=env)


class _Resolver:
    def __init__(
        self, file: ScenarioFile, document: Document, topology: Topology, checks: values.Checks
    ) -> None:
        self._file = file
        self._document = document
        self._topology = topology
        self._checks = checks
        self._problems = Problems(document)
        self._traffic = file.traffic or Traffic(loads={}, frame_sizes=[])
        self._loads = list(self._traffic.loads)

    def scenario(self, text: str | None) -> values.Scenario:
        if self._file.kind == "checks":
            return self._only_checks(text)
        said = self._file.model_fields_set
        for key, what in (("measure", "point to measure"), ("variants", "variant")):
            if key not in said:
                self._problems.add((), f"the key {key!r} is missing")
            elif not getattr(self._file, key):
                self._problems.add((key,), "is empty", expected=f"at least one {what}")
        if self._file.traffic is None:
            self._problems.add((), "the key 'traffic' is missing")
        elif not self._loads:
            self._problems.add(("traffic", "loads"), "is empty", expected="at least one load")
        elif not self._traffic.frame_sizes:
            self._problems.add(("traffic", "frame_sizes"), "is empty", expected="at least one size")
        points = tuple(self._point(name, body) for name, body in self._file.measure.items())
        under_test = self._under_test(points)
        variants = tuple(
            expand_variants(self._file.variants, self._problems, self._loads, under_test)
        )
        played = self._played(under_test)
        full = self._full()
        quick = self._quick(full)
        self._problems.raise_any()
        for extent, place in ((full, ("traffic",)), (quick, ("quick",))):
            self._check_has_trials(points, extent, () if extent is full else place)
            if extent is full or self._file.quick.frame_sizes is not None:
                frameroom.check_sizes(
                    extent.frame_bytes,
                    (*place, "frame_sizes"),
                    points=points,
                    variants=variants,
                    topology=self._topology,
                    problems=self._problems,
                )
        self._problems.raise_any()
        return values.Scenario(
            name=self._file.name,
            description=" ".join(self._file.description.split()),
            kind=cast(values.Kind, self._file.kind),
            topology=self._topology,
            points=points,
            loads=tuple(_load(name, body) for name, body in self._traffic.loads.items()),
            flows=self._traffic.flows,
            variants=variants,
            targets=tuple(target.key for target in targets.select(self._file.targets)),
            full=full,
            quick=quick,
            checks=replace(self._checks, kinds=played),
            source=self._document.file,
            text=text,
        )

    def _only_checks(self, text: str | None) -> values.Scenario:
        """A scenario that times nothing: variants, and what they are checked for."""
        for key in sorted(self._file.model_fields_set & _TIMED):
            self._problems.add(
                (key,), "has no meaning in a scenario of kind checks", expected="node or path"
            )
        if not self._file.variants:
            self._problems.add(("variants",), "is empty", expected="at least one variant")
        if not self._checks.which:
            self._problems.add(("checks", "which"), "is empty", expected="at least one check")
        played = self._played(self._topology.nodes)
        nodes = [node for node in self._topology.nodes if node.kind in played]
        variants = tuple(
            expand_variants(self._file.variants, self._problems, (), nodes, compared=False)
        )
        self._problems.raise_any()
        full = values.Extent(
            form="full",
            points=(),
            loads=(),
            frame_bytes=(),
            pairs=0,
            trial_s={},
            warm_up_s=0.0,
            counting=None,
        )
        return values.Scenario(
            name=self._file.name,
            description=" ".join(self._file.description.split()),
            kind="checks",
            topology=self._topology,
            points=(),
            loads=(),
            flows=0,
            variants=variants,
            targets=(),
            full=full,
            quick=replace(full, form="quick"),
            checks=replace(
                self._checks, kinds=played, topology=self._checks.topology or self._topology
            ),
            source=self._document.file,
            text=text,
        )

    # Points

    def _point(self, name: str, body: PointBody) -> values.Point:
        place: Place = ("measure", name)
        of_path, of_node = ("start", "to", "direction", "nodes"), ("node", "path", "tester")
        wrong, needed = (
            (of_node, ("start", "to")) if self._file.kind == "path" else (of_path, of_node[:2])
        )
        for key in wrong:
            if getattr(body, key) is not None:
                shown = "from" if key == "start" else key
                self._problems.add(
                    (*place, shown),
                    f"has no meaning in a scenario of kind {self._file.kind}",
                    expected=" and ".join("from" if k == "start" else k for k in needed),
                )
        missing = [key for key in needed if getattr(body, key) is None]
        for key in missing:
            shown = "from" if key == "start" else key
            self._problems.add(place, f"the key {shown!r} is missing", expected=repr(shown))
        loads = self._known_loads(body.loads, (*place, "loads"))
        if missing:
            return values.Point(name=name, nodes=(), path="", loads=loads)
        if self._file.kind == "path":
            return self._path_point(name, body, place, loads)
        return self._node_point(name, body, place, loads)

    def _node_point(
        self, name: str, body: PointBody, place: Place, loads: tuple[str, ...]
    ) -> values.Point:
        node, path, tester = body.node or "", body.path or "", body.tester
        neighbours = self._topology.neighbours()
        if node not in neighbours:
            self._unknown((*place, "node"), node, list(neighbours), "node in the topology")
        else:
            kind = self._topology.node(node).kind
            if path not in values.PATHS[kind]:
                self._problems.add(
                    (*place, "path"),
                    f"{node} is an {kind.upper()}, and has no such way through it",
                    value=path,
                    expected=" or ".join(values.PATHS[kind]),
                )
            heard = [n.name for n in self._topology.nodes if n.name in neighbours[node]]
            if tester is not None and tester not in heard:
                self._unknown((*place, "tester"), tester, heard, f"neighbour of {node}")
            elif not heard:
                self._problems.add(
                    place, "the tester has no place to stand", expected=f"a neighbour of {node}"
                )
            else:
                tester = tester or heard[0]
        return values.Point(
            name=name,
            nodes=(node,),
            path=path,
            loads=loads,
            tester_at=tester,
            node_cpu=body.node_cpu,
        )

    def _path_point(
        self, name: str, body: PointBody, place: Place, loads: tuple[str, ...]
    ) -> values.Point:
        start, to = body.start or "", body.to or ""
        names = [node.name for node in self._topology.nodes]
        for key, end in (("from", start), ("to", to)):
            if end not in names:
                self._unknown((*place, key), end, names, "node in the topology")
        if start == to:
            self._problems.add((*place, "to"), "the path ends where it begins", value=to)
        direction = cast(values.Direction, body.direction or "forth")
        return values.Point(
            name=name,
            nodes=known_names(
                body.nodes,
                names,
                "node in the topology",
                problems=self._problems,
                place=(*place, "nodes"),
            ),
            path=direction,
            loads=loads,
            ends=(start, to),
            direction=direction,
            node_cpu=body.node_cpu,
        )

    def _under_test(self, points: Sequence[values.Point]) -> list[Node]:
        """The nodes that get the settings of variants; none that is not in the topology."""
        names = {name for point in points for name in point.nodes}
        return [node for node in self._topology.nodes if node.name in names]

    def _played(self, under_test: Sequence[Node]) -> tuple[Kind, ...]:
        """The kinds of nodes that variants play in checks."""
        said = self._file.checks.kinds
        if said is not None and not said:
            self._problems.add(("checks", "kinds"), "is empty", expected=" or ".join(KINDS))
        wanted = {node.kind for node in under_test} if said is None else said
        return tuple(kind for kind in KINDS if kind in wanted)

    def _known_loads(self, wanted: Sequence[str] | None, place: Place) -> tuple[str, ...]:
        return known_names(
            wanted, self._loads, "load of this scenario", problems=self._problems, place=place
        )

    def _known_points(self, wanted: Sequence[str] | None, place: Place) -> tuple[str, ...]:
        return known_names(
            wanted,
            list(self._file.measure),
            "point of this scenario",
            problems=self._problems,
            place=place,
        )

    def _unknown(self, place: Place, name: str, known: Sequence[str], what: str) -> None:
        unknown(self._problems, place, name, known, what)

    # Extents

    def _full(self) -> values.Extent:
        file = self._file
        return self._extent(
            file,
            (),
            form="full",
            points=tuple(file.measure),
            loads=tuple(self._loads),
            frame_bytes=tuple(self._traffic.frame_sizes),
            above=None,
        )

    def _quick(self, full: values.Extent) -> values.Extent:
        quick: Quick = self._file.quick
        place: Place = ("quick",)
        sizes = tuple(full.frame_bytes if quick.frame_sizes is None else quick.frame_sizes)
        return self._extent(
            quick,
            place,
            form="quick",
            points=self._known_points(quick.measure, (*place, "measure")),
            loads=self._known_loads(quick.loads, (*place, "loads")),
            frame_bytes=sizes,
            above=full,
        )

    def _extent(
        self,
        said: Extent,
        place: Place,
        *,
        form: Literal["quick", "full"],
        points: tuple[str, ...],
        loads: tuple[str, ...],
        frame_bytes: tuple[values.FrameSize, ...],
        above: values.Extent | None,
    ) -> values.Extent:
        pairs = above.pairs if above else DEFAULT_REPEATS
        warm_up_s = above.warm_up_s if above else DEFAULT_WARM_UP_S
        return values.Extent(
            form=form,
            points=points,
            loads=loads,
            frame_bytes=frame_bytes,
            pairs=pairs if said.repeats is None else said.repeats,
            trial_s=self._trials(said, (*place, "trial"), above),
            warm_up_s=warm_up_s if said.warm_up is None else said.warm_up,
            counting=self._counting(said, (*place, "counting"), above),
            searching=self._searching(said, (*place, "search"), above),
        )

    def _trials(self, said: Extent, place: Place, above: values.Extent | None) -> dict[str, float]:
        by_load = dict(above.trial_s) if above else dict.fromkeys(self._loads, DEFAULT_TRIAL_S)
        if said.trial is None:
            return by_load
        if said.trial.everywhere is not None:
            by_load = dict.fromkeys(self._loads, said.trial.everywhere)
        for load, seconds in said.trial.by_load.items():
            if load in self._loads:
                by_load[load] = seconds
            else:
                self._unknown((*place, load), load, self._loads, "load of this scenario")
        return by_load

    def _counting(
        self, said: Extent, place: Place, above: values.Extent | None
    ) -> values.Counting | None:
        usual = above.counting if above else None
        if said.counting is None:
            return usual
        body = said.counting
        return values.Counting(
            trial_s=body.trial or (usual.trial_s if usual else DEFAULT_COUNTING_S),
            repeats=body.repeats or (usual.repeats if usual else values.RULE_PAIRS),
            loads=usual.loads
            if body.loads is None and usual
            else self._known_loads(body.loads, (*place, "loads")),
            points=usual.points
            if body.measure is None and usual
            else self._known_points(body.measure, (*place, "measure")),
        )

    def _searching(
        self, said: Extent, place: Place, above: values.Extent | None
    ) -> values.Searching | None:
        usual = above.searching if above else None
        body = said.search
        if body is None:
            return usual
        if usual is None:
            pairs = DEFAULT_REPEATS if said.repeats is None else said.repeats
            usual = replace(DEFAULTS, pairs=pairs, points=tuple(self._file.measure))
        inner = (*place, "measure")
        return resolve_search(
            body,
            usual,
            points=usual.points
            if body.measure is None
            else self._known_points(body.measure, inner),
            problems=self._problems,
            place=place,
        )

    def _check_has_trials(
        self, points: Sequence[values.Point], extent: values.Extent, place: Place
    ) -> None:
        for point in points:
            if point.name in extent.points and not set(point.loads) & set(extent.loads):
                self._problems.add(
                    place,
                    f"{point.name} has no load left to be measured at",
                    expected="one of " + ", ".join(point.loads),
                )


def _load(name: str, body: LoadBody) -> values.Load:
    steps = tuple(body.steps or ())
    rate_pps = sum(steps) / len(steps) if steps else body.rate or None
    return values.Load(name=name, rate_pps=rate_pps, burst=body.burst, steps_pps=steps)
