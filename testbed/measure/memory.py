"""Memory of one process as the kernel counts it (proc(5), smaps_rollup). Knows nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_KB = re.compile(r"^(\w+):\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class MemorySample:
    """Memory at one moment, in bytes.

    `pss_bytes` counts a page shared by n processes as 1/n, so that the sum over all processes is
    what they use together; None where the rights do not show it. `rss_peak_bytes` is the highest
    resident size since the process started, or since it last executed a program.
    """

    pss_bytes: int | None
    private_bytes: int | None
    rss_bytes: int
    rss_peak_bytes: int


def memory(pid: int) -> MemorySample:
    """The memory of a process; ProcessLookupError if there is none such.

    Walks the process's page tables, some 0.3 ms in which it cannot map memory: take it at the ends
    of a trial, not within.
    """
    root = Path(f"/proc/{pid}")
    try:
        status = dict(_KB.findall((root / "status").read_text()))
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(f"process {pid} is gone") from None
    if "VmRSS" not in status:
        raise ProcessLookupError(f"process {pid} is a zombie or has no memory")
    try:
        rollup = dict(_KB.findall((root / "smaps_rollup").read_text()))
    except (PermissionError, FileNotFoundError, ProcessLookupError):
        rollup = {}
    private = [rollup[key] for key in ("Private_Clean", "Private_Dirty") if key in rollup]
    return MemorySample(
        pss_bytes=int(rollup["Pss"]) << 10 if "Pss" in rollup else None,
        private_bytes=sum(map(int, private)) << 10 if private else None,
        rss_bytes=int(status["VmRSS"]) << 10,
        rss_peak_bytes=int(status["VmHWM"]) << 10,
    )
