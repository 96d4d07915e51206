"""Who may import whom. The rules are the design; the modules are read, not run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# A module of the left side, or below it, imports nothing of the right side.
FORBIDDEN = (
    ("agent", "testbed"),
    ("agent.protocol", "agent.engines"),
    ("agent.engines", "agent.protocol"),
    ("agent.linux", "agent"),
    ("agent.linux", "testbed"),
    ("testbed.files", "testbed.topology"),
    ("testbed.files", "testbed.scenario"),
    ("testbed.topology", "testbed.kernel"),
    ("testbed.topology", "testbed.scenario"),
    ("testbed.kernel", "testbed.launch"),
    ("testbed.kernel", "testbed.running"),
    ("testbed.launch", "testbed.running"),
    ("testbed.scenario", "testbed.kernel"),
    ("testbed.scenario", "testbed.running"),
    ("testbed.traffic", "testbed.running"),
    ("testbed.traffic", "testbed.experiment"),
    ("testbed.measure", "testbed.traffic"),
    ("testbed.measure", "testbed.experiment"),
    ("testbed.running", "testbed.experiment"),
    ("testbed.results", "testbed.measure"),
    ("testbed.results", "testbed.experiment"),
)

# Of these packages, a module outside them may import only what is listed.
ALLOWED_OF = {
    # What `testbed` may know of the agent; the package itself gives the version.
    ("testbed", "agent"): {
        "agent",
        "agent.protocol",
        "agent.linux",
        "agent.config",
        "agent.errors",
    },
    ("testbed.report", "testbed"): {
        "testbed",
        "testbed.report",
        "testbed.results",
        "testbed.measure.statistics",
        "testbed.targets",
        "testbed.errors",
        "testbed.printable",
    },
}

# These may import more of the agent than the rest of `testbed` does.
EXCEPTIONS = {("testbed.launch.child", "agent.runtime")}

# The modules that know a third-party package; nobody else does.
ONLY_IN = {
    "MLRsearch": {"testbed.experiment.ratesearch"},
    "pyroute2": {"testbed.kernel.netlink"},
    "docker": {"testbed.container.engine"},
    "yaml": {"testbed.files.yamlfile"},
    "jinja2": {"testbed.report.html"},
    "markupsafe": {"testbed.report.html"},
    "matplotlib": {"testbed.report.charts.drawing", "testbed.bench.plot"},
    "rich": {"testbed.console", "testbed.report.terminal"},
    "scapy": {"testbed.traffic.layer"},
    "click": {"testbed.cli", "agent.cli"},
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {
    module_name(path): path
    for package in ("agent", "testbed")
    for path in sorted((ROOT / package).rglob("*.py"))
}


def below(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def imports(name: str, source: str, *, package: bool) -> Iterator[str]:
    """Absolute names of everything that a module imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = name.split(".") if package else name.split(".")[:-1]
                kept = parents[: len(parents) - node.level + 1]
                base = ".".join([*kept, *([base] if base else [])])
            for alias in node.names:
                deeper = f"{base}.{alias.name}"
                yield deeper if deeper in SOURCES else base


def imported_by(name: str) -> set[str]:
    path = SOURCES[name]
    package = path.name == "__init__.py"
    return set(imports(name, path.read_text(encoding="utf-8"), package=package))


def test_the_reader_sees_every_way_to_import() -> None:
    source = (
        "import agent.config\n"
        "from . import codec\n"
        "from ..linux import mmsg\n"
        "from agent import errors\n"
        "def later():\n    from testbed.topology.model import Node\n"
    )
    found = set(imports("agent.protocol.node", source, package=False))
    assert found >= {"agent.config", "agent.linux.mmsg", "agent.errors", "testbed.topology.model"}
    assert any(below(name, "agent.protocol") for name in found)


@pytest.mark.parametrize(("left", "right"), FORBIDDEN)
def test_no_import_against_the_direction(left: str, right: str) -> None:
    wrong = {
        f"{name} imports {other}"
        for name in SOURCES
        if below(name, left)
        for other in imported_by(name)
        if below(other, right) and not (left == "agent.linux" and below(other, left))
    }
    assert not wrong


def rows_from_the_ground_up() -> list[set[str]]:
    """The packages of `testbed`, row by row of the table in the description of the architecture."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page[page.index("## Where things are in `testbed`") :]
    table = table[: table.index("\n## ", 1)]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return [set(re.findall(r"`(\w+)`", row)) for row in rows]


def test_the_packages_stand_on_each_other_as_the_architecture_says() -> None:
    height = {name: row for row, names in enumerate(rows_from_the_ground_up()) for name in names}
    packages = {path.parent.name for path in (ROOT / "testbed").glob("*/__init__.py")}
    assert set(height) == packages
    wrong = {
        f"{name} imports {other}"
        for name in SOURCES
        for other in imported_by(name)
        if name.startswith("testbed.")
        and other.startswith("testbed.")
        and height.get(name.split(".")[1], len(height)) < height.get(other.split(".")[1], 0)
    }
    assert not wrong


@pytest.mark.parametrize(("left", "right"), ALLOWED_OF)
def test_only_what_is_allowed_is_imported(left: str, right: str) -> None:
    allowed = ALLOWED_OF[left, right]
    exact = {left.split(".")[0], right}
    wrong = {
        f"{name} imports {other}"
        for name in SOURCES
        if below(name, left)
        for other in imported_by(name)
        if below(other, right)
        and (name, other) not in EXCEPTIONS
        and not any(other == one or (one not in exact and below(other, one)) for one in allowed)
    }
    assert not wrong


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_library_is_known_in_one_place(package: str) -> None:
    wrong = {
        name
        for name in SOURCES
        if any(below(other, package) for other in imported_by(name))
        and not any(below(name, place) for place in ONLY_IN[package])
    }
    assert not wrong


def test_the_rules_name_modules_that_exist() -> None:
    named = {side for pair in FORBIDDEN for side in pair}
    named |= {name for names in ALLOWED_OF.values() for name in names}
    named |= {place for places in ONLY_IN.values() for place in places}
    named |= {name for pair in EXCEPTIONS for name in pair}
    assert named <= set(SOURCES)
