"""`testbed doctor`: each probe really tries, says why not, and leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from testbed.doctor import Check, examine, lacking
from testbed.doctor.features import mirror, network_namespace, tap, veth, writev
from testbed.doctor.isolation import Outcome, Unavailable, attempt

TESTBED = (sys.executable, "-m", "testbed")


def interfaces() -> set[str]:
    return set(os.listdir("/sys/class/net"))


@pytest.mark.parametrize("probe", [veth, tap, mirror])
def test_what_a_probe_makes_is_not_seen_outside(root: None, probe: object) -> None:
    before = interfaces()
    assert callable(probe)
    assert attempt(probe, network=True).available
    assert interfaces() == before


def test_a_namespace_is_made_and_mounted_without_a_trace(root: None) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    assert attempt(network_namespace, network=False) == Outcome(available=True, said="")
    assert Path("/proc/self/mountinfo").read_text() == before


def test_what_writev_does_is_tried_and_said(root: None) -> None:
    before = interfaces()
    said = "two frames leave as one; never chosen by auto"
    assert attempt(writev, network=True) == Outcome(available=True, said=said)
    assert interfaces() == before


def test_a_probe_that_hangs_is_given_up_and_ended(root: None) -> None:
    def hang() -> str:
        time.sleep(60)
        return ""

    begun = time.monotonic()
    outcome = attempt(hang, network=False, timeout_s=0.2)
    assert outcome == Outcome(available=False, said="no answer within 0.2 s")
    assert time.monotonic() - begun < 5
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_probe_that_crashes_is_no_crash_of_ours(root: None) -> None:
    def die() -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        return ""

    outcome = attempt(die, network=False)
    assert outcome == Outcome(available=False, said="the probing process died")


def test_why_not_is_in_the_words_of_the_probe(root: None) -> None:
    def refuse() -> str:
        raise Unavailable("switched off")

    def fail() -> str:
        with open("/nowhere/at/all"):
            return ""

    assert attempt(refuse, network=False).said == "switched off"
    assert attempt(fail, network=False).said == "No such file or directory"


def test_only_what_a_command_needs_is_lacking(root: None) -> None:
    def refuse() -> str:
        raise Unavailable("no")

    made = [
        Check(key=key, title=key, probe=probe, used_for="", how_to_get="get it", needed_by=needed)
        for key, probe, needed in (
            ("needed", refuse, ("up",)),
            ("nice", refuse, ()),
            ("there", str, ("up",)),
        )
    ]
    findings = list(examine(made))
    assert [finding.available for finding in findings] == [False, False, True]
    assert [finding.how_to_get for finding in findings] == ["get it", "get it", None]
    assert [finding.key for finding in lacking(findings)] == ["needed"]


def test_everything_that_up_and_run_need_is_here(root: None) -> None:
    done = subprocess.run(
        (*TESTBED, "doctor", "--format", "json"), capture_output=True, text=True, check=False
    )
    findings = json.loads(done.stdout)
    needed = {finding["key"] for finding in findings if finding["needed_by"]}
    assert {"root", "namespace", "veth", "tap", "mirror", "syscall-counters"} <= needed
    assert done.returncode == 0, done.stderr
    for finding in findings:
        assert finding["available"] == (finding["why_not"] is None)
        assert finding["available"] or finding["how_to_get"]


AS_NOBODY = """
import os, sys
# Loaded first: another user may be unable to read the packages.
import rich.console, rich.progress, rich.table, rich.text, testbed.console, testbed.doctor
import testbed.cli, testbed.measure.counters
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
testbed.cli.main(["doctor"])
"""


def test_without_root_it_says_so_and_ends_with_4(root: None) -> None:
    done = subprocess.run(
        (sys.executable, "-c", AS_NOBODY), capture_output=True, text=True, check=False
    )
    assert done.returncode == 4, done.stderr
    # What it is for want of root is said once, and nothing else is blamed for it.
    assert done.stderr.splitlines()[-1] == (
        "error: `run` and `up` cannot do without: root (run it with sudo)"
    )
    assert "running as user 65534" in done.stdout
    (untried,) = (line for line in done.stdout.splitlines() if line.startswith("not tried"))
    assert untried.startswith("not tried, since this is not root: capabilities; network namespaces")
    assert "veth pairs" in untried
    rest = done.stdout.replace(untried, "")
    for word in ("veth", "modprobe", "Operation not permitted", "distribution's kernel"):
        assert word not in rest
