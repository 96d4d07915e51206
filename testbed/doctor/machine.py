"""What of the machine around the kernel can be looked up: rights, programs, processors, limits.

Nothing here makes anything. Must not know who needs what.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from testbed.doctor.isolation import Unavailable

# linux/capability.h
CAPABILITIES = {
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_NET_ADMIN": 12,
    "CAP_NET_RAW": 13,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
}
"""What `up` and `run` use of root's capabilities."""

LEAST_OPEN_FILES = 1024
LEAST_PROCESSORS = 2
_ENGINE_TIMEOUT_S = 5.0


def root() -> str:
    if os.geteuid() != 0:
        raise Unavailable(f"running as user {os.geteuid()}")
    return ""


def capabilities() -> str:
    """Root in a container has fewer than root outside."""
    held = 0
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            held = int(line.split()[1], 16)
    missing = [name for name, bit in CAPABILITIES.items() if not held >> bit & 1]
    if missing:
        raise Unavailable("missing: " + ", ".join(missing))
    return ", ".join(name.removeprefix("CAP_").lower() for name in CAPABILITIES)


def program(name: str) -> Callable[[], str]:
    """A probe for a program on the PATH."""

    def look() -> str:
        path = shutil.which(name)
        if path is None:
            raise Unavailable("not on the PATH")
        return path

    return look


def container_engine() -> str:
    """A Docker engine that answers the client."""
    if shutil.which("docker") is None:
        raise Unavailable("there is no docker client")
    try:
        done = subprocess.run(
            ("docker", "version", "--format", "{{.Server.Version}}"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_ENGINE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"no answer within {_ENGINE_TIMEOUT_S:g} s") from error
    if done.returncode != 0:
        raise Unavailable(_last_line(done.stderr) or f"docker version ended with {done.returncode}")
    return f"version {done.stdout.strip()}"


def _last_line(text: str) -> str:
    lines: Sequence[str] = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def processors() -> str:
    """One for the node under test, one for the generator and the sink."""
    usable = len(os.sched_getaffinity(0))
    if usable < LEAST_PROCESSORS:
        raise Unavailable(f"{usable} usable")
    return f"{usable} usable"


def open_files() -> str:
    """Descriptors: a launcher keeps a few for each of its nodes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < LEAST_OPEN_FILES:
        raise Unavailable(f"at most {soft}")
    return f"{soft} (hard limit {hard})"


def neighbour_table() -> str:
    """IPv4 neighbours that one network namespace keeps before it forgets (gc_thresh3)."""
    return Path("/proc/sys/net/ipv4/neigh/default/gc_thresh3").read_text().strip()


def memory() -> str:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return f"{int(line.split()[1]) // 1024} MiB available"
    raise Unavailable("/proc/meminfo does not say")


def processes() -> str:
    """Processes and threads that may run at once: each node is one."""
    return f"{_number('/proc/sys/kernel/pid_max')} process numbers"


def _number(path: str) -> int:
    return int(Path(path).read_text())
