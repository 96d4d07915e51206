"""The report as JUnit XML, which build servers read: claims, checks and trials as test cases.

A missed claim is a failure, as is a check that was not passed. What stays open is skipped with the
reason: an inconclusive claim, one that was not measured, a potential that was not reached. What
went wrong is an error: a node that died or did not forward, and a claim that for that reason has
no figure.

The form keeps to what both schemas in common use allow (Apache Ant's, as written down by Windy
Road, and that of Jenkins' xunit plugin): nothing in a test case but its outcome, times without a
zone, every suite with properties and both outputs.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from testbed.measure.statistics import (
    PHASES,
    Finding,
    Verdict,
    assess,
    cells,
    trials_of,
)
from testbed.report.summary import found_text
from testbed.report.wording import NOTHING
from testbed.results import Check, Mark, Result, Trial, in_words

Outcome = Literal["passed", "failure", "error", "skipped"]

_WRONG: Final[tuple[Mark, ...]] = ("node-died", "failed")
"""Marks of trials in which something broke, other than the tester being the limit."""
# What no XML 1.0 document may hold, not even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One test case: `group` is who it is about, `text` what stands behind its outcome."""

    name: str
    group: str
    outcome: Outcome
    kind: str = ""
    message: str = ""
    text: str = ""
    seconds: float = 0.0


def render_junit(result: Result) -> str:
    """The whole document, ended by a newline. The same result gives the same text."""
    root = ElementTree.Element("testsuites")
    suites = {
        "claims": tuple(_claims(result)),
        "checks": tuple(map(_check, result.checks)),
        "trials": tuple(_trials(result)),
    }
    for name, cases in suites.items():
        if cases:
            _add_suite(root, result, name, cases)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode", xml_declaration=False)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _add_suite(
    root: ElementTree.Element, result: Result, name: str, cases: tuple[Case, ...]
) -> None:
    full_name = f"{result.scenario.name}.{name}"
    outcomes = [case.outcome for case in cases]
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        {
            "id": str(len(root)),
            "package": result.scenario.name,
            "name": name,
            "hostname": "localhost",
            "timestamp": result.started[:19],
            "tests": str(len(cases)),
            "failures": str(outcomes.count("failure")),
            "errors": str(outcomes.count("error")),
            "skipped": str(outcomes.count("skipped")),
            "time": f"{sum(case.seconds for case in cases):.3f}",
        },
    )
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in _properties(result):
        ElementTree.SubElement(properties, "property", {"name": key, "value": _clean(value)})
    for case in cases:
        made = ElementTree.SubElement(
            suite,
            "testcase",
            {
                "classname": _token(f"{full_name}.{case.group}"),
                "name": _token(case.name),
                "time": f"{case.seconds:.3f}",
            },
        )
        if case.outcome == "skipped":
            # One of the schemas lets this one have no type.
            ElementTree.SubElement(made, "skipped", {"message": _clean(case.message)})
        elif case.outcome != "passed":
            what = {"type": case.kind, "message": _clean(case.message)}
            ElementTree.SubElement(made, case.outcome, what).text = _clean(case.text)
    lines = (f"{case.group}: {case.name}: {case.text or case.outcome}" for case in cases)
    ElementTree.SubElement(suite, "system-out").text = _clean("\n".join(lines))
    ElementTree.SubElement(suite, "system-err").text = _clean("\n".join(result.notes))


def _properties(result: Result) -> Iterator[tuple[str, str]]:
    scenario, environment = result.scenario, result.environment
    yield "form", scenario.form
    yield "pairs", str(scenario.pairs)
    yield "seed", str(result.seed)
    yield "baseline", result.baseline.name
    yield "kernel", environment.kernel
    yield "cpu", f"{environment.cpus} x {environment.cpu_model}"
    yield "interrupted", str(result.interrupted).lower()
    for name, version in sorted(environment.versions.items()):
        yield f"version.{name}", version


def _claims(result: Result) -> Iterator[Case]:
    for finding in assess(result):
        target = finding.target
        load = finding.cell.load if finding.cell else finding.band
        outcome, message = _outcome(result, finding)
        yield Case(
            name=f"{target.claim} at {load} load: {target.claimed}",
            group=finding.candidate or "candidate",
            outcome=outcome,
            kind=str(finding.verdict),
            message=message,
            text=f"claimed {target.claimed}, found {found_text(finding)}: {finding.verdict}, "
            f"{finding.reason}. Read as {target.reading}.",
            seconds=_seconds(_behind(result, finding)),
        )


def _outcome(result: Result, finding: Finding) -> tuple[Outcome, str]:
    figure = found_text(finding)
    said = finding.reason if figure == NOTHING else f"found {figure}; {finding.reason}"
    if finding.verdict in (Verdict.MET, Verdict.EXCEEDED):
        return "passed", said
    if finding.verdict is Verdict.NOT_MEASURED and any(
        trial.marked(mark) for trial in _behind(result, finding) for mark in _WRONG
    ):
        return "error", said
    lost = finding.verdict in (Verdict.MISSED, Verdict.FAILED_CHECKS)
    if lost and not finding.target.potential:
        return "failure", said
    if finding.pairs_needed:
        said += f"; about {finding.pairs_needed} pairs would decide it"
    potential = "named as a potential; " if finding.target.potential else ""
    return "skipped", f"{finding.verdict}: {potential}{said}"


def _behind(result: Result, finding: Finding) -> tuple[Trial, ...]:
    if finding.cell is None or finding.candidate is None:
        return ()
    return tuple(
        trial
        for phase in PHASES
        for trial in trials_of(result, finding.cell, finding.candidate, phase)
    )


def _check(check: Check) -> Case:
    why = check.why or "no reason given"
    return Case(
        name=f"{check.kind} in {check.topology}",
        group=check.variant,
        outcome="passed" if check.passed else "failure",
        kind=check.kind,
        message="" if check.passed else why,
        text="" if check.passed else "\n".join((why, *check.seen)),
        seconds=check.elapsed_s,
    )


def _trials(result: Result) -> Iterator[Case]:
    """One case for each variant in each cell: an error if the node died or did not forward."""
    several = len(result.scenario.frame_bytes) > 1
    for place in cells(result):
        for variant in result.scenario.variants:
            trials = [t for phase in PHASES for t in trials_of(result, place, variant.name, phase)]
            if not trials:
                continue
            wrong = [
                f"trial {trial.id}: {marked.mark}: {marked.why}"
                for trial in trials
                for marked in trial.marks
                if marked.mark in _WRONG
            ]
            size = f", {in_words(place.frame_bytes)}" if several else ""
            yield Case(
                name=f"{place.point}, {place.load} load{size}: {len(trials)} trials",
                group=variant.name,
                outcome="error" if wrong else "passed",
                kind="trial" if wrong else "",
                message=wrong[0] if wrong else "",
                text="\n".join(wrong),
                seconds=_seconds(trials),
            )


def _seconds(trials: Iterable[Trial]) -> float:
    return sum(t.traffic.duration_ns for t in trials if t.traffic is not None) / 1e9


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)


def _token(text: str) -> str:
    """Without line breaks and runs of spaces, as an XML token must be."""
    return " ".join(_clean(text).split())
