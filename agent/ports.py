"""Opening the two sides of a node: the radio's packet socket and the TAP.

Turns what the kernel refuses into errors that say what to do. Must not know engines' inner
workings or the protocol beyond its EtherType and overhead.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from agent.config import AgentConfig, mac_bytes, tap_address
from agent.engines.base import Port, Side
from agent.errors import AgentError, ConfigError, LackingError
from agent.linux import bpf, netif, packet, queues, tap

__all__ = ["Port", "TapPort", "WirePort", "open_tap", "open_wire"]

log = logging.getLogger("agent")

HEADER_BYTES: Final = 14
OVERHEAD_BYTES: Final = 28
"""In front of an inner frame on its way downstream, Ethernet header included."""
_QUIET: Final = {"accept_dad": 0, "dad_transmits": 0, "router_solicitations": 0, "addr_gen_mode": 1}
_AS_ROOT: Final = "run it as root"


@dataclass(kw_only=True, slots=True)
class WirePort:
    """The radio side; `frame_limit` in bytes, Ethernet header included."""

    port: Port
    sock: socket.socket
    mac: bytes
    mtu: int
    _drops: int = field(default=0)

    @property
    def frame_limit(self) -> int:
        return self.port.frame_limit

    def kernel_drops(self) -> int:
        """Frames that the socket had no room for, since it was opened."""
        self._drops += packet.packet_statistics(self.sock)[1]
        return self._drops

    def queues(self) -> dict[str, queues.Depth] | None:
        """What the socket holds, received and to be sent; None where the kernel does not tell."""
        try:
            receive, send = queues.depths(self.sock)
        except OSError:
            return None
        return {"receive": receive, "send": send}


@dataclass(frozen=True, kw_only=True, slots=True)
class TapPort:
    """The node's own network device."""

    port: Port

    def kernel_drops(self) -> int:
        """Frames that the device dropped in either direction, since it was made."""
        try:
            counters = netif.counters(self.port.ifname)
        except OSError:
            return 0
        return counters.rx_dropped + counters.tx_dropped

    def queues(self) -> dict[str, queues.Depth] | None:
        """None: the kernel tells nobody how many frames wait in a TAP."""
        return None


@contextmanager
def open_wire(ifname: str) -> Iterator[WirePort]:
    """A packet socket on the radio interface that hears what is for this node.

    :raises ConfigError: no such interface, or none with MAC addresses.
    :raises LackingError: CAP_NET_RAW.
    """
    try:
        netif.index(ifname)
    except OSError as error:
        raise ConfigError(f"bind: no interface {ifname!r} in this network namespace") from error
    try:
        mac = netif.mac(ifname)
    except OSError as error:
        raise ConfigError(f"bind: {ifname!r} is no Ethernet interface") from error
    if mac == bytes(6):
        raise ConfigError(f"bind: {ifname!r} has no MAC address of its own")
    mtu = netif.mtu(ifname)
    try:
        sock = packet.open_packet_socket(ifname, filter=bpf.own_or_group_filter())
    except PermissionError as error:
        raise LackingError(f"no right to open a packet socket (CAP_NET_RAW): {_AS_ROOT}") from error
    except OSError as error:
        raise AgentError(f"cannot open a packet socket on {ifname}: {error.strerror}") from error
    if not netif.flags(ifname) & netif.IFF_UP:
        log.warning("%s is down: nothing will be heard until it is up", ifname)
    with sock:
        port = Port(side=Side.WIRE, fd=sock.fileno(), ifname=ifname, frame_limit=mtu + HEADER_BYTES)
        yield WirePort(port=port, sock=sock, mac=mac, mtu=mtu)


@contextmanager
def open_tap(config: AgentConfig, radio: WirePort) -> Iterator[TapPort]:
    """The TAP, made, addressed and up; it is gone when the context ends.

    Frames are read up to the size that the radio can carry, and one byte more.

    :raises ConfigError: name or address taken, or a value that the kernel refuses.
    :raises LackingError: /dev/net/tun or CAP_NET_ADMIN.
    """
    addresses = [tap_address(text) for text in config.ip]
    if addresses:
        in_use = netif.addresses()
        for address in addresses:
            if address.ip in in_use:
                raise ConfigError(
                    f"ip: {address.ip} is already in use on {in_use[address.ip]} "
                    "in this network namespace"
                )
    if config.mtu + OVERHEAD_BYTES > radio.mtu:
        log.warning(
            "a TAP MTU of %d does not fit a radio MTU of %d (overhead %d): "
            "longer frames will be dropped",
            config.mtu,
            radio.mtu,
            OVERHEAD_BYTES,
        )
    fd, name = _make_tap(config.tap_name)
    try:
        with _refused(f"tap {name}"):
            if config.tap_mac is not None:
                netif.set_mac(name, mac_bytes(config.tap_mac))
            netif.set_mtu(name, config.mtu)
        if config.quiet_tap:
            _silence(name)
        for address in addresses:
            with _refused(f"ip: {address} on {name}"):
                netif.add_address(name, address)
        with _refused(f"tap {name}"):
            netif.set_up(name)
        yield TapPort(port=Port(side=Side.TAP, fd=fd, ifname=name, frame_limit=radio.frame_limit))
    finally:
        os.close(fd)


@contextmanager
def _refused(what: str) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise LackingError(f"{what}: no right to do that (CAP_NET_ADMIN): {_AS_ROOT}") from error
    except OSError as error:
        raise ConfigError(f"{what}: {error.strerror}") from error


def _make_tap(name: str | None) -> tuple[int, str]:
    try:
        return tap.open_tap(name)
    except OSError as error:
        if error.filename == tap.TUN_DEVICE or error.errno in (errno.ENODEV, errno.ENXIO):
            hint = _AS_ROOT if error.errno == errno.EACCES else "load the module: modprobe tun"
            raise LackingError(f"cannot open {tap.TUN_DEVICE}: {error.strerror}: {hint}") from error
        if isinstance(error, PermissionError):
            raise LackingError(f"no right to make a TAP (CAP_NET_ADMIN): {_AS_ROOT}") from error
        if error.errno == errno.EBUSY:
            raise ConfigError(
                f"tap name: there is an interface {name!r} in this network namespace already"
            ) from error
        raise AgentError(f"cannot make a TAP {name or ''}: {error.strerror}") from error


def _silence(name: str) -> None:
    for option, value in _QUIET.items():
        # No IPv6, or /proc/sys read-only as in many containers: then it is as loud as it is.
        with suppress(FileNotFoundError):
            try:
                netif.set_ipv6_option(name, option, value)
            except OSError as error:
                log.warning("%s: cannot set %s: %s", name, option, error.strerror)
