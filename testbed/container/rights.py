"""What a container needs to run a testbed, by name, and nothing beyond it.

What is needed was found by leaving it out: a run then fails, or its nodes do. Must not know any
engine; the names are those of capabilities(7), seccomp(2) and proc(5).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Final


@dataclass(frozen=True, kw_only=True, slots=True)
class Capability:
    """One of capabilities(7), without CAP_. Nothing runs without those that are `needed`."""

    name: str
    used_for: str
    needed: bool = True


CAPABILITIES: Final = (
    Capability(name="NET_ADMIN", used_for="interfaces, filters, sysctls of namespaces"),
    Capability(name="NET_RAW", used_for="packet sockets"),
    Capability(name="SYS_ADMIN", used_for="namespaces, mounts, counters, BPF"),
    Capability(name="SYS_PTRACE", used_for="a look at nodes of another user"),
    Capability(name="SETUID", used_for="nodes as an unprivileged user"),
    Capability(name="SETGID", used_for="nodes as an unprivileged user"),
    Capability(name="CHOWN", used_for="a directory for each node's user"),
    Capability(name="DAC_OVERRIDE", used_for="files of each node's user"),
    Capability(name="KILL", used_for="stopping nodes of another user"),
    Capability(name="SYS_NICE", used_for="a tester in real time; node_cpu", needed=False),
    Capability(name="SYS_CHROOT", used_for="nodes that can make no user namespace", needed=False),
    Capability(name="SETPCAP", used_for="nodes that can never get rights again", needed=False),
    Capability(name="IPC_LOCK", used_for="locked memory of rings beyond the limit", needed=False),
)

DEVICES: Final = ("/dev/net/tun",)

READ_ONLY_PATHS: Final = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sysrq-trigger",
    *(f"/proc/sys/{area}" for area in ("abi", "debug", "dev", "fs", "kernel", "user", "vm")),
)
"""What an engine shows read-only by itself, but for /proc/sys/net, which nodes are set up by."""

REFUSED_CALLS: Final = (
    "acct",
    "add_key",
    "clock_adjtime",
    "clock_settime",
    "delete_module",
    "finit_module",
    "init_module",
    "ioperm",
    "iopl",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "open_by_handle_at",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "request_key",
    "settimeofday",
    "swapoff",
    "swapon",
    "userfaultfd",
)
"""Of what an engine refuses by itself all that no testbed uses. io_uring, which engines refuse
today, is one of the things that are measured."""


REAL_TIME_US: Final = 950_000
"""Of each second of each CPU. Where the kernel shares real time out among control groups
(CONFIG_RT_GROUP_SCHED), a container has none by itself, whatever its capabilities; this is all that
a kernel gives to anybody (sched(7))."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rights:
    """What one container gets. `without` names capabilities that this engine does not give."""

    privileged: bool = False
    capabilities: tuple[Capability, ...] = CAPABILITIES
    real_time_us: int | None = REAL_TIME_US
    without: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The capabilities to ask for."""
        return [one.name for one in self.capabilities if one.name not in self.without]

    def can_spare(self, name: str) -> bool:
        """Whether a testbed works, if with less, where that capability is not to be had."""
        return any(one.name == name and not one.needed for one in self.capabilities)

    def spare(self, name: str) -> Rights:
        """The same without that capability."""
        return replace(self, without=(*self.without, name))

    def seccomp(self) -> dict[str, Any]:
        """The profile, in the form of the OCI runtime specification as Docker reads it."""
        refused: Collection[str] = REFUSED_CALLS
        return {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": list(refused), "action": "SCMP_ACT_ERRNO"}],
        }
