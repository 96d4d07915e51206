"""docs/topology.md says what is so: its examples load, and it leaves no key out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from testbed.files import yamlfile
from testbed.files.fields import counted
from testbed.schema import schema_for
from testbed.topology.loader import topology_of
from testbed.topology.model import Topology

DOCS = Path(__file__).parents[2] / "docs" / "topology.md"
TEXT = DOCS.read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)


def load(text: str) -> Topology:
    return topology_of(yamlfile.parse(text, file="docs/topology.md", env={}))


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: re.search("name: (.*)", text)[1])
def test_every_example_loads(text: str) -> None:
    assert load(text).nodes


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 8


def test_every_key_is_explained() -> None:
    schema = schema_for("topology")
    keys = {name for one in (schema, *schema["$defs"].values()) for name in _properties(one)}
    keys -= {"period", "history"}  # explained as hello.period and hello.history
    assert len(keys) > 20
    unexplained = sorted(key for key in keys | {"hello.period"} if f"`{key}" not in TEXT)
    assert unexplained == []


def test_every_default_is_the_one_documented() -> None:
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| `([^`]+)` \|", TEXT, re.MULTILINE))
    schema = schema_for("topology")
    found = 0
    for definition in schema["$defs"].values():
        for key, said in _properties(definition).items():
            documented = rows.get(key, rows.get(f"hello.{key}"))
            if "default" in said and documented is not None:
                assert documented == str(said["default"]), key
                found += 1
    assert found >= 12


def test_the_comments_in_the_examples_are_true() -> None:
    layers = load(next(text for text in EXAMPLES if "name: layers" in text))
    settings = {node.name: node.settings for node in layers.nodes}
    assert settings["rsu1"].hello_periodicity_ms == 500
    assert settings["rsu1"].hello_history == 5
    assert (settings["obu1"].engine_wire, settings["obu1"].engine_tap) == ("mmsg", "auto")
    assert (settings["obu1"].batch, settings["obu2"].batch) == (16, 8)
    addressed = load(next(text for text in EXAMPLES if "name: addressed" in text))
    assert [(str(node.ipv4.ip), str(node.ipv6.ip)) for node in addressed.nodes] == [
        ("192.168.9.1", "fd99::1"),
        ("192.168.9.2", "fd99::2"),
        ("192.168.9.14", "fd99::3"),
    ]


def test_counted_nouns() -> None:
    assert [counted(number, "node") for number in (0, 1, 2)] == ["0 nodes", "1 node", "2 nodes"]


def _properties(definition: dict[str, object]) -> dict[str, dict[str, object]]:
    """The keys of a definition, also of one of its alternatives."""
    found = dict(definition.get("properties", {}))
    for alternative in definition.get("anyOf", ()):
        found.update(_properties(alternative))
    return found
