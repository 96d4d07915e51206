"""The page about the protocol says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from agent.protocol import clients, codec, hello, node, routing, upstream
from agent.protocol.codec import parse
from agent.protocol.drops import DropCause
from agent.protocol.messages import Heartbeat

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")


def test_every_cause_is_explained() -> None:
    section = PAGE.partition("## Drops")[2]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [c.value for c in DropCause]


def test_the_example_is_the_heartbeat_it_claims_to_be() -> None:
    block = re.search(r"```text\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    [message] = parse(bytes.fromhex(block[1]))
    assert isinstance(message, Heartbeat)
    assert (message.hello_id, message.duration_ms, message.hops) == (7, 123_456_789, 2)


def test_sizes_and_bounds_are_the_codes() -> None:
    for words in (
        f"| {codec.HEARTBEAT_BYTES} bytes |",
        f"| {codec.REPLY_BYTES} bytes |",
        f"| {codec.UPSTREAM_OVERHEAD_BYTES} + inner frame |",
        f"| {codec.DOWNSTREAM_OVERHEAD_BYTES} + inner frame |",
        f"| {upstream.MAX_RSUS} |",
        f"| {hello.MAX_NEIGHBOURS}; {upstream.MAX_ENTRIES:,} |".replace(",", " "),
        f"| {routing.MAX_PER_HELLO:,}; {routing.MAX_OBSERVATIONS:,} |".replace(",", " "),
        f"| {clients.MAX_CLIENTS:,} each".replace(",", " "),
        f"| {node.MAX_FLOWS:,}; then".replace(",", " "),
    ):
        assert words in PAGE
