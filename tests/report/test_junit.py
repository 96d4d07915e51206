"""JUnit XML: read by a parser that is not ours, and held to what both schemas in use demand."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from decimal import Decimal

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped
from made_results import pairs, result, trial

from testbed.measure.statistics import Verdict, assess
from testbed.report.junit import render_junit
from testbed.results import Check, Result

ORDER = ("properties", "testcase", "system-out", "system-err")
OUTCOMES = {"failure", "error", "skipped"}
TOKEN = re.compile(r"\S+( \S+)*")


def checked(variant: str, kind: str, passed: bool) -> Check:
    return Check.model_validate(
        {
            "variant": variant,
            "kind": kind,
            "topology": "cell",
            "passed": passed,
            "why": None if passed else "obu2 & obu3 get <none>\x00 of 3",
            "seen": [] if passed else ["one frame of 1024 bytes"],
            "elapsed_s": 1.5,
        }
    )


@pytest.fixture(scope="module")
def run() -> Result:
    """A claim that is missed, some that stay open, a node that died, and a check that failed."""
    dead = [
        trial(load="high", number=90 + pair, pair=pair, marks={"node-died": "killed by 9"})
        for pair in range(5)
    ]
    base = [trial("per-packet", load="high", number=80 + pair, pair=pair) for pair in range(5)]
    return result(
        [*pairs(load="low"), *pairs(3, load="medium", first=10), *base, *dead],
        checks=[
            checked("per-packet", "reachability", True),
            checked("batched", "reachability", False),
        ],
    )


def suites(run: Result) -> dict[str, dict[str, object]]:
    read = JUnitXml.fromstring(render_junit(run).encode())
    return {suite.name: {case.name: case for case in suite} for suite in read}


def outcome(case: object) -> object:
    (found,) = case.result  # type: ignore[attr-defined]
    return found


def test_each_claim_is_a_case_with_the_outcome_of_its_verdict(run: Result) -> None:
    claims = suites(run)["claims"]
    assert len(claims) == len(assess(run))
    missed = outcome(claims["throughput, low load at low load: +10…15 %"])
    assert isinstance(missed, Failure)
    assert missed.type == "missed"
    assert "falls short of the modest end" in missed.message
    broken = outcome(claims["throughput, medium load at medium load: +50…100 %"])
    assert isinstance(broken, Failure)
    assert broken.type == "failed its checks"
    assert "failed its check of reachability" in broken.message
    correct = suites(run.model_copy(update={"checks": []}))["claims"]
    open_ = outcome(correct["throughput, medium load at medium load: +50…100 %"])
    assert isinstance(open_, Skipped)
    assert "only 3 pairs" in open_.message
    unmeasured = outcome(claims["throughput, high load at max load: +200…300 %"])
    assert isinstance(unmeasured, Skipped)
    assert unmeasured.message == "not measured: no trials at max load in this run"


def test_what_went_wrong_is_an_error(run: Result) -> None:
    for found in (
        outcome(suites(run)["claims"]["CPU, high load at high load: −15…30 %"]),
        outcome(suites(run)["trials"]["obu-relay, high load: 5 trials"]),
    ):
        assert isinstance(found, Error)
        assert "node-died" in found.message


def test_a_success_is_a_case_without_outcome() -> None:
    good = result(pairs(load="high", candidate={"cpu_us": 15.0}))
    case = suites(good)["claims"]["CPU, high load at high load: −15…30 %"]
    assert [str(f.verdict) for f in assess(good) if f.target.key == "cpu-high"] == [Verdict.MET]
    assert case.is_passed  # type: ignore[attr-defined]


def test_a_potential_that_is_not_reached_is_no_failure() -> None:
    case = suites(result(pairs(load="max", candidate={"offered": 1000})))["claims"][
        "extreme load at max load: 5–10×"
    ]
    assert "named as a potential" in outcome(case).message  # type: ignore[attr-defined]


def test_each_check_is_a_case(run: Result) -> None:
    read = JUnitXml.fromstring(render_junit(run).encode())
    (suite,) = [one for one in read if one.name == "checks"]
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (2, 1, 0, 0)
    good, bad = list(suite)
    assert good.is_passed
    failed = outcome(bad)
    assert isinstance(failed, Failure)
    # What no XML may hold is replaced, what it may not hold as it is comes back as it was.
    assert failed.message == "obu2 & obu3 get <none>\ufffd of 3"
    assert "one frame of 1024 bytes" in failed.text


def test_it_keeps_to_both_schemas(run: Result) -> None:
    """Apache Ant's, as written down by Windy Road, and junit-10 of Jenkins' xunit plugin."""
    root = ElementTree.fromstring(render_junit(run))
    assert (root.tag, root.attrib) == ("testsuites", {})
    for number, suite in enumerate(root):
        assert suite.tag == "testsuite"
        attributes = dict(suite.attrib)
        assert attributes.pop("id") == str(number)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", attributes.pop("timestamp"))
        for key in ("package", "name", "hostname"):
            assert TOKEN.fullmatch(attributes.pop(key))
        assert re.fullmatch(r"\d+\.\d+", attributes.pop("time"))
        cases = suite.findall("testcase")
        outcomes = [child.tag for case in cases for child in case]
        assert {key: int(value) for key, value in attributes.items()} == {
            "tests": len(cases),
            "failures": outcomes.count("failure"),
            "errors": outcomes.count("error"),
            "skipped": outcomes.count("skipped"),
        }
        tags = [child.tag for child in suite]
        assert tags == sorted(tags, key=ORDER.index)
        assert [tags.count(tag) for tag in ORDER if tag != "testcase"] == [1, 1, 1]
        for known in suite.iter("property"):
            assert set(known.attrib) == {"name", "value"}
        for case in cases:
            assert set(case.attrib) == {"name", "classname", "time"}
            assert TOKEN.fullmatch(case.attrib["name"])
            assert TOKEN.fullmatch(case.attrib["classname"])
            assert Decimal(case.attrib["time"]) >= 0
            assert len(case) <= 1
            for child in case:
                assert child.tag in OUTCOMES
                assert len(child) == 0
                wanted = {"message"} if child.tag == "skipped" else {"type", "message"}
                assert set(child.attrib) == wanted


def test_it_is_the_same_each_time_and_an_empty_result_is_one_too(run: Result) -> None:
    assert render_junit(run) == render_junit(run)
    assert set(suites(result([]))) == {"claims"}
