"""What the doctor says cannot work is not begun."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from test_scenario_files import SMALL, load

from testbed import doctor
from testbed.errors import Lacking
from testbed.experiment.feasible import needs, require_feasible
from testbed.experiment.runner import run_scenario

COUNTED = SMALL + "counting: {trial: 500ms}\n"


def test_a_run_needs_what_its_engines_and_passes_do(tmp_path: Path) -> None:
    plain = needs(load(SMALL, tmp_path), quick=False)
    assert {"root", "veth", "tap", "processors"} <= plain
    assert "syscall-counters" not in plain
    assert "syscall-counters" in needs(load(COUNTED, tmp_path), quick=False)
    for engine, key in (("uring", "io-uring"), ("ring", "packet-ring"), ("xsk", "af-xdp")):
        assert key not in plain
        with_engine = load(SMALL + f"  third: {{engine: {{wire: {engine}}}}}\n", tmp_path)
        assert key in needs(with_engine, quick=False)


def test_a_share_of_a_cpu_takes_real_time_where_such_a_point_is_measured(tmp_path: Path) -> None:
    shared = SMALL.replace(
        "traffic:\n", "  slow: {node: obu1, path: relay, node_cpu: 25%}\ntraffic:\n"
    )
    assert "real-time" not in needs(load(SMALL, tmp_path), quick=False)
    scenario = load(shared + "quick: {measure: [relay]}\n", tmp_path)
    assert "real-time" in needs(scenario, quick=False)
    assert "real-time" not in needs(scenario, quick=True)


def test_every_key_is_one_that_the_doctor_knows(tmp_path: Path) -> None:
    known = {check.key for check in doctor.checks()}
    engines = "".join(
        f"  v{n}: {{engine: {{wire: {engine}}}}}\n"
        for n, engine in enumerate(
            ("mmsg", "writev", "aggregate", "uring", "ring", "xsk", "xsk-tx")
        )
    )
    assert needs(load(COUNTED + "quick: {}\n", tmp_path), quick=True) <= known
    assert needs(load(SMALL + engines, tmp_path), quick=False) <= known
    assert "real-time" in known


def test_nothing_is_begun_where_something_is_lacking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_taps(checks: Sequence[doctor.Check]) -> Iterator[doctor.Finding]:
        for check in checks:
            there = check.key != "tap"
            yield doctor.Finding(
                key=check.key, title=check.title, available=there, detail="",
                why_not=None if there else "no /dev/net/tun",
                how_to_get=None if there else "modprobe tun",
                used_for=check.used_for, needed_by=check.needed_by,
            )  # fmt: skip

    monkeypatch.setattr(doctor, "examine", without_taps)
    scenario = load(SMALL, tmp_path)
    with pytest.raises(Lacking, match=r"no TAP interfaces \(no /dev/net/tun\): modprobe tun"):
        require_feasible(scenario, quick=False)
    with pytest.raises(Lacking) as error:
        run_scenario(scenario, quick=False, output_dir=tmp_path / "out")
    assert error.value.exit_code == 4
    assert not (tmp_path / "out").exists()
