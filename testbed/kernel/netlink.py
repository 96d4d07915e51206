"""Namespaces, cables, ports and hearing as the kernel has them: made, changed and removed.

The only module that knows pyroute2. Must not know topologies, journals or processes: it does one
operation when told to, and whoever tells it has written that down before.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from pyroute2.iproute.linux import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.linux import netif
from testbed.errors import Lacking
from testbed.kernel import netns
from testbed.kernel.hearing import KernelError, MediumPorts
from testbed.kernel.operations import Hear, MakeCable, MakeNamespace, MakePort
from testbed.topology.model import RADIO_INTERFACE

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
        self._mediums: dict[str, MediumPorts] = {}

    def close(self) -> None:
        """Let go of sockets; a socket would keep the namespace of a removed medium alive."""
        self._route.close()
        for ports in self._mediums.values():
            ports.close()
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
        self.make_veth(
            (a, RADIO_INTERFACE, operation.mac[0]),
            (b, RADIO_INTERFACE, operation.mac[1]),
            mtu=operation.mtu,
        )
        netns.run_in(a, _start_radio)
        netns.run_in(b, _start_radio)

    def make_port(self, operation: MakePort) -> None:
        """Make the radio of a node and its port in the medium, which nobody hears yet."""
        self.make_veth(
            (operation.netns, RADIO_INTERFACE, operation.mac),
            (operation.medium, operation.port, _port_mac(operation.port)),
            mtu=operation.mtu,
        )
        netns.run_in(operation.netns, _start_radio)
        netns.run_in(operation.medium, lambda: netif.set_up(operation.port))
        self._medium(operation.medium).prepare(operation.port)

    def make_veth(self, near: tuple[str, str, str], far: tuple[str, str, str], *, mtu: int) -> None:
        """Make a veth pair of two ends (namespace, interface, MAC), both still down.

        :raises KernelError: a name is taken, or the kernel refused.
        """
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
        return remove_link(namespace, RADIO_INTERFACE)

    def remove_port(self, medium: str, port: str) -> bool:
        """Remove a port of the medium and with it the radio behind it; False if there is none."""
        return remove_link(medium, port)

    def hear(self, operation: Hear) -> None:
        """Let exactly these peers hear what comes in at the port; see `set_hearing`."""
        self.set_hearing(operation.medium, operation.port, operation.peers)

    def set_hearing(self, medium: str, port: str, peers: tuple[str, ...]) -> None:
        """From the next frame on, exactly the ports `peers` hear what comes in at `port`.

        Each frame meets the old set or the new one: none is lost or doubled by the change.

        :raises KernelError: a port is not there, or the kernel refused.
        """
        self._medium(medium).set_hearing(port, peers)

    def _medium(self, medium: str) -> MediumPorts:
        ports = self._mediums.get(medium)
        if ports is None:
            ports = self._mediums[medium] = MediumPorts(medium)
        return ports

    def forget_medium(self, medium: str) -> None:
        """Let go of the sockets in a medium that is being removed."""
        ports = self._mediums.pop(medium, None)
        if ports is not None:
            ports.close()

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


def remove_link(namespace: str, interface: str) -> bool:
    """Remove an interface, a veth with its other end; False if there is none of that name."""

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
