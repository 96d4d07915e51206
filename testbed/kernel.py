"""Namespaces, cables, ports and hearing as the kernel has them: made, changed and removed.

The only module that knows pyroute2. Must not know topologies, journals or processes: it does one
operation when told to, and whoever tells it has written that down before.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from pyroute2.iproute.linux import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.linux import netif
from testbed import netns, tcmessages
from testbed.errors import Lacking, TestbedError
from testbed.model import RADIO_INTERFACE
from testbed.plan import Hear, MakeCable, MakeNamespace, MakePort

_SIOCGIFINDEX: Final = 0x8933
_NETLINK_CAP_ACK: Final = 10
_NETLINK_EXT_ACK: Final = 11
_SOL_NETLINK: Final = 270
_NLMSG_ERROR: Final = 2
_NLMSGERR_ATTR_MSG: Final = 1

# Interfaces made in a node's namespace say nothing of their own accord: no router solicitation, no
# link-local address, no detection of duplicates. What is heard in there, the node itself has sent.
_QUIET: Final = (
    ("accept_ra", "0"),
    ("accept_dad", "0"),
    ("addr_gen_mode", "1"),
    ("autoconf", "0"),
    ("dad_transmits", "0"),
    ("router_solicitations", "0"),
)


class KernelError(TestbedError):
    """The kernel refused an operation."""


@dataclass(slots=True)
class _MediumSockets:
    netlink: socket.socket
    lookup: socket.socket

    def index_of(self, port: str) -> int:
        # Asked through a socket that was made in there: netdevice(7) answers for its namespace.
        answer = fcntl.ioctl(self.lookup, _SIOCGIFINDEX, struct.pack("16s24x", port.encode()))
        return int(struct.unpack_from("=i", answer, 16)[0])

    def close(self) -> None:
        self.netlink.close()
        self.lookup.close()


def _set(path: str, value: str) -> None:
    try:
        Path(path).write_text(value)
    except OSError as error:
        if error.errno == errno.EROFS:
            raise Lacking(
                f"{path} is read-only", "in a container, mount /proc/sys for writing"
            ) from error
        raise


def _set_ipv6(interface: str, option: str, value: str) -> None:
    """An option of IPv6 in the namespace of the calling thread; nothing if it has no IPv6."""
    with suppress(FileNotFoundError):
        _set(f"/proc/sys/net/ipv6/conf/{interface}/{option}", value)


class Kernel:
    """Does operations. Close it, or use it in `with`; what it made stays."""

    def __init__(self) -> None:
        """Open what operations need; nothing is made."""
        self._route: Any = IPRoute()
        self._mediums: dict[str, _MediumSockets] = {}

    def close(self) -> None:
        """Let go of sockets; a socket would keep the namespace of a removed medium alive."""
        self._route.close()
        for sockets in self._mediums.values():
            sockets.close()
        self._mediums.clear()

    def __enter__(self) -> Kernel:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def make_namespace(
        self, operation: MakeNamespace, *, mark: str, record: Callable[[int], None]
    ) -> int:
        """Make a namespace, quiet and with its loopback up; returns its inode.

        The loopback's alias becomes `mark`, by which the namespace is known as ours without any
        file. `record(inode)` is called before the namespace can be seen by name.

        :raises ForeignNamespace: the name is taken. :raises Lacking: see `netns.create`.
        """

        def prepare() -> None:
            for option, value in _QUIET:
                _set_ipv6("default", option, value)
            if operation.medium:
                _set_ipv6("all", "disable_ipv6", "1")
                _set_ipv6("default", "disable_ipv6", "1")
            try:
                with IPRoute() as inside:
                    inside.link("set", index=1, ifalias=mark, state="up")
            except NetlinkError as error:
                raise KernelError(f"loopback of {operation.netns}: {error}") from error

        return netns.create(operation.netns, prepare=prepare, record=record)

    def make_cable(self, operation: MakeCable) -> None:
        """Make a veth pair with its ends as the radios of two namespaces, and switch it on."""
        a, b = operation.netns
        self._make_veth(
            (a, RADIO_INTERFACE, operation.mac[0]),
            (b, RADIO_INTERFACE, operation.mac[1]),
            mtu=operation.mtu,
        )
        netns.run_in(a, _start_radio)
        netns.run_in(b, _start_radio)

    def make_port(self, operation: MakePort) -> None:
        """Make the radio of a node and its port in the medium, which nobody hears yet."""
        self._make_veth(
            (operation.netns, RADIO_INTERFACE, operation.mac),
            (operation.medium, operation.port, _port_mac(operation.port)),
            mtu=operation.mtu,
        )
        netns.run_in(operation.netns, _start_radio)
        netns.run_in(operation.medium, lambda: netif.set_up(operation.port))
        sockets = self._medium(operation.medium)
        _talk(
            sockets.netlink,
            tcmessages.prepare_port(sockets.index_of(operation.port)),
            operation.port,
        )

    def _make_veth(
        self, near: tuple[str, str, str], far: tuple[str, str, str], *, mtu: int
    ) -> None:
        descriptors = [
            os.open(netns.namespace_path(end[0]), os.O_RDONLY | os.O_CLOEXEC) for end in (near, far)
        ]
        try:
            ends: list[dict[str, Any]] = [
                {"ifname": interface, "address": mac, "mtu": mtu, "net_ns_fd": descriptor}
                for (_, interface, mac), descriptor in zip((near, far), descriptors, strict=True)
            ]
            self._route.link("add", kind="veth", **ends[0], peer=ends[1])
        except NetlinkError as error:
            raise KernelError(f"veth {near[0]} – {far[0]} {far[1]}: {error}") from error
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def remove_radio(self, namespace: str) -> bool:
        """Remove the radio of a node and with it its other end; False if there is none."""
        return _remove_link(namespace, RADIO_INTERFACE)

    def remove_port(self, medium: str, port: str) -> bool:
        """Remove a port of the medium and with it the radio behind it; False if there is none."""
        return _remove_link(medium, port)

    def hear(self, operation: Hear) -> None:
        """Let exactly these peers hear what comes in at the port; see `set_hearing`."""
        self.set_hearing(operation.medium, operation.port, operation.peers)

    def set_hearing(self, medium: str, port: str, peers: tuple[str, ...]) -> None:
        """From the next frame on, exactly the ports `peers` hear what comes in at `port`.

        Each frame meets the old set or the new one: none is lost or doubled by the change.

        :raises KernelError: a port is not there, or the kernel refused.
        """
        sockets = self._medium(medium)
        try:
            interface = sockets.index_of(port)
            listeners = [sockets.index_of(peer) for peer in peers]
        except OSError as error:
            raise KernelError(f"{medium}: a port among {port}, {peers}: {error.strerror}") from None
        old = _chains(sockets.netlink, interface)
        # Never one that was in use a moment ago: the kernel lets go of a chain in its own time.
        new = max(old, default=0) % tcmessages.LAST_CHAIN + 1
        what = f"{medium} {port}"
        _talk(sockets.netlink, tcmessages.set_peers(interface, listeners, chain=new), what)
        for chain in old:
            # For the same reason one may be listed and be gone when it is to be removed.
            with suppress(KernelError):
                if chain:
                    _talk(sockets.netlink, [tcmessages.drop_chain(interface, chain)], what)

    def _medium(self, medium: str) -> _MediumSockets:
        sockets = self._mediums.get(medium)
        if sockets is None:
            sockets = self._mediums[medium] = netns.run_in(medium, _open_medium)
        return sockets

    def forget_medium(self, medium: str) -> None:
        """Let go of the sockets in a medium that is being removed."""
        sockets = self._mediums.pop(medium, None)
        if sockets is not None:
            sockets.close()

    def read_mark(self, namespace: str) -> str | None:
        """The alias of the loopback in a namespace; None without one, or without the namespace."""

        def body() -> str | None:
            with IPRoute() as inside:
                (link,) = inside.get_links(1)
                alias: str | None = link.get_attr("IFLA_IFALIAS")
                return alias

        try:
            return netns.run_in(namespace, body)
        except OSError:  # gone meanwhile, or an empty file
            return None


def has_radio(namespace: str) -> bool:
    """Whether there is such a namespace, with a radio in it."""
    try:
        return netns.run_in(namespace, lambda: netif.index(RADIO_INTERFACE)) > 0
    except OSError:
        return False


def _remove_link(namespace: str, interface: str) -> bool:
    def body() -> bool:
        with IPRoute() as inside:
            found = inside.link_lookup(ifname=interface)
            if not found:
                return False
            try:
                inside.link("del", index=found[0])
            except NetlinkError as error:
                raise KernelError(f"{interface} in {namespace} stays: {error}") from error
            return True

    try:
        return netns.run_in(namespace, body)
    except OSError:  # gone, or an empty file that a crash left
        return False


def _port_mac(port: str) -> str:
    """Any address will do that is always the same: no frame is ever sent to or from a port."""
    return (b"\x02\xff" + int(port.removeprefix("p")).to_bytes(4)).hex(":")


def _start_radio() -> None:
    # Nothing but the protocol's frames may come from a radio.
    _set_ipv6(RADIO_INTERFACE, "disable_ipv6", "1")
    netif.set_up(RADIO_INTERFACE)


def _open_medium() -> _MediumSockets:
    netlink = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    )
    for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK):
        netlink.setsockopt(_SOL_NETLINK, option, 1)
    lookup = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    return _MediumSockets(netlink=netlink, lookup=lookup)


def _talk(netlink: socket.socket, messages: list[bytes], what: str) -> None:
    """Send requests one after the other, each acknowledged; the first refusal is raised."""
    for message in messages:
        netlink.send(message)
        answer = netlink.recv(1 << 16)
        kind, number = struct.unpack_from("=4xH10xi", answer)
        if kind != _NLMSG_ERROR:
            raise KernelError(f"{what}: unexpected answer of the kernel, type {kind}")
        if number:
            raise KernelError(f"{what}: {os.strerror(-number)}{_reason(answer)}")


def _reason(answer: bytes) -> str:
    """What the kernel says about an error in words, if it does (NETLINK_EXT_ACK, netlink(7))."""
    if len(answer) < 40:
        return ""
    length, attribute = struct.unpack_from("=HH", answer, 36)
    if attribute != _NLMSGERR_ATTR_MSG:
        return ""
    return f" ({answer[40 : 36 + length].rstrip(bytes(1)).decode(errors='replace')})"


def _chains(netlink: socket.socket, interface: int) -> list[int]:
    netlink.send(tcmessages.list_chains(interface))
    chains: list[int] = []
    last = False
    while not last:
        more, last = tcmessages.parse_chains(netlink.recv(1 << 16))
        chains += more
    return chains
