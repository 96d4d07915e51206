"""The ways through a node: which frames go in where, and what must come out where.

Pure: addresses in, frames and expectations out. The peers of the node under test are made up here:
an RSU or OBUs on the wire, and hosts behind them and behind the node's TAP, none of which any
kernel answers for. Must not know sockets, processes or rates.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from testbed.errors import InputError
from testbed.traffic import frames
from testbed.traffic.arrivals import Expectation
from testbed.traffic.frames import Flow, FrameSet
from testbed.traffic.place import Surface

NodeKind = Literal["obu", "rsu"]

_UPSTREAM_BYTES: Final = 22
_DOWNSTREAM_BYTES: Final = 28
_BROADCAST: Final = "ff:ff:ff:ff:ff:ff"


class Path(enum.StrEnum):
    """A way through one node under test.

    `RELAY` is upstream data passed on by an OBU, `RELAY_DOWN` downstream data passed on by one,
    `HAIRPIN` upstream data that an RSU sends down again to another OBU, `GROUP` a group frame from
    an RSU's TAP, copied to every OBU.
    """

    RELAY = "relay"
    RELAY_DOWN = "relay-down"
    TAP_TO_WIRE = "tap-to-wire"
    WIRE_TO_TAP = "wire-to-tap"
    HAIRPIN = "hairpin"
    GROUP = "group"


PATHS: Final[Mapping[NodeKind, tuple[Path, ...]]] = {
    "obu": (Path.RELAY, Path.RELAY_DOWN, Path.TAP_TO_WIRE, Path.WIRE_TO_TAP),
    "rsu": (Path.TAP_TO_WIRE, Path.WIRE_TO_TAP, Path.HAIRPIN, Path.GROUP),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Traffic:
    """What is sent: the way, the sizes of inner Ethernet frames in turn, how many flows.

    Flows are spread over the OBUs that the tester plays, where the path has several.
    """

    path: Path
    sizes: tuple[int, ...] = (frames.DEFAULT_FRAME_BYTES,)
    flows: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Cast:
    """The peers that the tester plays, by MAC. OBUs must differ in their last two bytes."""

    rsu: str = "02:7b:52:00:00:01"
    obus: tuple[str, ...] = ()

    @classmethod
    def of(cls, obus: int) -> Cast:
        """A cast with that many OBUs."""
        return cls(
            obus=tuple(f"02:7b:4f:00:{n >> 8:02x}:{n & 255:02x}" for n in range(1, obus + 1))
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """A frame sent before the trial, so that the node knows where a host lives."""

    surface: Surface
    frame: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Leg:
    """One direction of traffic: frames that go in at one surface and come out at another.

    `inner_at` is where the inner frame begins in what comes out; `copies` how many times each
    frame comes out.
    """

    inject: Surface
    collect: Surface
    frames: FrameSet
    inner_at: int
    expected: Expectation
    lessons: tuple[Lesson, ...] = ()

    @property
    def copies(self) -> int:
        return self.expected.receivers


def node_leg(kind: NodeKind, node_mac: str, traffic: Traffic, cast: Cast) -> Leg:
    """The leg through a node of that kind.

    :raises InputError: that kind of node has no such path, or the cast is too small for it.
    """
    if traffic.path not in PATHS[kind]:
        raise InputError(
            f"an {kind.upper()} has no such path",
            value=str(traffic.path),
            expected=" or ".join(PATHS[kind]),
        )
    needed = 2 if traffic.path is Path.HAIRPIN else 1
    if len(cast.obus) < needed:
        raise InputError(f"{traffic.path} needs {needed} OBUs around the node")
    build = _OBU_LEGS[traffic.path] if kind == "obu" else _RSU_LEGS[traffic.path]
    return build(node_mac, traffic, cast)


def tap_leg(traffic_sizes: Sequence[int], flows: int, *, name: int = 0) -> Leg:
    """The leg from one node's TAP to another's, whatever lies between; `name` tells legs apart."""
    here, there = _host(0xA000 + name), _host(0xB000 + name)
    flow_list = [Flow(id=number, header=b"", dst=there, src=here) for number in range(flows)]
    return Leg(
        inject=Surface.TAP,
        collect=Surface.TAP,
        frames=frames.build(flow_list, traffic_sizes),
        inner_at=0,
        expected=Expectation(flows=flows),
        lessons=(_lesson(Surface.TAP, b"", src=there, dst=here),),
    )


def _relay(node: str, traffic: Traffic, cast: Cast) -> Leg:
    origins = [cast.obus[n % len(cast.obus)] for n in range(traffic.flows)]
    inside = [
        Flow(id=n, header=_up(dst=node, src=origin, origin=origin), dst=_host(1), src=_host(2))
        for n, origin in enumerate(origins)
    ]
    outside = [_up(dst=cast.rsu, src=node, origin=origin) for origin in origins]
    return _leg(Surface.WIRE, Surface.WIRE, inside, traffic, _expect(outside))


def _relay_down(node: str, traffic: Traffic, cast: Cast) -> Leg:
    goals = [cast.obus[n % len(cast.obus)] for n in range(traffic.flows)]
    inside = [
        Flow(
            id=n,
            header=_down(dst=node, src=cast.rsu, origin=cast.rsu, destination=goal),
            dst=_host(1),
            src=_host(2),
        )
        for n, goal in enumerate(goals)
    ]
    outside = [_down(dst=goal, src=node, origin=cast.rsu, destination=goal) for goal in goals]
    return _leg(Surface.WIRE, Surface.WIRE, inside, traffic, _expect(outside))


def _obu_tap_to_wire(node: str, traffic: Traffic, cast: Cast) -> Leg:
    inside = [_inner(n) for n in range(traffic.flows)]
    outside = [_up(dst=cast.rsu, src=node, origin=node)] * traffic.flows
    return _leg(Surface.TAP, Surface.WIRE, inside, traffic, _expect(outside))


def _obu_wire_to_tap(node: str, traffic: Traffic, cast: Cast) -> Leg:
    header = _down(dst=node, src=cast.rsu, origin=cast.rsu, destination=node)
    inside = [_inner(n, header) for n in range(traffic.flows)]
    return _leg(Surface.WIRE, Surface.TAP, inside, traffic, Expectation(flows=traffic.flows))


def _rsu_tap_to_wire(node: str, traffic: Traffic, cast: Cast) -> Leg:
    clients = _clients(traffic, cast)
    inside = [Flow(id=n, header=b"", dst=host, src=_host(1)) for n, (_, host) in enumerate(clients)]
    outside = [_down(dst=obu, src=node, origin=node, destination=obu) for obu, _ in clients]
    return _leg(
        Surface.TAP,
        Surface.WIRE,
        inside,
        traffic,
        _expect(outside, origin=False),
        _client_lessons(node, clients),
    )


def _rsu_wire_to_tap(node: str, traffic: Traffic, cast: Cast) -> Leg:
    clients = _clients(traffic, cast)
    inside = [
        Flow(id=n, header=_up(dst=node, src=obu, origin=obu), dst=_host(1), src=host)
        for n, (obu, host) in enumerate(clients)
    ]
    lessons = (_lesson(Surface.TAP, b"", src=_host(1), dst=clients[0][1]),)
    expected = Expectation(flows=traffic.flows)
    return _leg(Surface.WIRE, Surface.TAP, inside, traffic, expected, lessons)


def _hairpin(node: str, traffic: Traffic, cast: Cast) -> Leg:
    clients = _clients(traffic, cast)
    senders = [cast.obus[(n + 1) % len(cast.obus)] for n in range(traffic.flows)]
    inside = [
        Flow(id=n, header=_up(dst=node, src=sender, origin=sender), dst=host, src=_host(2))
        for n, (sender, (_, host)) in enumerate(zip(senders, clients, strict=True))
    ]
    outside = [_down(dst=obu, src=node, origin=node, destination=obu) for obu, _ in clients]
    return _leg(
        Surface.WIRE,
        Surface.WIRE,
        inside,
        traffic,
        _expect(outside, origin=False),
        _client_lessons(node, clients),
    )


def _group(node: str, traffic: Traffic, cast: Cast) -> Leg:
    inside = [Flow(id=n, header=b"", dst=_BROADCAST, src=_host(1)) for n in range(traffic.flows)]
    # A copy's destination field may be the group's address or the OBU's own: both are right.
    copies = [_down(dst=obu, src=node, origin=node, destination=obu) for obu in cast.obus]
    expected = Expectation(
        flows=traffic.flows,
        receivers=len(cast.obus),
        headers=tuple(copies * traffic.flows),
        mask=b"\xff" * 16 + b"\x00" * 12,
    )
    return _leg(Surface.TAP, Surface.WIRE, inside, traffic, expected)


_OBU_LEGS: Final = {
    Path.RELAY: _relay,
    Path.RELAY_DOWN: _relay_down,
    Path.TAP_TO_WIRE: _obu_tap_to_wire,
    Path.WIRE_TO_TAP: _obu_wire_to_tap,
}
_RSU_LEGS: Final = {
    Path.TAP_TO_WIRE: _rsu_tap_to_wire,
    Path.WIRE_TO_TAP: _rsu_wire_to_tap,
    Path.HAIRPIN: _hairpin,
    Path.GROUP: _group,
}


def _leg(
    inject: Surface,
    collect: Surface,
    flows: Sequence[Flow],
    traffic: Traffic,
    expected: Expectation,
    lessons: tuple[Lesson, ...] = (),
) -> Leg:
    return Leg(
        inject=inject,
        collect=collect,
        frames=frames.build(flows, traffic.sizes),
        inner_at=len(expected.headers[0]) if expected.headers else 0,
        expected=expected,
        lessons=lessons,
    )


def _expect(headers: Sequence[bytes], *, origin: bool = True) -> Expectation:
    """One receiver for each flow; `origin` False leaves open whose MAC stands as the origin.

    What an RSU writes there for what it sends down is not laid down: its own MAC or the sender's.
    """
    mask = b"\xff" * len(headers[0])
    if not origin:
        mask = mask[:16] + b"\x00" * 6 + mask[22:]
    return Expectation(flows=len(headers), headers=tuple(headers), mask=mask)


def _clients(traffic: Traffic, cast: Cast) -> list[tuple[str, str]]:
    """For each flow the OBU and a host behind it, which the RSU must know as its client."""
    count = len(cast.obus)
    return [(cast.obus[n % count], _host(0x100 + n % count)) for n in range(traffic.flows)]


def _client_lessons(node: str, clients: Sequence[tuple[str, str]]) -> tuple[Lesson, ...]:
    return tuple(
        _lesson(Surface.WIRE, _up(dst=node, src=obu, origin=obu), src=host, dst=_host(1))
        for obu, host in dict(clients).items()
    )


def _lesson(surface: Surface, header: bytes, *, src: str, dst: str) -> Lesson:
    # EtherType 88b5 is for local experiments (IEEE 802): no test traffic, and nobody answers.
    ethernet = bytes.fromhex((dst + src).replace(":", "")) + b"\x88\xb5"
    return Lesson(surface=surface, frame=header + ethernet + bytes(46))


def _inner(number: int, header: bytes = b"") -> Flow:
    return Flow(id=number, header=header, dst=_host(1), src=_host(2))


def _host(number: int) -> str:
    return f"02:7b:48:00:{number >> 8:02x}:{number & 255:02x}"


def _up(*, dst: str, src: str, origin: str) -> bytes:
    from testbed.traffic import layer

    header = bytes(layer.upstream(dst=dst, src=src, origin=origin))
    assert len(header) == _UPSTREAM_BYTES
    return header


def _down(*, dst: str, src: str, origin: str, destination: str) -> bytes:
    from testbed.traffic import layer

    header = bytes(layer.downstream(dst=dst, src=src, origin=origin, destination=destination))
    assert len(header) == _DOWNSTREAM_BYTES
    return header
