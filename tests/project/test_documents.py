"""What the documents say is so: commands and files exist, examples load, the reference is new."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from testbed.cli import cli
from testbed.cli.reference import reference
from testbed.files.document import Document
from testbed.files.yamlfile import parse
from testbed.topology.loader import topology_of

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")) if path.name != "CHANGELOG.md"
)

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:\./bootstrap|testbed) [^`]+)`")
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def blocks(path: Path, language: str) -> Iterator[str]:
    for match in BLOCK.finditer(path.read_text(encoding="utf-8")):
        if match[1] == language:
            yield match[2]


def commands() -> Iterator[tuple[str, str]]:
    """Every call of the command in shell examples, and those in running text."""
    for path in DOCUMENTS:
        for block in blocks(path, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                words = re.sub(r"^(sudo |\w+=\S+ )+", "", line.strip())
                if words.startswith(("./bootstrap", "testbed ")):
                    yield path.name, words
        for match in INLINE.finditer(path.read_text(encoding="utf-8")):
            yield path.name, match[1]


def documents_with(language: str) -> list[tuple[str, str]]:
    return [(path.name, block) for path in DOCUMENTS for block in blocks(path, language)]


@pytest.mark.parametrize(("document", "line"), sorted(set(commands())))
def test_a_command_in_a_document_exists(document: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    program = words.pop(0)
    if program == "./bootstrap" and (not words or words[0] in ("test", "COMMAND")):
        return
    context = click.Context(cli, info_name="testbed")
    command = cli.get_command(context, words[0])
    assert command is not None, f"{document}: testbed {words[0]}"
    while isinstance(command, click.Group) and len(words) > 1 and not words[1].startswith("-"):
        words.pop(0)
        command = command.get_command(context, words[0])
        assert command is not None, f"{document}: {line}"
    known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    known |= {"-h", "--help"}
    own = words[1 : words.index("--")] if "--" in words else words[1:]
    given = {word.split("=")[0] for word in own if word.startswith("-") and word != "-"}
    assert given <= known, f"{document}: {line}"
    for word in own:
        if word.startswith(("topologies/", "scenarios/")):
            assert (ROOT / word).is_file(), f"{document}: {line}"


def looks_like_topology(block: str) -> bool:
    return "topology:\n" in block and "nodes:" in block and block.startswith("name:")


@pytest.mark.parametrize(
    ("document", "block"),
    [(name, block) for name, block in documents_with("yaml") if looks_like_topology(block)],
)
def test_a_topology_in_a_document_is_valid(document: str, block: str) -> None:
    read: Document = parse(block, file=document, env={})
    assert topology_of(read).nodes


def test_the_readme_shows_a_topology() -> None:
    assert any(looks_like_topology(block) for block in blocks(ROOT / "README.md", "yaml"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    for target, anchor in LINK.findall(path.read_text(encoding="utf-8")):
        other = path.parent / target if target else path
        assert other.exists(), target
        assert not anchor or anchor in anchors(other), f"{target}#{anchor}"


def anchors(path: Path) -> set[str]:
    """Where headings of a page can be linked to, by GitHub's rule."""
    text = BLOCK.sub("", path.read_text(encoding="utf-8"))
    kept = (re.sub(r"[^\w\- ]", "", heading).lower() for heading in HEADING.findall(text))
    return {heading.replace(" ", "-") for heading in kept}


def test_every_command_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not [name for name in cli.commands if f"`testbed {name}" not in text]


def test_exit_codes_are_those_of_the_errors() -> None:
    from testbed import errors

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    codes = {
        one.exit_code
        for one in vars(errors).values()
        if isinstance(one, type) and issubclass(one, errors.TestbedError)
    }
    assert {f"| {code} |" for code in codes} <= {
        match[0] for match in re.finditer(r"\| \d+ \|", text)
    }


def test_the_command_reference_is_current() -> None:
    written = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == reference(), "python -m testbed.cli.reference > docs/cli.md"


def every_command(group: click.Group) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield name, command
        if isinstance(command, click.Group):
            yield from every_command(command)


def test_an_option_is_called_in_the_environment_as_on_the_command_line() -> None:
    for name, command in every_command(cli):
        for option in command.params:
            if isinstance(option, click.Option):
                long = max(option.opts, key=len).lstrip("-").replace("-", "_")
                assert option.name == long, f"{name}: --{long} is TESTBED_…_{option.name}"


def test_image_and_bootstrap_install_the_same_packages() -> None:
    script = (ROOT / "bootstrap").read_text(encoding="utf-8")
    listed = re.search(r"<<'LIST'\n(.*?)^LIST$", script, re.MULTILINE | re.DOTALL)
    assert listed is not None
    wanted = {line.split()[1] for line in listed[1].splitlines()}
    image = (ROOT / "Dockerfile").read_text(encoding="utf-8").rpartition("\nFROM ")[2]
    assert all(re.search(rf"\s{re.escape(package)}\s", image) for package in wanted)
