"""What an agent is told before it starts: one frozen value, complete and already checked for form.

Must not know how the values were given (command line, launcher, test) nor open anything: whether
an interface exists or an address is free is found out by :mod:`agent.runtime`.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final, Literal

from agent.errors import ConfigError

Kind = Literal["obu", "rsu"]
HandlerName = Literal["auto", "per-packet", "batched"]
GroupCopies = Literal["reference", "addressed"]
Coalesce = Literal["off", "fixed", "adaptive"]

HANDLERS: Final[tuple[HandlerName, ...]] = ("auto", "per-packet", "batched")
GROUP_COPIES: Final[tuple[GroupCopies, ...]] = ("reference", "addressed")
COALESCE: Final[tuple[Coalesce, ...]] = ("off", "fixed", "adaptive")

DEFAULT_MTU: Final = 1436
DEFAULT_HELLO_HISTORY: Final = 10
DEFAULT_CACHED_CANDIDATES: Final = 3
DEFAULT_HELLO_PERIODICITY_MS: Final = 5000
DEFAULT_BATCH: Final = 32
MAX_BATCH: Final = 256
MAX_WAIT_US: Final = 10_000
SLOW_VARIABLE: Final = "TESTBED_AGENT_SLOW_US"
"""In the environment, for tests: microseconds of CPU that an agent wastes for each frame."""
IFNAME_MAX: Final = 15
"""Longest interface name: IFNAMSIZ less the closing zero (if.h)."""

_IFNAME = re.compile(r"[^\s/:%\x00]{1,15}")


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentConfig:
    """Everything one agent needs to know.

    `ip` holds addresses of the TAP with or without a prefix length ("10.0.0.2/24", "fd00::2");
    a bare address gets /24 or /64. `mtu` is the TAP's. `hello_periodicity_ms` is an RSU's alone
    and None elsewhere. `max_wait_us` bounds the time a frame may wait for others, and `coalesce`
    says how they wait: None is "fixed" where there is such a time, else "off". `adaptive_batch`
    lets the batch size follow the load between two sizes, in place of `batch`.
    `metrics` is an address and port on which HTTP serves what is counted, None for no such thing.
    `run_as` is (uid, gid) taken on once every descriptor is open; None drops capabilities only.
    `event_fd` is a descriptor for JSON lines about what happens, `root_fd` one of a tree of mounts
    that is to be the root (agent.linux.mounttree), None for one of its own; `quiet_tap` keeps IPv6
    duplicate address detection, router solicitation and link-local addresses off the TAP.

    :raises ConfigError: a value is not of the form wanted.
    """

    kind: Kind
    bind: str
    tap_name: str | None = None
    ip: tuple[str, ...] = ()
    mtu: int = DEFAULT_MTU
    hello_history: int = DEFAULT_HELLO_HISTORY
    cached_candidates: int = DEFAULT_CACHED_CANDIDATES
    hello_periodicity_ms: int | None = None
    name: str = ""
    handler: HandlerName = "auto"
    wire_engine: str = "auto"
    tap_engine: str = "auto"
    batch: int = DEFAULT_BATCH
    adaptive_batch: tuple[int, int] | None = None
    coalesce: Coalesce | None = None
    max_wait_us: int = 0
    group_copies: GroupCopies = "reference"
    tap_mac: str | None = None
    control_path: str | None = None
    metrics: str | None = None
    stats_path: str | None = None
    run_as: tuple[int, int] | None = None
    event_fd: int | None = None
    root_fd: int | None = None
    quiet_tap: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ("obu", "rsu"):
            raise ConfigError(f"kind: got {self.kind!r}; expected obu or rsu")
        check_interface_name("bind", self.bind)
        if self.tap_name is not None:
            check_interface_name("tap name", self.tap_name)
            if self.tap_name == self.bind:
                raise ConfigError(f"tap name: {self.tap_name!r} is the radio interface's name")
        for text in self.ip:
            tap_address(text)
        _check_range("mtu", self.mtu, 68, 65_000)
        _check_range("hello history", self.hello_history, 1, 100_000)
        _check_range("cached candidates", self.cached_candidates, 1, 10_000)
        _check_range("batch", self.batch, 1, MAX_BATCH)
        _check_range("max wait", self.max_wait_us, 0, MAX_WAIT_US)
        if self.coalesce is not None and self.coalesce not in COALESCE:
            raise ConfigError(f"coalesce: got {self.coalesce!r}; expected one of {COALESCE}")
        if self.adaptive_batch is not None:
            _check_sizes(self.adaptive_batch)
        if self.metrics is not None:
            metrics_address(self.metrics)
        if self.hello_periodicity_ms is not None:
            _check_range("hello periodicity", self.hello_periodicity_ms, 1, 86_400_000)
        if self.handler not in HANDLERS:
            raise ConfigError(f"handler: got {self.handler!r}; expected one of {HANDLERS}")
        if self.group_copies not in GROUP_COPIES:
            raise ConfigError(
                f"group copies: got {self.group_copies!r}; expected one of {GROUP_COPIES}"
            )
        if self.tap_mac is not None:
            mac_bytes(self.tap_mac)

    @property
    def coalescing(self) -> Coalesce:
        """How frames wait for others."""
        if self.coalesce is not None:
            return self.coalesce
        return "fixed" if self.max_wait_us else "off"

    @property
    def batch_limit(self) -> int:
        """The most frames that one batch may have."""
        return self.batch if self.adaptive_batch is None else self.adaptive_batch[1]


def _check_sizes(sizes: tuple[int, int]) -> None:
    for what, size in zip(("least", "greatest"), sizes, strict=True):
        _check_range(f"{what} adaptive batch", size, 1, MAX_BATCH)
    if sizes[0] > sizes[1]:
        raise ConfigError(
            f"adaptive batch: got {sizes[0]}..{sizes[1]}; expected the smaller size first"
        )


def _check_range(what: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{what}: got {value!r}; expected a whole number from {low} to {high}")


def check_interface_name(what: str, name: str) -> None:
    """Raise ConfigError unless the kernel would take `name` for an interface (dev_valid_name)."""
    if len(name.encode()) > IFNAME_MAX:
        raise ConfigError(
            f"{what}: {name!r} is too long for an interface name "
            f"({len(name.encode())} bytes; expected at most {IFNAME_MAX})"
        )
    if name in ("", ".", "..") or not _IFNAME.fullmatch(name):
        raise ConfigError(f"{what}: got {name!r}; expected the name of a network interface")


def tap_address(text: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
    """An address of the TAP with its prefix; /24 or /64 where `text` names none.

    :raises ConfigError: not an address, or one that no host can have.
    """
    try:
        if "/" in text:
            address = ipaddress.ip_interface(text)
        else:
            bare = ipaddress.ip_address(text)
            address = ipaddress.ip_interface(f"{bare}/{24 if bare.version == 4 else 64}")
    except ValueError as error:
        raise ConfigError(
            f"ip: got {text!r}; expected an address such as 10.0.0.2, 10.0.0.2/24 or fd00::2/64"
        ) from error
    if address.ip.is_multicast or address.ip.is_unspecified:
        raise ConfigError(f"ip: {text} is no address that a host can have")
    return address


def batch_sizes(text: str) -> tuple[int, int]:
    """The two sizes in a text such as 8..128.

    :raises ConfigError: another form, or sizes that no batch can have.
    """
    found = re.fullmatch(r"([0-9]{1,6})\.\.([0-9]{1,6})", text, re.ASCII)
    if found is None:
        raise ConfigError(f"adaptive batch: got {text!r}; expected two sizes such as 8..128")
    sizes = int(found[1]), int(found[2])
    _check_sizes(sizes)
    return sizes


def metrics_address(text: str) -> tuple[str, int]:
    """Address and port in a text such as 127.0.0.1:9100, [::1]:9100 or, for every address, :9100.

    :raises ConfigError: another form.
    """
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        if not colon or not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or int(port) > 65535:
            raise ValueError("port")
        if bare and (ipaddress.ip_address(bare).version == 6) != (bare != host):
            raise ValueError("brackets")
    except ValueError as error:
        raise ConfigError(
            f"metrics: got {text!r}; expected an address and a port such as 127.0.0.1:9100, "
            "[::1]:9100 or :9100"
        ) from error
    return bare, int(port)


def mac_bytes(text: str) -> bytes:
    """The six bytes of a unicast MAC written as aa:bb:cc:dd:ee:ff.

    :raises ConfigError: another form, or a group address.
    """
    if not re.fullmatch(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", text):
        raise ConfigError(f"mac: got {text!r}; expected the form 02:00:00:00:00:01")
    raw = bytes.fromhex(text.replace(":", ""))
    if raw[0] & 1 or raw == bytes(6):
        raise ConfigError(f"mac: {text} is no address that one interface can have")
    return raw
