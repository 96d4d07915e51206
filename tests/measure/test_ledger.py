"""No loss is counted twice, none is invented, and what is left over is said."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.measure import ledger
from testbed.measure.ledger import Ledger, Line, WireEnd
from testbed.measure.places import LinkCounts, NamespaceCounts, PacketSocket
from testbed.traffic import assembly
from testbed.traffic.errors import NotForwarding


def link(**counts: int) -> LinkCounts:
    names = ("rx_packets", "rx_errors", "rx_dropped", "tx_packets", "tx_errors", "tx_dropped")
    return LinkCounts(**{name: counts.get(name, 0) for name in names})


def as_dict(lines: list[Line]) -> dict[str, int]:
    return {line.cause: line.count for line in lines}


def test_offered_is_delivered_and_every_line_and_what_is_left() -> None:
    lines = (Line(place="a", cause="x", count=3), Line(place="b", cause="y", count=4))
    book = Ledger(offered=100, delivered=90, lines=lines)
    assert (book.lost, book.explained, book.unexplained) == (10, 7, 3)


def test_more_counted_than_missing_is_below_zero_and_not_hidden() -> None:
    book = Ledger(offered=100, delivered=99, lines=(Line(place="a", cause="x", count=3),))
    assert book.unexplained == -2


def test_a_frame_that_the_other_end_does_not_take_is_one_loss_in_three_places() -> None:
    """The sender is told ENOBUFS, its interface and the far one both count it."""
    sender = WireEnd(place="tester", counts=link(tx_dropped=7), far=link(rx_dropped=7), refused=7)
    receiver = WireEnd(place="node", counts=link(rx_dropped=7), far=link(tx_dropped=7))
    assert ledger.wire_lines(sender) == ledger.wire_lines(receiver) == []


def test_without_a_program_that_was_told_it_is_a_line_of_the_sender() -> None:
    node = WireEnd(place="node", counts=link(tx_dropped=7), far=link(rx_dropped=7))
    tester = WireEnd(place="tester", counts=link(rx_dropped=7), far=link(tx_dropped=7))
    assert as_dict(ledger.wire_lines(node)) == {"not taken by the other end": 7}
    assert ledger.wire_lines(tester) == []


def test_what_arrives_and_nobody_wants_is_a_line_of_the_receiver() -> None:
    end = WireEnd(place="node", counts=link(rx_dropped=9), far=link(tx_dropped=4), socket_drops=2)
    assert as_dict(ledger.wire_lines(end)) == {"nobody listening": 5, "socket buffer full": 2}


@pytest.mark.parametrize("refused", [0, 5])
def test_a_full_tap_is_one_loss_whether_the_sender_was_told_or_not(refused: int) -> None:
    lines = ledger.tap_lines("tap", link(tx_dropped=5), refused=refused)
    assert as_dict(lines) == {"queue to the node full": 5}


def test_a_loss_before_the_copies_are_made_is_as_many_losses() -> None:
    lines = ledger.times([Line(place="tap", cause="full", count=5)], 3)
    assert as_dict(lines) == {"full": 15}


def test_what_the_node_counts_closes_the_ledger() -> None:
    book = Ledger(offered=100, delivered=80, lines=(Line(place="a", cause="x", count=5),))
    assert not book.node_told
    told = book.with_node("node", {"no_route": 15, "loop": 0})
    assert told.node_told
    assert told.unexplained == 0
    assert told.lines[-1] == Line(place="node", cause="no_route", count=15)


def test_what_the_link_counts_already_and_what_is_no_loss_stand_aside() -> None:
    book = Ledger(offered=10, delivered=10, lines=())
    told = book.with_node("node", {"send_failed": 3, "overheard": 40, "padding": 2})
    assert told.unexplained == 0
    assert told.lines == ()
    assert as_dict(list(told.aside)) == {"send_failed": 3, "overheard": 40, "padding": 2}


def test_frames_on_the_tail_of_another_are_one_line_however_many_count_them() -> None:
    seen = (
        Line(place="sink", cause="other bytes on its tail", count=1),
        Line(place="sink", cause=ledger.ON_A_TAIL, count=4),
    )
    book = Ledger(offered=32, delivered=0, lines=seen)
    assert book.unexplained == 27
    told = book.with_node("node", {"tap_swallowed": 31})
    assert told.unexplained == 0
    assert as_dict(list(told.lines)) == {"other bytes on its tail": 1, "tap_swallowed": 31}
    assert as_dict(list(told.aside)) == {ledger.ON_A_TAIL: 4}
    assert book.with_node("node", {"no_route": 27}).unexplained == 0


@given(
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.lists(st.integers(0, 10**6), max_size=8),
)
def test_the_sum_always_holds(offered: int, delivered: int, counts: list[int]) -> None:
    lines = tuple(Line(place="p", cause=str(n), count=count) for n, count in enumerate(counts))
    book = Ledger(offered=offered, delivered=delivered, lines=lines)
    assert book.delivered + sum(counts) + book.unexplained == offered
    told = json.loads(json.dumps(book.to_json()))
    assert told["unexplained"] == book.unexplained
    assert len(told["lines"]) == len(counts)


def counts_with(sockets: list[PacketSocket]) -> NamespaceCounts:
    return NamespaceCounts(
        links={"radio0": link(rx_dropped=3)},
        sockets={found.inode: found for found in sockets},
        ifindex={"radio0": 2},
    )


def socket_with(
    inode: int, drops: int, *, ifindex: int = 2, protocol: int = 0x3030
) -> PacketSocket:
    return PacketSocket(
        inode=inode,
        ifindex=ifindex,
        protocol=protocol,
        drops=drops,
        queued_bytes=0,
        buffer_bytes=0,
    )


def test_only_sockets_of_that_wire_count_and_only_what_is_new() -> None:
    before = counts_with([socket_with(1, 10), socket_with(5, 4)])
    after = counts_with(
        [
            socket_with(1, 13),
            socket_with(2, 5),  # opened meanwhile
            socket_with(3, 100, ifindex=7),
            socket_with(4, 100, protocol=3),
        ]
    )
    assert after.socket_drops("radio0", 0x3030, before) == 3 + 5


def test_a_socket_counter_that_wraps_is_no_negative_loss() -> None:
    before = counts_with([socket_with(1, 2**32 - 2)])
    assert counts_with([socket_with(1, 3)]).socket_drops("radio0", 0x3030, before) == 5


def test_an_interface_made_meanwhile_counts_with_all_it_has() -> None:
    now = counts_with([])
    nothing = NamespaceCounts(links={}, sockets={}, ifindex={})
    assert ledger.link_change(now, nothing, "radio0").rx_dropped == 3
    with pytest.raises(KeyError):
        ledger.link_change(nothing, now, "radio0")
    with pytest.raises(NotForwarding, match="no radio0 any more"):
        assembly.link_change(nothing, now, "radio0")
