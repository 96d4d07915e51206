"""The four forms of a reply, and what they flatten to."""

from __future__ import annotations

import pytest

from agent.protocol.replies import Outgoing, Reply, Tap, TapFlat, Wire, WireFlat, flatten


@pytest.mark.parametrize(
    ("reply", "flat"),
    [
        (WireFlat(b"ab"), WireFlat(b"ab")),
        (TapFlat(b"ab"), TapFlat(b"ab")),
        (Wire((b"a", b"", b"b")), WireFlat(b"ab")),
        (Tap((b"a", b"b")), TapFlat(b"ab")),
        (Wire(()), WireFlat(b"")),
    ],
)
def test_nested_replies_flatten_to_one_frame(reply: Reply, flat: Reply) -> None:
    assert flatten(reply) == flat


def test_outgoing_takes_all_four_forms_in_order() -> None:
    out = Outgoing()
    out.extend([Wire((b"1", b"2")), TapFlat(b"3"), WireFlat(b"4"), Tap((b"5",))])
    assert out.wire == [b"12", b"4"]
    assert out.tap == [b"3", b"5"]
    assert out.replies() == [WireFlat(b"12"), WireFlat(b"4"), TapFlat(b"3"), TapFlat(b"5")]


def test_a_reply_without_a_byte_is_no_frame() -> None:
    out = Outgoing()
    out.extend([Wire(()), Tap((b"", b"")), WireFlat(b"")])
    assert out == Outgoing()


def test_a_wire_reply_is_not_equal_to_a_tap_reply() -> None:
    replies: list[Reply] = [WireFlat(b"a"), Wire((b"a",))]
    assert TapFlat(b"a") not in replies
    assert Tap((b"a",)) not in replies
