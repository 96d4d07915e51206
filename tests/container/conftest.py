"""A real container engine with our image, made once for the session by .ci/engine."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_under_test import RealEngine

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / ".ci" / "engine"
LACKING = 4


@pytest.fixture(scope="session")
def real_engine() -> Iterator[RealEngine]:
    """Skips, with the reason, only where this machine cannot have an engine."""
    place = Path(tempfile.mkdtemp(prefix=f"{os.environ['TESTBED_TEST_SESSION']}-"))
    try:
        made = subprocess.run(
            (SCRIPT, "up", place), capture_output=True, text=True, check=False, timeout=570
        )
        if made.returncode == LACKING:
            pytest.skip(made.stderr.strip().splitlines()[-1])
        assert made.returncode == 0, made.stderr
        values = dict(line.split("=", 1) for line in made.stdout.splitlines())
        yield RealEngine(host=values["DOCKER_HOST"], image=values["TESTBED_TEST_IMAGE"])
    finally:
        subprocess.run((SCRIPT, "down", place), check=True, timeout=60)
        assert not place.exists()
        shutil.rmtree(place, ignore_errors=True)
