"""What of the machine around the kernel can be looked up: rights, programs, processors, limits.

Nothing here makes anything. Must not know who needs what.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from testbed.doctor.isolation import Unavailable
from testbed.kernel import limits

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


def room(name: str, nodes: int) -> Callable[[], str]:
    """A probe for one of the limits (`testbed.kernel.limits`) that `nodes` nodes meet."""

    def look() -> str:
        (limit,) = (limit for limit in limits.check(nodes) if limit.name == name)
        have = "without limit" if limit.have is None else f"{limit.have} {limit.unit} left"
        if not limit.kept:
            raise Unavailable(f"{have}, {limit.need} needed")
        return have

    return look
