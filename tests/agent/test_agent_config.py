"""A configuration that exists is one that an agent can be started with."""

from __future__ import annotations

from ipaddress import ip_interface
from typing import Any

import pytest

from agent.config import AgentConfig, mac_bytes, tap_address
from agent.errors import ConfigError


def test_defaults_are_those_of_the_reference() -> None:
    config = AgentConfig(kind="obu", bind="radio0")
    assert (config.mtu, config.hello_history, config.cached_candidates) == (1436, 10, 3)
    assert (config.handler, config.wire_engine, config.tap_engine) == ("auto", "auto", "auto")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "car"}, "kind: got 'car'"),
        ({"bind": ""}, "bind: got ''"),
        ({"bind": "a b"}, "bind"),
        ({"bind": "x" * 16}, "too long"),
        ({"bind": "ü" * 8}, "too long"),
        ({"tap_name": ".."}, "tap name"),
        ({"mtu": 67}, "mtu: got 67; expected a whole number from 68"),
        ({"mtu": True}, "mtu"),
        ({"hello_history": 0}, "hello history"),
        ({"cached_candidates": 0}, "cached candidates"),
        ({"hello_periodicity_ms": 0}, "hello periodicity"),
        ({"batch": 0}, "batch"),
        ({"batch": 257}, "batch"),
        ({"max_wait_us": 10_001}, "max wait"),
        ({"handler": "fast"}, "handler"),
        ({"group_copies": "all"}, "group copies"),
        ({"ip": ("10.0.0.1/33",)}, "10.0.0.1/33"),
        ({"ip": ("0.0.0.0",)}, "0.0.0.0"),
        ({"tap_mac": "02:00:00:00:00"}, "mac"),
    ],
)
def test_values_that_cannot_work_are_refused_with_what_was_expected(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        AgentConfig(**{"kind": "obu", "bind": "radio0", **values})


def test_addresses_without_a_prefix_get_the_usual_one() -> None:
    assert tap_address("10.0.0.2") == ip_interface("10.0.0.2/24")
    assert tap_address("10.0.0.2/8") == ip_interface("10.0.0.2/8")
    assert tap_address("fd00::2") == ip_interface("fd00::2/64")


def test_mac_addresses_are_six_bytes_of_one_station() -> None:
    assert mac_bytes("02:0a:00:00:00:FF") == b"\x02\x0a\0\0\0\xff"
    for text in ("ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "2:0:0:0:0:1", "02-00-00-00-00-01"):
        with pytest.raises(ConfigError, match="mac"):
            mac_bytes(text)
