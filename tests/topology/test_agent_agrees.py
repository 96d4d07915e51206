"""What a topology may say, an agent takes: the same words, and no value beyond its bounds."""

from __future__ import annotations

import pytest

from agent.config import COALESCE, AgentConfig
from agent.engines.base import Side
from agent.engines.registry import ENGINES
from agent.protocol import codec
from testbed.files import yamlfile
from testbed.running.plan import agent_config
from testbed.topology import model
from testbed.topology.loader import topology_of


def config(node: model.Node) -> AgentConfig:
    """What the agent is told, as it is told in a testbed."""
    return agent_config(node)


@pytest.mark.parametrize(
    "extremes",
    [
        "",
        "hello: {period: 10ms, history: 1}, cached_candidates: 1, mtu: 1280, batch: 1",
        "hello: {period: 60min, history: 1000}, cached_candidates: 64, mtu: 1472",
        "batch: 256, max_wait: 10ms",
        "adaptive_batch: 1..256, coalesce: adaptive, metrics: '0.0.0.0:65535'",
        "adaptive_batch: 7..7, coalesce: fixed, metrics: '[::]:0'",
        "adaptive_batch: off, coalesce: off, metrics: off",
    ],
)
def test_the_least_and_the_most_that_a_file_can_say(extremes: str) -> None:
    text = (
        f"name: road\ntopology:\n  defaults: {{{extremes}}}\n"
        "  nodes: {rsu1: {kind: rsu}, obu1: {kind: obu}}\n  links: [[rsu1, obu1]]\n"
    )
    for node in topology_of(yamlfile.parse(text, file="road.yaml", env={})).nodes:
        assert config(node).mtu == node.settings.mtu


def test_the_defaults_are_the_agents_own() -> None:
    agent = AgentConfig(kind="rsu", bind=model.RADIO_INTERFACE)
    settings = model.NodeSettings()
    assert (
        settings.mtu,
        settings.hello_history,
        settings.cached_candidates,
        settings.batch,
        settings.adaptive_batch,
        settings.coalesce,
        settings.max_wait_us,
        settings.metrics,
        settings.handler,
        settings.engine_wire,
        settings.engine_tap,
        settings.group_copies,
    ) == (
        agent.mtu,
        agent.hello_history,
        agent.cached_candidates,
        agent.batch,
        "off" if agent.adaptive_batch is None else agent.adaptive_batch,
        agent.coalesce,
        agent.max_wait_us,
        "off" if agent.metrics is None else agent.metrics,
        agent.handler,
        agent.wire_engine,
        agent.tap_engine,
        agent.group_copies,
    )


def test_every_engine_of_the_agent_can_be_named() -> None:
    assert set(model.WIRE_ENGINES) | set(model.TAP_ENGINES) == {"auto", *ENGINES}


@pytest.mark.parametrize("word", model.TAP_ENGINES)
def test_an_engine_named_for_the_tap_serves_one(word: str) -> None:
    if word != "auto":
        assert Side.TAP in ENGINES[word].sides


def test_the_largest_inner_packet_just_fits_a_radio_frame() -> None:
    inner = codec.ETHERNET_HEADER_BYTES + model.MTU_MAX
    longest = codec.DOWNSTREAM_OVERHEAD_BYTES + inner
    assert longest == codec.ETHERNET_HEADER_BYTES + model.RADIO_MTU


@pytest.mark.parametrize("word", model.COALESCE)
def test_every_way_of_coalescing_is_the_agents(word: str) -> None:
    assert COALESCE == model.COALESCE
    text = f"name: road\ntopology:\n  defaults: {{coalesce: {word}, max_wait: 1ms}}\n"
    text += "  nodes: {rsu1: {kind: rsu}, obu1: {kind: obu}}\n  links: [[rsu1, obu1]]\n"
    for node in topology_of(yamlfile.parse(text, file="road.yaml", env={})).nodes:
        assert config(node).coalescing == word
