"""The JSON Schema accepts what loads, refuses what does not, and explains every key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from testbed import shipped
from testbed.errors import InputError
from testbed.files import yamlfile
from testbed.schema import DIALECT, schema_for

SORTS = {"topology": "topologies", "scenario": "scenarios"}


def errors(what: str, value: object) -> list[str]:
    validator = jsonschema.Draft202012Validator(schema_for(what))
    return [error.message for error in validator.iter_errors(value)]


def parsed(text: str) -> dict[str, Any]:
    return yamlfile.parse(text, file="x", env={}).value


def topology(node: str = "", rest: str = "") -> dict[str, Any]:
    return parsed(
        "name: road\ntopology:\n  nodes:\n    rsu1: {kind: rsu}\n"
        f"    obu1: {{kind: obu, {node}}}\n  links: [[rsu1, obu1]]\n{rest}"
    )


@pytest.mark.parametrize("what", SORTS)
def test_it_is_a_schema_of_that_draft(what: str) -> None:
    schema = schema_for(what)
    assert schema["$schema"] == DIALECT
    jsonschema.Draft202012Validator.check_schema(schema)
    assert json.loads(json.dumps(schema)) == schema


@pytest.mark.parametrize(
    ("what", "path"),
    [
        (what, shipped.find(sort, name))
        for what, sort in SORTS.items()
        for name in shipped.names(sort)
    ],
    ids=str,
)
def test_every_shipped_file_is_right(what: str, path: Path) -> None:
    assert errors(what, yamlfile.read(path, env={}).value) == []


@pytest.mark.parametrize(
    "node",
    [
        "hello: {period: 1s, history: 3}",
        "hello: {period: 0.5 s}",
        "hello: {period: '${P:=1s}'}",
        "hello: ",
        "engine: mmsg",
        "engine: {tap: per-packet}",
        "engine: '${ENGINE:=auto}'",
        "mtu: 1400",
        "mtu: 1400B",
        "mtu: '1400'",
        "max_wait: 0",
        "max_wait: 20µs",
        "coalesce: off",
        "coalesce: adaptive",
        "adaptive_batch: off",
        "adaptive_batch: 8..128",
        "metrics: off",
        "metrics: ':9100'",
        "metrics: '[::1]:9100'",
        "ipv4: 10.77.0.9/16",
        "ipv6: 'fd77::9'",
        "position: [1, 2.5]",
        "position: ['${X}', 0]",
        "group: lorry",
        "command: agent",
        "command: [node, '{kind}', '--ip', '{ip}'], env: {RUST_LOG: debug}, stop: SIGINT",
        "command: [node], ready: tap, user: nobody",
        "command: [node], ready: {log: 'up on .*', within: 20s}",
        "command: [node], ready: {how: started}",
    ],
)
def test_accepts_in_a_node(node: str) -> None:
    # An editor sees references as they stand in the file, not yet replaced.
    assert errors("topology", topology(node.replace("${", "$${"))) == []


@pytest.mark.parametrize(
    "node",
    [
        "mtuu: 1400",
        "mtu: 9000",
        "mtu: 1400ms",
        "batch: 0",
        "batch: 1.5",
        "batch: many",
        "hello: {period: 5}",
        "hello: {period: 5 parsecs}",
        "hello: {perod: 5s}",
        "max_wait: 20",
        "coalesce: always",
        "adaptive_batch: 8",
        "adaptive_batch: 8..",
        "metrics: 9100",
        "metrics: here",
        "engine: mmsgs",
        "engine: {tap: mmsg}",
        "handler: batch",
        "ipv4: nine",
        "ipv6: 10.77.0.9",
        "position: [1]",
        "position: [1, 2, 3]",
        "position: here",
        "cached_candidates: ",
        "command: node",
        "command: []",
        "command: [node], env: [A]",
        "command: [node], ready: soon",
        "command: [node], ready: {logs: up}",
        "command: [node], stop: TERM",
        "command: [node], user: [nobody]",
    ],
)
def test_refuses_in_a_node(node: str) -> None:
    assert errors("topology", topology(node)) != []


@pytest.mark.parametrize(
    "rest",
    [
        "  segments: {a: [rsu1, obu1], b: {members: [rsu1]}}\n",
        "  segments: [[rsu1, obu1], {name: b, members: [obu1]}]\n",
        "  segments:\n",
        "  defaults: {kind: obu, batch: 8}\n",
        "  kinds: {obu: , rsu: {hello: {period: 1s}}}\n",
        "  groups: {a: , b: {kind: rsu}}\n",
        '  addressing: {ipv4: 10.0.0.0/8, ipv6: "fd00::/64"}\n',
    ],
)
def test_accepts_in_the_topology(rest: str) -> None:
    assert errors("topology", topology(rest=rest)) == []


@pytest.mark.parametrize(
    "rest",
    [
        "  segments: {a: {memberz: [rsu1]}}\n",
        "  segments: {a: []}\n",
        "  segments: {a: rsu1}\n",
        "  defaults: {group: a}\n",
        "  kinds: {car: {}}\n",
        "  groups: {_a: {}}\n",
        "  groups: {a: {ipv4: 10.0.0.1}}\n",
        "  addressing: {ipv4: 10.0.0.0}\n",
        "link: []\n",
    ],
)
def test_refuses_in_the_topology(rest: str) -> None:
    assert errors("topology", topology(rest=rest)) != []


@pytest.mark.parametrize("link", ["[rsu1]", "[rsu1, obu1, obu2]", "{endpoint: [a, b]}", "rsu1"])
def test_refuses_as_a_link(link: str) -> None:
    value = topology()
    value["topology"]["links"] = parsed(f"links: [{link}]")["links"]
    assert errors("topology", value) != []


@pytest.mark.parametrize("what", SORTS)
def test_every_key_is_described_for_whoever_types_it(what: str) -> None:
    schema = schema_for(what)
    found = dict(_keys(schema))
    assert found
    mute = [place for place, key in found.items() if not _description(schema, key)]
    assert mute == []


def _description(schema: dict[str, Any], key: dict[str, Any]) -> str | None:
    """What is said of the key, or else of the one thing that it can be."""
    if "description" not in key and "$ref" in key:
        key = schema["$defs"][key["$ref"].rsplit("/", 1)[1]]
    return key.get("description")


def _keys(part: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(part, dict):
        for name, key in part.get("properties", {}).items():
            yield f"{place}/{name}", key
        for name, inner in part.items():
            if name not in ("default", "examples"):
                yield from _keys(inner, f"{place}/{name}")
    elif isinstance(part, list):
        for index, inner in enumerate(part):
            yield from _keys(inner, f"{place}/{index}")


def test_no_schema_of_another_file() -> None:
    with pytest.raises(InputError) as caught:
        schema_for("topologie")
    assert str(caught.value) == (
        "there is no schema for that, did you mean 'topology'? "
        "(got 'topologie'; expected topology or scenario)"
    )
