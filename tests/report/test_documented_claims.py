"""The documents and the data agree: claims in method.md, keys in scenario.md and results.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from testbed import results, targets
from testbed.schema import schema_for

DOCS = Path(__file__).resolve().parents[2] / "docs"


def rows(document: str, heading: str) -> list[list[str]]:
    """The cells of all table rows below a heading, up to the next one."""
    text = (DOCS / document).read_text(encoding="utf-8")
    part = re.split(r"^#+ ", text.partition(f"{heading}\n")[2], flags=re.MULTILINE)[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_claim_stands_in_the_method_with_its_loads() -> None:
    documented = {
        key: row for row in rows("method.md", "## The documented claims") for key in code(row[0])
    }
    assert set(documented) == set(targets.BY_KEY)
    for key, row in documented.items():
        target = targets.BY_KEY[key]
        assert row[3].split(", ") == [str(band) for band in target.bands], key
        if "(a)" in row[2]:
            first = "delivered_pps" if row[2].startswith("(a)") else "packets_per_cpu_s"
            assert target.quantity == first, key


def test_the_claims_in_the_method_are_those_of_the_data() -> None:
    for row in rows("method.md", "## The documented claims"):
        for key in code(row[0]):
            for figure in re.findall(r"\d+(?:\.\d+)?", targets.BY_KEY[key].claimed):
                assert figure in row[1], key


def keys_of(schema: dict[str, Any], name: str) -> set[str]:
    body = schema["$defs"][name] if name else schema
    return set(body["properties"])


def test_every_key_of_a_scenario_is_documented() -> None:
    text = (DOCS / "scenario.md").read_text(encoding="utf-8")
    schema = schema_for("scenario")
    for name in ("", *schema["$defs"]):
        if "properties" not in (schema["$defs"][name] if name else schema):
            continue
        if name in ("Hello", "Engine", "ReadyBody"):
            continue  # settings of a node, which topology.md explains
        for key in keys_of(schema, name):
            assert f"`{key}`" in text, f"{name}: {key}"


def test_every_key_of_a_result_is_documented() -> None:
    text = (DOCS / "results.md").read_text(encoding="utf-8")
    for model in (
        results.Result,
        results.Trial,
        results.Traffic,
        results.Ledger,
        results.NodeCounts,
        results.Cpu,
        results.Switches,
        results.Memory,
        results.Syscalls,
        results.CpuUse,
    ):
        for name, field in model.model_fields.items():
            known = field.alias or name
            assert re.search(rf"\b{known}\b", text), f"{model.__name__}.{known}"
