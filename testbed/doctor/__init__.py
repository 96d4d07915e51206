"""What this kernel, these rights and this machine can do: each tried out, with a remedy if not.

Every probe runs in a child process with namespaces of its own, so nothing is left and nothing of
the host is touched. Must not know how a finding is printed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from testbed.doctor import features, machine
from testbed.doctor.isolation import Outcome, Probe, attempt
from testbed.kernel import limits

__all__ = ["Check", "Finding", "checks", "examine", "lacking"]

ROOM_FOR = 100
"""How many nodes the limits of the machine are held against."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing to find out.

    `needed_by` names the commands that cannot do without it; `used_for` says what it is good for.
    `network`: the probe wants a network namespace of its own around it. `as_root`: without root it
    cannot be tried out, which says nothing about the machine.
    """

    key: str
    title: str
    probe: Probe
    used_for: str
    how_to_get: str
    needed_by: tuple[str, ...] = ()
    network: bool = False
    as_root: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """The answer to a check. `why_not` and `how_to_get` are None where it is available.

    Where it is not `tried`, nothing is known, and there is no remedy but to become root.
    """

    key: str
    title: str
    available: bool
    detail: str
    why_not: str | None
    how_to_get: str | None
    used_for: str
    needed_by: tuple[str, ...]
    tried: bool = True

    def to_json(self) -> dict[str, Any]:
        values: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        return values | {"needed_by": list(self.needed_by)}


_ROOT = "root"
_NOT_TRIED = Outcome(available=False, said="not tried: not root")
_BOTH = ("up", "run")
_DISTRIBUTION_KERNEL = "use a distribution's kernel"


def _package(name: str) -> str:
    return f"apt-get install {name}"


def _program(name: str, package: str, used_for: str) -> Check:
    return Check(
        key=f"program-{name}",
        title=name,
        probe=machine.program(name),
        used_for=used_for,
        how_to_get=_package(package),
    )


_FIXED: tuple[Check, ...] = (
    Check(
        key=_ROOT,
        title="root",
        probe=machine.root,
        needed_by=_BOTH,
        used_for="namespaces and interfaces",
        how_to_get="run it with sudo",
    ),
    Check(
        key="capabilities",
        title="capabilities",
        probe=machine.capabilities,
        as_root=True,
        needed_by=_BOTH,
        used_for="namespaces, interfaces, raw sockets, counters; agents then let go of them",
        how_to_get="in a container: testbed run --container, or what docs/ci.md lists",
    ),
    Check(
        key="namespace",
        title="network namespaces",
        probe=features.network_namespace,
        as_root=True,
        needed_by=_BOTH,
        used_for="every node",
        how_to_get="in a container: --cap-add SYS_ADMIN --security-opt apparmor=unconfined",
    ),
    Check(
        key="veth",
        title="veth pairs",
        probe=features.veth,
        network=True,
        needed_by=_BOTH,
        used_for="radio interfaces",
        how_to_get="modprobe veth",
    ),
    Check(
        key="tap",
        title="TAP interfaces",
        probe=features.tap,
        network=True,
        needed_by=_BOTH,
        used_for="inner traffic of every node",
        how_to_get="modprobe tun; in a container: --device /dev/net/tun",
    ),
    Check(
        key="mirror",
        title="tc ingress, u32, mirred",
        probe=features.mirror,
        network=True,
        needed_by=_BOTH,
        used_for="who hears whom where more than two nodes do",
        how_to_get="modprobe -a sch_ingress cls_u32 act_mirred",
    ),
    Check(
        key="packet-socket",
        title="AF_PACKET with filter",
        probe=features.packet_socket,
        network=True,
        needed_by=_BOTH,
        used_for="the wire side of every agent",
        how_to_get="modprobe af_packet; in a container: --cap-add NET_RAW",
    ),
    Check(
        key="mmsg",
        title="recvmmsg and sendmmsg",
        probe=features.mmsg,
        needed_by=_BOTH,
        used_for="the batching engine mmsg",
        how_to_get=_DISTRIBUTION_KERNEL,
    ),
    Check(
        key="writev",
        title="writev of several frames",
        probe=features.writev,
        network=True,
        used_for="the engine writev, which is there to be compared with",
        how_to_get=_DISTRIBUTION_KERNEL,
    ),
    Check(
        key="syscall-counters",
        title="tracepoint counters",
        probe=features.syscall_counters,
        as_root=True,
        needed_by=("run",),
        used_for="system calls per packet",
        how_to_get="a kernel with CONFIG_FTRACE_SYSCALLS; sysctl kernel.perf_event_paranoid=-1",
    ),
    Check(
        key="software-counters",
        title="perf software counters",
        probe=features.software_counters,
        as_root=True,
        needed_by=("run",),
        used_for="CPU time and context switches",
        how_to_get="sysctl kernel.perf_event_paranoid=-1; in a container: --cap-add PERFMON",
    ),
    Check(
        key="processors",
        title="processors",
        probe=machine.processors,
        needed_by=("run",),
        used_for="tester and node under test on different ones",
        how_to_get="give the machine or the container at least two",
    ),
    Check(
        key="real-time",
        title="real-time scheduling",
        probe=features.real_time,
        as_root=True,
        used_for="a punctual tester; points with node_cpu cannot do without",
        how_to_get="in a container: --cap-add SYS_NICE; where it is refused all the same, "
        "--cpu-rt-runtime=950000 for dockerd and for docker run",
    ),
    Check(
        key="io-uring",
        title="io_uring",
        probe=features.io_uring,
        network=True,
        used_for="the engine uring: batches on a TAP",
        how_to_get="sysctl kernel.io_uring_disabled=0; in a container: --security-opt "
        "seccomp=unconfined",
    ),
    Check(
        key="packet-ring",
        title="AF_PACKET ring",
        probe=features.packet_ring,
        network=True,
        used_for="the engine ring: batches from mapped memory",
        how_to_get=_DISTRIBUTION_KERNEL,
    ),
    Check(
        key="af-xdp",
        title="AF_XDP",
        probe=features.af_xdp,
        network=True,
        used_for="the engine xsk: batches past the network stack",
        how_to_get=f"{_DISTRIBUTION_KERNEL}; in a container: --cap-add SYS_ADMIN",
    ),
    Check(
        key="af-xdp-sending",
        title="AF_XDP for sending",
        probe=features.af_xdp_sending,
        network=True,
        used_for="the engine xsk-tx: frames sent past the queues",
        how_to_get=_DISTRIBUTION_KERNEL,
    ),
    Check(
        key="landlock",
        title="Landlock",
        probe=features.landlock,
        used_for="agents that reach no files, ports or processes beside their own",
        how_to_get="Linux 5.13 or later, with landlock among the security modules (lsm=)",
    ),
    Check(
        key="user-namespaces",
        title="refusing user namespaces",
        probe=features.user_namespaces_refused,
        used_for="agents that cannot have rights again in a user namespace of their own",
        how_to_get="Linux 5.2 or later; in a container: --cap-add SYS_CHROOT",
    ),
    _program("ip", "iproute2", "a look into namespaces by hand"),
    _program("ping", "iputils-ping", "pings by hand in `testbed exec`"),
    _program("iperf3", "iperf3", "TCP by hand in `testbed exec`"),
    _program("tcpdump", "tcpdump", "captures by hand in `testbed exec`"),
    _program("cc", "gcc libc6-dev", "the floor of `testbed bench engines`"),
    _program("docker", "docker.io", "building the image"),
    Check(
        key="container-engine",
        title="container engine",
        probe=machine.container_engine,
        used_for="building the image, and `run --container`",
        how_to_get=f"{_package('docker.io')}; systemctl start docker",
    ),
)


def checks() -> tuple[Check, ...]:
    """Everything there is to find out here."""
    return _FIXED + tuple(
        Check(
            key="room-" + limit.name.split(" (")[0].replace(" ", "-"),
            title=limit.name,
            probe=machine.room(limit.name, ROOM_FOR),
            used_for=f"room for {ROOM_FOR} nodes",
            how_to_get=limit.how_to_raise,
        )
        for limit in limits.check(ROOM_FOR)
    )


def examine(checks: Sequence[Check]) -> Iterator[Finding]:
    """Try each check out, one after the other, and yield what was found as soon as it is known.

    Without root, as the check of that name has found, others are not tried that want it.
    """
    root = True
    for check in checks:
        tried = root or not (check.network or check.as_root)
        outcome = (
            attempt(check.probe, network=check.network, timeout_s=10.0) if tried else _NOT_TRIED
        )
        if check.key == _ROOT:
            root = outcome.available
        yield Finding(
            key=check.key,
            title=check.title,
            available=outcome.available,
            detail=outcome.said if outcome.available else "",
            why_not=None if outcome.available else outcome.said,
            how_to_get=check.how_to_get if tried and not outcome.available else None,
            used_for=check.used_for,
            needed_by=check.needed_by,
            tried=tried,
        )


def lacking(findings: Sequence[Finding]) -> list[Finding]:
    """Those without which some command cannot work, as far as that could be found out."""
    return [
        finding
        for finding in findings
        if finding.tried and not finding.available and finding.needed_by
    ]
