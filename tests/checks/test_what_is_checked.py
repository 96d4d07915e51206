"""What the protocol joins, what a test frame shows of its way, and what a capture says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.protocol import codec
from agent.protocol.messages import DownstreamData
from testbed.checks import air, ground, numbered
from testbed.checks.expected import homes, joined
from testbed.checks.integrity import sizes_of
from testbed.checks.site import Seen
from testbed.topology.loader import load_topology
from testbed.topology.model import Topology

HOST, OTHER = b"\x02\x7b\x00\x00\x00\x01", b"\x02\x7b\x00\x00\x00\x02"
OBUS = {bytes([2, 0, 0, 0, 0, n]): f"obu{n}" for n in (1, 2, 3)}
RSU_MAC = bytes([2, 0, 0, 0, 0, 9])


def shipped(name: str) -> Topology:
    return load_topology(name, env={})


def frame(number: int, frame_bytes: int = 60) -> bytes:
    return numbered.frame(dst=OTHER, src=HOST, number=number, frame_bytes=frame_bytes)


def copy(receiver: bytes, inner: bytes) -> bytes:
    return codec.encode(
        DownstreamData(
            receiver=receiver,
            transmitter=RSU_MAC,
            origin=RSU_MAC,
            target=numbered.BROADCAST,
            inner=inner,
        )
    )


def aired(*frames: bytes, node: str = "rsu1") -> list[Seen]:
    return [Seen(node=node, at_ns=n, frame=one) for n, one in enumerate(frames)]


@pytest.mark.parametrize("topology", [shipped("cell"), shipped("pair"), ground.cell()])
def test_in_a_cell_everybody_is_joined_with_everybody(topology: Topology) -> None:
    names = [node.name for node in topology.nodes]
    assert all(joined(topology, a, b) for a in names for b in names if a != b)


def test_an_obu_behind_another_is_not_found_but_finds() -> None:
    line = shipped("line")
    assert joined(line, "obu3", "rsu1")
    assert joined(line, "obu3", "obu1")
    assert not joined(line, "rsu1", "obu3")
    assert not joined(line, "obu1", "obu2")


def test_addressed_group_copies_join_every_hop() -> None:
    line = shipped("line")
    addressed = replace(
        line,
        nodes=tuple(
            replace(node, settings=replace(node.settings, group_copies="addressed"))
            for node in line.nodes
        ),
    )
    assert joined(addressed, "rsu1", "obu3")


def test_nodes_of_different_rsus_are_not_joined_and_an_undecided_obu_is_nobodys() -> None:
    highway = shipped("highway")
    home = homes(highway)
    assert home["obu1"] == ("rsu1", 1)
    assert home["obu3"] is None, "it hears two RSUs"
    assert home["obu11"] == ("rsu3", 2)
    assert joined(highway, "obu1", "obu2")
    assert not joined(highway, "obu1", "obu5")
    assert not joined(highway, "obu1", "obu3")


@pytest.mark.parametrize("frame_bytes", [60, 61, 255, 1449, 1450])
def test_a_test_frame_tells_what_became_of_it(frame_bytes: int) -> None:
    sent = frame(1234, frame_bytes)
    assert len(sent) == frame_bytes
    assert numbered.number_of(sent) == 1234
    assert numbered.damage(sent) is None
    assert numbered.damage(sent + b"x") == "tailed"
    assert numbered.damage(sent[:-1] + bytes([sent[-1] ^ 1])) == "damaged"
    if frame_bytes > 60:
        assert numbered.damage(sent[:-1]) == "truncated"


def test_a_test_frame_is_what_scapy_makes_of_the_same_fields() -> None:
    from testbed.traffic import layer

    made = layer.probe_frame(
        dst=OTHER.hex(":"), src=HOST.hex(":"), flow=0, frame_bytes=300, sequence=77
    )
    assert frame(77, 300) == made


def test_the_quick_sizes_hold_both_ends_and_the_full_ones_all() -> None:
    full, quick = sizes_of(1436, quick=False), sizes_of(1436, quick=True)
    assert full == tuple(range(60, 1451))
    assert set(quick) < set(full)
    assert {60, 61, 127, 128, 129, 1449, 1450} <= set(quick)
    assert len(quick) == 49


def test_a_capture_tells_copies_that_were_joined_from_copies_that_were_sent() -> None:
    inner = frame(5)
    apart = [copy(mac, inner) for mac in OBUS]
    said = air.copies(aired(*apart), "rsu1", {5: 60}, OBUS)
    assert said == ["rsu1 put on the air 3 of 3 copies of 60 bytes (to obu1, obu2, obu3)"]
    assert air.tails(aired(*apart)) == []
    together = b"".join(apart)
    said = air.copies(aired(together), "rsu1", {5: 60, 6: 590}, OBUS)
    assert said == [
        (
            "rsu1 put on the air 1 of 3 copies of 60 bytes (to obu1), 1 of them with a tail, in "
            "frames of up to 264 bytes"
        ),
        "rsu1 put on the air 0 of 3 copies of 590 bytes",
    ]
    (tails,) = air.tails(aired(together, *apart))
    assert tails.startswith("of 4 data frames on the air 1 had other bytes behind the packet")
    assert "(rsu1 1 of 4)" in tails


def test_filling_up_to_the_shortest_ethernet_frame_is_no_tail() -> None:
    arp = numbered.BROADCAST + HOST + b"\x08\x06" + bytes(28)
    assert air.tails(aired(copy(RSU_MAC, arp), copy(RSU_MAC, arp + bytes(18)))) == []
    assert air.tails(aired(copy(RSU_MAC, arp + bytes(19)))) != []
