"""Everything that can take the node's place forwards what a node forwards, on real devices.

The tester checks each frame: its number, its payload, and the header that an OBU gives it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest

from testbed.bench.agents import Agent
from testbed.bench.floor import Compiled, Floor
from testbed.bench.ground import Forwarder, Ground, Sample
from testbed.bench.inkernel import InKernel
from testbed.bench.rewrite import WAYS
from testbed.errors import TestbedError
from testbed.topology.model import NodeSettings
from testbed.traffic.paths import Path
from testbed.traffic.trial import Load

ATTEMPTS = 8


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    """One for all: bringing it up takes longer than a trial. It pins this process meanwhile."""
    if os.geteuid() != 0:
        pytest.fail("this test needs root: run it with sudo", pytrace=False)
    session = os.environ["TESTBED_TEST_SESSION"]
    base = tempfile.mkdtemp(prefix=f"{session}-")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TESTBED_RUN_DIR", base)
        with Ground(f"{session}-ground") as made:
            yield made
    shutil.rmtree(base)


def forwarded(ground: Ground, forwarder: Forwarder, way: Path, *, frame_bytes: int = 256) -> Sample:
    """A trial of gentle traffic, some of it in bursts, all of which arrived as it should.

    On a machine that has no CPU for a forwarder for a while frames find no room, and the forwarder
    is not to blame; so it may try again. What does arrive must be right each time.
    """
    for _ in range(ATTEMPTS):
        sample = ground.trial(
            forwarder,
            way,
            Load(rate_pps=2_000, burst=20),
            duration_s=0.2,
            warm_up_s=0.0,
            frame_bytes=frame_bytes,
        )
        counts = sample.traffic.trial
        assert counts.corrupted == counts.misaddressed == counts.duplicated == 0
        assert counts.reordered == 0
        if counts.offered > 100 and counts.delivered == counts.offered:
            return sample
    pytest.fail(f"not once in {ATTEMPTS} trials did everything arrive: {counts}")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("batch", [1, 32])
def test_the_floor_forwards_as_a_node_does(
    ground: Ground, compiled: Compiled, way: Path, batch: int
) -> None:
    sample = forwarded(ground, Floor(compiled=compiled, batch=batch), way)
    assert sample.used.cpu_ns is not None
    assert sample.used.calls is not None
    if batch == 1 and way is Path.RELAY:
        assert sample.used.calls["sendmmsg"] == pytest.approx(sample.delivered, abs=60)


@pytest.mark.parametrize("way", WAYS)
def test_the_kernel_forwards_as_a_node_does(ground: Ground, way: Path) -> None:
    sample = forwarded(ground, InKernel(), way)
    assert sample.used.calls == {}


@pytest.mark.parametrize("way", WAYS)
def test_the_longest_frames_pass_too(ground: Ground, compiled: Compiled, way: Path) -> None:
    longest = ground.tap_mtu + 14
    for forwarder in (Floor(compiled=compiled, batch=32), InKernel()):
        forwarded(ground, forwarder, way, frame_bytes=longest)


def test_an_agent_is_measured_on_the_same_ground(ground: Ground) -> None:
    sample = forwarded(ground, Agent(settings=NodeSettings(handler="batched")), Path.RELAY)
    assert sample.used.cpu_ns is not None
    assert sample.used.calls
    assert sample.used.extra["wakeups"] > 0


def test_an_agent_that_does_not_come_up_is_said_and_leaves_the_ground_usable(
    ground: Ground, compiled: Compiled
) -> None:
    broken = Agent(settings=NodeSettings(engine_wire="nonsense"))  # type: ignore[arg-type]
    with pytest.raises(TestbedError, match="nonsense"):
        forwarded(ground, broken, Path.RELAY)
    forwarded(ground, Floor(compiled=compiled, batch=8), Path.RELAY)
