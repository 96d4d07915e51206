"""What a control group leaves of processes and memory, whichever version the machine has."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.kernel import limits

NODES = 10


def left(name: str) -> int | None:
    return next(limit.have for limit in limits.check(NODES) if limit.name == name)


@pytest.mark.parametrize(
    ("own", "files"),
    [
        (
            "0::/ci/job\n",
            {
                "ci/pids.max": "40", "ci/pids.current": "10",
                "ci/job/pids.max": "max", "ci/job/pids.current": "5",
                "ci/job/memory.max": str(64 << 20), "ci/job/memory.current": str(16 << 20),
            },
        ),
        (
            "8:pids:/ci/job\n4:memory:/ci\n3:cpu,cpuacct:/ci\n0::/ci/job\n",
            {
                "pids/ci/job/pids.max": "40", "pids/ci/job/pids.current": "10",
                "pids/ci/pids.max": "max", "pids/ci/pids.current": "12",
                "memory/ci/memory.limit_in_bytes": str(64 << 20),
                "memory/ci/memory.usage_in_bytes": str(16 << 20),
            },
        ),
    ],
    ids=["version 2", "version 1"],
)  # fmt: skip
def test_the_tightest_group_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, files: dict[str, str]
) -> None:
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    monkeypatch.setattr(limits, "_OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(limits, "_GROUPS", tmp_path / "groups")
    assert left("processes") == 30
    assert left("memory") == 48 << 10
    with pytest.raises(limits.Lacking, match="49152 KiB left"):
        limits.require(NODES)
