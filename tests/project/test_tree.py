"""What is in the tree: nothing that ties it to one machine, and nothing left to do in comments."""

from __future__ import annotations

import re
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Where documents and comments may point to. Everything else would be a place that somebody has to
# reach for the testbed to work.
HOSTS = {
    "127.0.0.1",
    "docs.kernel.org",
    "keepachangelog.com",
    "json-schema.org",
    "man7.org",
    "semver.org",
    "www.apache.org",
    "www.rfc-editor.org",
    "www.w3.org",
}

# Written apart, or this file would be the first to be found.
WORDS = {
    "a path of one machine": r"(?<![\w.$}-])/(?:home|work|Users)/\w",
    "a path of one user": r"(?<![\w.$}-])/roo" + r"t/\w",
    "something left to do": r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b",
    "a place that serves packages": r"\b(?:pyp" + r"i\.org|python" + r"hosted|ghc" + r"r\.io|qua"
    r"y\.io|registry-\d|docker\.io/|deb\.debian)",
}

LIST_FILES = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")


def tracked() -> list[Path]:
    """The files that the project consists of: as git knows them, or all where there is no git."""
    if shutil.which("git") is not None and (ROOT / ".git").exists():
        listed = subprocess.run(
            ("git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), *LIST_FILES),
            capture_output=True,
            text=True,
            check=True,
        )
        names = [ROOT / name for name in listed.stdout.split("\0") if name]
        return [path for path in names if path.is_file()]
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split()]
    return [
        path
        for path in ROOT.rglob("*")
        if path.is_file()
        and not any(fnmatch(part, one) for part in path.relative_to(ROOT).parts for one in ignored)
    ]


def texts() -> dict[str, str]:
    read = {}
    for path in tracked():
        data = path.read_bytes()
        if b"\0" not in data:
            read[str(path.relative_to(ROOT))] = data.decode("utf-8")
    return read


TEXTS = texts()


@pytest.mark.parametrize("what", WORDS)
def test_no_file_contains(what: str) -> None:
    pattern = re.compile(WORDS[what])
    found = [
        f"{name}:{number}: {line.strip()}"
        for name, text in TEXTS.items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found


def test_links_go_to_known_places() -> None:
    found = {
        f"{name}: {link}"
        for name, text in TEXTS.items()
        if name != "LICENSE"
        for link in re.findall(r"https?://[^\s\"'<>)`]+", text)
        if urlsplit(link).hostname not in HOSTS
    }
    assert not found


def test_every_text_ends_with_one_newline() -> None:
    wrong = [
        name
        for name, text in TEXTS.items()
        if text and name != "LICENSE" and (not text.endswith("\n") or text.endswith("\n\n"))
    ]
    assert not wrong


def test_every_module_says_what_it_is() -> None:
    silent = [
        name
        for name, text in TEXTS.items()
        if name.endswith(".py") and text.strip() and not text.lstrip().startswith('"""')
    ]
    assert not silent


@pytest.mark.parametrize("name", ["bootstrap", ".ci/run", ".ci/engine"])
def test_scripts_can_be_run(name: str) -> None:
    path = ROOT / name
    assert path.stat().st_mode & 0o111
    subprocess.run(("sh", "-n", str(path)), check=True)
