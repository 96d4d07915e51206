"""Where a run happens: the machine, its kernel, the versions, and every device of the testbed.

Values are read, never guessed; what this system does not tell is None or left out. Must not know
what is measured. Sources: proc(5), sysfs(5), netdevice(7), linux/ethtool.h.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import re
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Final

from testbed.kernel.netns import run_in

_SYSCTLS: Final = (
    "net.core.rmem_max",
    "net.core.wmem_max",
    "net.core.netdev_max_backlog",
    "net.core.netdev_budget",
    "net.core.busy_poll",
    "net.core.bpf_jit_enable",
    "kernel.sched_rt_runtime_us",
    "kernel.timer_migration",
)
_DISTRIBUTIONS: Final = ("vanet-testbed", "numpy", "scipy", "scapy", "pyroute2", "pydantic")

_SIOCETHTOOL: Final = 0x8946
_SIOCGIFMTU: Final = 0x8921
_SIOCGIFHWADDR: Final = 0x8927
_SIOCGIFTXQLEN: Final = 0x8942
_ETHTOOL_GDRVINFO: Final = 0x3
_OFFLOADS: Final = {
    "rx-checksum": 0x14,
    "tx-checksum": 0x16,
    "scatter-gather": 0x18,
    "tso": 0x1E,
    "gso": 0x23,
    "gro": 0x2B,
}
"""The offloads that ethtool(8) has had a command for since they exist, by that command."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """The machine as it was before the run; `load_average` over 1, 5 and 15 minutes."""

    kernel: str
    architecture: str
    cpu_model: str
    cpus: int
    cpu_governor: str | None
    mitigations: dict[str, str]
    memory_total_bytes: int
    virtualisation: str | None
    python: str
    versions: dict[str, str]
    clock_source: str | None
    perf_event_paranoid: int | None
    sysctls: dict[str, str]
    load_average: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkDevice:
    """A device as it was when the run began. `queue_length` is in packets."""

    node: str
    name: str
    kind: str
    mtu: int
    queue_length: int
    mac: str
    offloads: dict[str, bool]


def machine() -> Machine:
    """Looks at this machine; takes a few milliseconds."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    paranoid = _read("/proc/sys/kernel/perf_event_paranoid")
    return Machine(
        kernel=platform.release(),
        architecture=platform.machine(),
        cpu_model=_cpu_model(cpuinfo),
        cpus=os.cpu_count() or 1,
        cpu_governor=_read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        mitigations=_mitigations(),
        memory_total_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        virtualisation=_virtualisation(cpuinfo),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        versions=dict(_versions()),
        clock_source=_read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        perf_event_paranoid=None if paranoid is None else int(paranoid),
        sysctls={
            name: text
            for name in _SYSCTLS
            if (text := _read("/proc/sys/" + name.replace(".", "/"))) is not None
        },
        load_average=os.getloadavg(),
    )


def devices(namespaces: Iterable[tuple[str, str]]) -> tuple[NetworkDevice, ...]:
    """The devices in these namespaces, given as (node, namespace); loopback is left out."""
    found: list[NetworkDevice] = []
    for node, netns in namespaces:
        found += run_in(netns, partial(_devices_here, node))
    return tuple(found)


def _devices_here(node: str) -> list[NetworkDevice]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        names = [name for _, name in socket.if_nameindex() if name != "lo"]
        return [_device(sock, node, name) for name in names]


def _device(sock: socket.socket, node: str, name: str) -> NetworkDevice:
    def ask(request: int) -> bytes:
        return fcntl.ioctl(sock, request, struct.pack("16s24x", name.encode()))[16:]

    offloads = {}
    for what, command in _OFFLOADS.items():
        found = _ethtool(sock, name, struct.pack("II", command, 0))
        if found is not None:
            offloads[what] = bool(struct.unpack("II", found)[1])
    driver = _ethtool(sock, name, struct.pack("I192x", _ETHTOOL_GDRVINFO))
    return NetworkDevice(
        node=node,
        name=name,
        kind="" if driver is None else driver[4:36].split(b"\0")[0].decode(),
        mtu=int(struct.unpack("i", ask(_SIOCGIFMTU)[:4])[0]),
        queue_length=int(struct.unpack("i", ask(_SIOCGIFTXQLEN)[:4])[0]),
        mac=ask(_SIOCGIFHWADDR)[2:8].hex(":"),
        offloads=offloads,
    )


def _ethtool(sock: socket.socket, name: str, request: bytes) -> bytes | None:
    """The answer to an ethtool request; None where the device has none."""
    data = ctypes.create_string_buffer(request, len(request))
    try:
        fcntl.ioctl(
            sock, _SIOCETHTOOL, struct.pack("16sP16x", name.encode(), ctypes.addressof(data))
        )
    except OSError:
        return None
    return data.raw


def _cpu_model(cpuinfo: str) -> str:
    for key in ("model name", "Model", "cpu model", "Processor"):
        found = re.search(rf"^{key}\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
        if found:
            return " ".join(found[1].split())
    return platform.processor() or platform.machine()


def _mitigations() -> dict[str, str]:
    folder = Path("/sys/devices/system/cpu/vulnerabilities")
    if not folder.is_dir():
        return {}
    return {path.name: _read(str(path)) or "" for path in sorted(folder.iterdir())}


def _virtualisation(cpuinfo: str) -> str | None:
    """What it runs in, as far as the machine tells; None on bare metal."""
    names = [
        text
        for path in ("/sys/hypervisor/type", "/sys/class/dmi/id/sys_vendor")
        if (text := _read(path))
    ]
    if re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.MULTILINE):
        return ", ".join(names) or "some hypervisor"
    return None


def _versions() -> Iterator[tuple[str, str]]:
    for name in _DISTRIBUTIONS:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue


def _read(path: str) -> str | None:
    try:
        return " ".join(Path(path).read_text().split())
    except (OSError, UnicodeDecodeError):
        return None
