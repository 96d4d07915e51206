"""What this machine allows a testbed of a given size, checked before anything is made.

Must not know topologies, nor change any limit. Sources: getrlimit(2), proc_sys_kernel(5),
namespaces(7), arp(7), cgroups(7).
"""

from __future__ import annotations

import os
import resource
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from testbed.errors import Lacking

DESCRIPTORS_PER_NODE: Final = 3
"""Held by the launcher for a node: its process, its events, its log while it starts."""
MEMORY_PER_NODE_KIB: Final = 8 * 1024
SPARE_DESCRIPTORS: Final = 64
SPARE_MEMORY_KIB: Final = 96 * 1024
"""For the launcher and the command that brings the testbed up."""

_OWN_GROUPS: Final = Path("/proc/self/cgroup")
_GROUPS: Final = Path("/sys/fs/cgroup")
_OF_VERSION_1: Final = {
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    "pids": ("pids.max", "pids.current"),
}
_CAPABILITIES: Final = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_SYS_ADMIN": 21}


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """One limit of the machine. `need` and `have` are in `unit`; `have` None: without limit."""

    name: str
    need: int
    have: int | None
    unit: str
    how_to_raise: str
    fatal: bool = True

    @property
    def kept(self) -> bool:
        """Whether there is enough."""
        return self.have is None or self.need <= self.have

    def __str__(self) -> str:
        have = "unlimited" if self.have is None else f"{self.have} {self.unit}"
        return f"{self.name}: {self.need} {self.unit} needed, {have} left; {self.how_to_raise}"


def _number(path: str) -> int | None:
    """The number in a file; None if there is none, or if it says that there is no limit."""
    try:
        return int(Path(path).read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _memory_left_kib() -> int | None:
    available: int | None = None
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                available = int(line.split()[1])
    except OSError:
        return None
    group = _group_left("memory")
    if group is not None:
        group //= 1024
        return group if available is None else min(available, group)
    return available


def _group_left(controller: Literal["memory", "pids"]) -> int | None:
    """What our control groups have left of something; None without limit or group."""
    try:
        lines = _OWN_GROUPS.read_text().splitlines()
    except OSError:
        return None
    left: int | None = None
    for line in lines:
        _, controllers, own = line.split(":", 2)
        if controllers == "":
            hierarchy, names = _GROUPS, (f"{controller}.max", f"{controller}.current")
        elif controller in controllers.split(","):
            hierarchy, names = _GROUPS / controllers, _OF_VERSION_1[controller]
        else:
            continue
        path = hierarchy / own.lstrip("/")
        while path.is_relative_to(hierarchy):
            most, used = (_number(str(path / name)) for name in names)
            if most is not None and used is not None:
                left = most - used if left is None else min(left, most - used)
            path = path.parent
    return left


def _processes_left() -> int | None:
    running = sum(1 for entry in os.listdir("/proc") if entry.isdigit())
    most = [_number("/proc/sys/kernel/pid_max"), _number("/proc/sys/kernel/threads-max")]
    left = [number - running for number in most if number is not None]
    group = _group_left("pids")
    return min([*left, *([] if group is None else [group])], default=None)


def check(nodes: int) -> list[Limit]:
    """The limits that a testbed of `nodes` nodes meets, kept or not."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return [
        Limit(
            name="open files (RLIMIT_NOFILE)",
            need=DESCRIPTORS_PER_NODE * nodes + SPARE_DESCRIPTORS,
            have=None if hard == resource.RLIM_INFINITY else hard,
            unit="descriptors",
            how_to_raise="raise it with `ulimit -Hn` or LimitNOFILE=",
        ),
        Limit(
            name="memory",
            need=MEMORY_PER_NODE_KIB * nodes + SPARE_MEMORY_KIB,
            have=_memory_left_kib(),
            unit="KiB",
            how_to_raise="free some, or take fewer nodes",
        ),
        Limit(
            name="processes",
            need=nodes + 8,
            have=_processes_left(),
            unit="processes",
            how_to_raise="raise kernel.pid_max, kernel.threads-max or the group's pids.max",
        ),
        Limit(
            name="network namespaces",
            need=nodes + 1,
            have=_number("/proc/sys/user/max_net_namespaces"),
            unit="namespaces",
            how_to_raise="raise user.max_net_namespaces",
        ),
        Limit(
            name="mounts",
            need=nodes + 2,
            have=_mounts_left(),
            unit="mounts",
            how_to_raise="raise fs.mount-max",
        ),
        neighbour_limit(nodes * (nodes - 1)),
    ]


def _mounts_left() -> int | None:
    most = _number("/proc/sys/fs/mount-max")
    if most is None:
        return None
    return most - len(Path("/proc/self/mountinfo").read_text().splitlines())


def neighbour_limit(entries: int) -> Limit:
    """Room for that many entries in the neighbour table, which all namespaces share (arp(7)).

    Not fatal: a testbed comes up without; only traffic between all of many nodes meets it.
    """
    return Limit(
        name="neighbour table (gc_thresh3)",
        need=entries,
        have=_number("/proc/sys/net/ipv4/neigh/default/gc_thresh3"),
        unit="entries",
        how_to_raise="for traffic between all pairs raise net.ipv4.neigh.default.gc_thresh3 "
        "and net.ipv6.neigh.default.gc_thresh3",
        fatal=False,
    )


def require_rights() -> None:
    """Nothing can be made without these.

    :raises Lacking: not root, a capability or /dev/net/tun is missing.
    """
    if os.geteuid() != 0:
        raise Lacking("not root", "run it with sudo")
    status = Path("/proc/self/status").read_text()
    effective = next(
        int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:")
    )
    missing = [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]
    if missing:
        raise Lacking(
            f"no {' and no '.join(missing)}", "in a container, start it with --cap-add for each"
        )
    try:
        found = stat.S_ISCHR(os.stat("/dev/net/tun").st_mode)
    except FileNotFoundError:
        found = False
    if not found:
        raise Lacking(
            "no /dev/net/tun", "`modprobe tun`; in a container, start it with --device /dev/net/tun"
        )


def require(nodes: int) -> list[Limit]:
    """Check what a testbed of `nodes` nodes needs; the limits that only may hurt return.

    :raises Lacking: a limit that it cannot do without, in words.
    """
    short = [limit for limit in check(nodes) if not limit.kept]
    fatal = [limit for limit in short if limit.fatal]
    if fatal:
        raise Lacking("; ".join(str(limit) for limit in fatal))
    return short
