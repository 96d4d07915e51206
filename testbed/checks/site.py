"""The nodes of one variant, with a hand on every TAP and an ear on every radio.

Frames go into TAPs and are taken from TAPs as applications would have it. What nodes put on the air
is heard where it enters the medium: each frame once, by whatever means its sender sent it. Must not
know what is checked, nor any way to ask a node: a node of another make is handled in the same way.
"""

from __future__ import annotations

import errno
import selectors
import socket
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from agent.linux import bpf
from agent.linux.packet import open_packet_socket
from agent.protocol import codec
from agent.protocol.addresses import is_group
from agent.protocol.messages import HeartbeatReply
from testbed.checks import numbered
from testbed.kernel import netns
from testbed.topology.model import TAP_INTERFACE, Topology
from testbed.traffic.sink import probe_filter

_ETH_P_ALL: Final = 3
_ETH_P_IP: Final = 0x0800
_PACKET_OUTGOING: Final = 4
_LONGEST: Final = 65536
_BUFFER_BYTES: Final = 8 << 20
_AGAIN_S: Final = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """A frame that came out of the TAP of `node`, or that `node` put on the air.

    `at_ns` is when it was taken in here (CLOCK_MONOTONIC).
    """

    node: str
    at_ns: int
    frame: bytes


@dataclass(kw_only=True, slots=True)
class Exchange:
    """What came of sending: test frames out of TAPs, data and control on the air, in order."""

    arrived: list[Seen] = field(default_factory=list)
    aired: list[Seen] = field(default_factory=list)
    refused: int = 0
    """Frames that a TAP did not take."""


class Site:
    """One variant's nodes, by the names that `topology` gives them. Close it.

    `namespaces` holds the namespace of each node, `ports` its port in the namespace `medium`.
    """

    def __init__(
        self,
        topology: Topology,
        namespaces: Mapping[str, str],
        *,
        medium: str,
        ports: Mapping[str, str],
    ) -> None:
        """Opens nothing yet."""
        self.topology = topology
        self._namespaces = namespaces
        self._medium = medium
        self._ports = ports
        self._taps: dict[str, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._stack = ExitStack()
        self._next = 0
        self.hosts: Final = {
            node.name: bytes.fromhex(f"027b4300{index:04x}")
            for index, node in enumerate(topology.nodes, start=1)
        }
        """The MAC of an application behind each TAP, which no kernel answers for."""

    def open(self) -> None:
        """Open every TAP and every radio; none of them, if one is not there.

        :raises OSError: a node has no TAP; `filename` is its name.
        """
        try:
            for name, namespace in self._namespaces.items():
                try:
                    tap = self._open(namespace, TAP_INTERFACE, _ETH_P_IP, probe_filter())
                except OSError as error:
                    raise OSError(error.errno, error.strerror, name) from error
                self._taps[name] = tap
                self._selector.register(tap, selectors.EVENT_READ, (name, "tap"))
                radio = self._open(self._medium, self._ports[name], _ETH_P_ALL, _incoming())
                self._selector.register(radio, selectors.EVENT_READ, (name, "radio"))
        except BaseException:
            self._let_go()
            raise

    def close(self) -> None:
        """Let go of everything; twice is fine."""
        self._let_go()
        self._selector.close()

    def _let_go(self) -> None:
        for key in list((self._selector.get_map() or {}).values()):
            self._selector.unregister(key.fileobj)
        self._stack.close()
        self._taps.clear()

    def _open(self, namespace: str, ifname: str, protocol: int, program: bytes) -> socket.socket:
        return self._stack.enter_context(
            netns.run_in(
                namespace,
                partial(
                    open_packet_socket,
                    ifname,
                    protocol=protocol,
                    filter=program,
                    rcvbuf_bytes=_BUFFER_BYTES,
                ),
            )
        )

    def frame(self, source: str, destination: str | bytes, frame_bytes: int) -> tuple[int, bytes]:
        """A new test frame from the host at `source` to the one at a node, or to a group."""
        number, self._next = self._next, self._next + 1
        dst = destination if isinstance(destination, bytes) else self.hosts[destination]
        return number, numbered.frame(
            dst=dst, src=self.hosts[source], number=number, frame_bytes=frame_bytes
        )

    def exchange(
        self,
        sends: Sequence[tuple[str, bytes]],
        wanted: Collection[tuple[str, int]],
        *,
        patience_s: float,
    ) -> Exchange:
        """Put frames into TAPs at once, and hear until each `wanted` (node, number) has arrived.

        Gives up `patience_s` after the last of the wanted frames. Damaged frames are in what
        returns, and stop no wait.
        """
        made = Exchange()
        self._drain(Exchange())  # what is left of before
        for node, frame in sends:
            made.refused += not self.put(node, frame)
        missing = set(wanted)
        deadline = time.monotonic() + patience_s
        while missing and (left := deadline - time.monotonic()) > 0:
            before = len(made.arrived)
            self._drain(made, left)
            got = {
                (seen.node, numbered.number_of(seen.frame))
                for seen in made.arrived[before:]
                if numbered.damage(seen.frame) is None
            }
            if got & missing:
                missing -= got
                deadline = time.monotonic() + patience_s
        self._drain(made)
        return made

    def put(self, node: str, frame: bytes) -> bool:
        """Put a frame into a TAP; whether the kernel took it."""
        try:
            self._taps[node].send(frame)
        except OSError:
            return False
        return True

    def listen(self, seconds: float) -> Exchange:
        """Hear what is waiting, and what comes within that time."""
        made = Exchange()
        deadline = time.monotonic() + seconds
        self._drain(made)
        while (left := deadline - time.monotonic()) > 0:
            self._drain(made, left)
        return made

    def wait_joined(self, timeout_s: float) -> str | None:
        """Wait until frames of every OBU reach an RSU, and one knows it; what is missing, or None.

        An RSU knows whose reply to a heartbeat it got: replies are seen on the air.
        """
        rsus = [rsu.name for rsu in self.topology.rsus]
        radios = {bytes.fromhex(rsu.mac.replace(":", "")) for rsu in self.topology.rsus}
        names = {bytes.fromhex(obu.mac.replace(":", "")): obu.name for obu in self.topology.obus}
        unknown, unheard = set(names.values()), set(names.values())
        hosts = {host: name for name, host in self.hosts.items()}
        deadline = time.monotonic() + timeout_s
        while (unknown or unheard) and time.monotonic() < deadline:
            sends, wanted = [], []
            for name in sorted(unheard):
                number, frame = self.frame(name, numbered.BROADCAST, numbered.SHORTEST)
                sends.append((name, frame))
                wanted += [(rsu, number) for rsu in rsus]
            found = self.exchange(sends, wanted, patience_s=_AGAIN_S)
            if not sends:
                found = self.listen(_AGAIN_S)
            unheard -= {
                hosts.get(seen.frame[6:12], "") for seen in found.arrived if seen.node in rsus
            }
            unknown -= {
                names.get(reply.sender, "")
                for reply in replies(found.aired)
                if reply.receiver in radios or is_group(reply.receiver)
            }
        if not unknown and not unheard:
            return None
        lacking = [f"nothing from {name} reached an RSU" for name in sorted(unheard)]
        lacking += [
            f"no RSU was told of {name} (no reply to a heartbeat)"
            for name in sorted(unknown - unheard)
        ]
        return f"not joined within {timeout_s:g} s: " + "; ".join(lacking)

    def _drain(self, into: Exchange, patience_s: float = 0.0) -> None:
        for key, _ in self._selector.select(patience_s):
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            name, where = key.data
            for frame in _waiting(sock):
                seen = Seen(node=name, at_ns=time.monotonic_ns(), frame=frame)
                if where == "radio":
                    into.aired.append(seen)
                elif numbered.is_test_frame(frame):
                    into.arrived.append(seen)


def replies(aired: Sequence[Seen]) -> Iterator[HeartbeatReply]:
    """The replies to heartbeats on the air."""
    for seen in aired:
        for message in codec.parse(seen.frame):
            if isinstance(message, HeartbeatReply):
                yield message


def _waiting(sock: socket.socket) -> Iterator[bytes]:
    while True:
        try:
            frame = sock.recv(_LONGEST)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENETDOWN:
                raise
            # Said once of an interface that went: with a TAP's node, say. It only hears no more.
            return
        yield frame


def _incoming() -> bytes:
    """Lets through what comes in at a port, from its node; what goes out there was heard before.

    Not every way to send shows in a capture at the sender: that of AF_XDP does not.
    """
    return bpf.assemble(
        [
            (bpf.LD_W_ABS, 0, 0, bpf.SKF_AD_PKTTYPE),
            (bpf.JEQ_K, 1, 0, _PACKET_OUTGOING),
            (bpf.RET_K, 0, 0, 0xFFFFFFFF),
            (bpf.RET_K, 0, 0, 0),
        ]
    )
