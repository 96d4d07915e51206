"""A YAML file as plain values, with the line that each of them stands on.

The only module that imports yaml. Must not know what the values mean. Everything wrong with the
file as such raises `InputError` with file and line: it is missing, a directory, too large, not
UTF-8, not YAML, not a mapping, has a key twice, anchors that explode, or tags.

Scalars follow the core schema of YAML 1.2, not 1.1: `no` and `on` are text, `0o17` is octal and
`12:30` is text, so that a node may be called `no` and an address never becomes a number. Keys are
always text. Aliases and merge keys (`<<`) work; merged keys keep the line they were written on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from testbed.errors import InputError
from testbed.files.document import STDIN_NAME, Document, Place, kind_of
from testbed.files.scalars import resolve
from testbed.files.variables import VariableError, expand

STDIN = "-"

MAX_BYTES = 1 << 20
MAX_VALUES = 200_000
"""Values in a file once every alias is written out."""
MAX_DEPTH = 32

_TAG = "tag:yaml.org,2002:"


def read(path: str | Path, *, env: Mapping[str, str]) -> Document:
    """The document in that file, or on standard input for `-`, variables replaced from `env`."""
    name = STDIN_NAME if str(path) == STDIN else str(path)
    return parse(_decode(_load(path, name), name), file=name, env=env)


def parse(text: str, *, file: str, env: Mapping[str, str]) -> Document:
    """The document in that text; `file` is what messages call it."""
    try:
        top = _Builder(file, env).build(yaml.parse(text, Loader=yaml.SafeLoader))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(
            "a character that YAML does not allow",
            file=file,
            line=line,
            value=text[error.position],
            expected="printable text in UTF-8",
        ) from None
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text, file) from None
    if top is None:
        raise InputError("the file is empty", file=file, line=1, expected="a mapping")
    if not isinstance(top.content, dict):
        raise InputError(
            f"the file holds {kind_of(_plain(top, (), {}))}",
            file=file,
            line=top.line,
            expected="a mapping",
        )
    lines: dict[Place, int] = {(): top.line}
    return Document(file=file, value=_plain(top, (), lines), lines=lines)


def _load(path: str | Path, name: str) -> bytes:
    try:
        if str(path) == STDIN:
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InputError("there is no such file", file=name) from None
    except IsADirectoryError:
        raise InputError("this is a directory", file=name, expected="a YAML file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"the file cannot be read: {reason}", file=name) from None
    if len(data) > MAX_BYTES:
        raise InputError("the file is too large", file=name, expected=f"at most {MAX_BYTES} bytes")
    return data


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            "the file is not UTF-8",
            file=name,
            line=line,
            value=data[error.start : error.start + 1],
            expected="text in UTF-8",
        ) from None


def _syntax_error(error: yaml.MarkedYAMLError, text: str, file: str) -> InputError:
    mark = error.problem_mark or error.context_mark
    line = None if mark is None else mark.line + 1
    problem = error.problem or error.context or "it cannot be parsed"
    rows = text.splitlines()
    row = rows[line - 1] if line is not None and line <= len(rows) else ""
    expected = None
    if "${" in row and ("{" in row.replace("${", "") or "[" in row):
        expected = "quotes around a value with ${…} inside [ ] or { }"
    return InputError(f"not valid YAML: {problem}", file=file, line=line, expected=expected)


@dataclass(kw_only=True, slots=True)
class _Item:
    """A value as written: `content` holds items again; `size` and `height` count as if aliases
    were written out."""

    line: int
    content: Any = None
    size: int = 1
    height: int = 1
    keys: dict[str, int] = field(default_factory=dict)


_OPEN = _Item(line=0)
"""Stands for an anchor whose value has not ended yet: an alias to it would contain itself."""


class _Builder:
    """Turns parser events into items. Aliases share items, so nothing is unfolded here."""

    def __init__(self, file: str, env: Mapping[str, str]) -> None:
        self._file = file
        self._env = env
        self._anchors: dict[str, _Item] = {}

    def build(self, events: Iterator[yaml.Event]) -> _Item | None:
        top: _Item | None = None
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._error(event, "a second document begins", expected="one document")
            elif isinstance(event, yaml.NodeEvent):
                top = self._item(event, events, 0)
        return top

    def _item(self, event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> _Item:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if depth > MAX_DEPTH:
            raise self._deep(event)
        assert isinstance(event, yaml.NodeEvent)
        anchor = event.anchor
        if anchor is not None:
            self._anchors[anchor] = _OPEN
        if isinstance(event, yaml.ScalarEvent):
            item = _Item(line=_line(event), content=self._scalar(event))
        elif isinstance(event, yaml.SequenceStartEvent):
            self._check_tag(event, "seq")
            item = self._sequence(event, events, depth)
        else:
            assert isinstance(event, yaml.MappingStartEvent)
            self._check_tag(event, "map")
            item = self._mapping(event, events, depth)
        if anchor is not None:
            self._anchors[anchor] = item
        return item

    def _alias(self, event: yaml.AliasEvent) -> _Item:
        item = self._anchors.get(event.anchor or "")
        if item is None:
            raise self._error(event, f"there is no anchor &{event.anchor} before this alias")
        if item is _OPEN:
            raise self._error(event, f"the anchor &{event.anchor} contains itself")
        return item

    def _sequence(self, event: yaml.NodeEvent, events: Iterator[yaml.Event], depth: int) -> _Item:
        content: list[_Item] = []
        item = _Item(line=_line(event), content=content)
        for inner in events:
            if isinstance(inner, yaml.SequenceEndEvent):
                break
            content.append(self._item(inner, events, depth + 1))
            self._grow(item, content[-1], inner)
        return item

    def _mapping(self, event: yaml.NodeEvent, events: Iterator[yaml.Event], depth: int) -> _Item:
        content: dict[str, _Item] = {}
        item = _Item(line=_line(event), content=content)
        merged: list[tuple[_Item, yaml.Event]] = []
        for inner in events:
            if isinstance(inner, yaml.MappingEndEvent):
                break
            if not isinstance(inner, yaml.ScalarEvent):
                raise self._error(inner, "a key that is no plain text", expected="text as a key")
            key, line = self._expand(inner), _line(inner)
            if key in item.keys:
                raise self._error(
                    inner,
                    f"the key {key!r} stands here twice, first on line {item.keys[key]}",
                    expected="each key once",
                )
            item.keys[key] = line
            value_event = next(events)
            value = self._item(value_event, events, depth + 1)
            if key == "<<" and inner.style is None:
                merged.append((value, value_event))
            else:
                content[key] = value
                self._grow(item, value, inner)
        for value, at in merged:
            self._merge(item, value, at)
        return item

    def _merge(self, item: _Item, value: _Item, at: yaml.Event) -> None:
        """Adds what the merge key brings; keys that are there already win, as YAML has it."""
        sources = value.content if isinstance(value.content, list) else [value]
        for source in sources:
            if not isinstance(source.content, dict):
                raise self._error(
                    at, "<< merges something else", expected="a mapping, or a list of mappings"
                )
            for key, child in source.content.items():
                if key not in item.content:
                    item.content[key] = child
                    item.keys[key] = source.keys[key]
                    self._grow(item, child, at)

    def _grow(self, item: _Item, child: _Item, at: yaml.Event) -> None:
        item.size += child.size
        item.height = max(item.height, child.height + 1)
        if item.height > MAX_DEPTH:
            raise self._deep(at)
        if item.size > MAX_VALUES:
            raise self._error(
                at,
                "too many values once its aliases are written out",
                expected=f"at most {MAX_VALUES}",
            )

    def _scalar(self, event: yaml.ScalarEvent) -> object:
        text = self._expand(event)
        if event.tag in (None, f"{_TAG}str", "!"):
            return resolve(text) if event.tag is None and event.style is None else text
        self._check_tag(event, "str")
        return text

    def _expand(self, event: yaml.ScalarEvent) -> str:
        try:
            return expand(str(event.value), self._env)
        except VariableError as error:
            raise self._error(
                event, error.problem, value=error.reference, expected=error.expected
            ) from None

    def _check_tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, name: str) -> None:
        tag = event.tag
        if tag is not None and tag not in ("!", f"{_TAG}{name}"):
            short = tag.replace(_TAG, "!!") if tag.startswith(_TAG) else tag
            raise self._error(event, "a tag is not accepted", value=short, expected="plain values")

    def _deep(self, event: yaml.Event) -> InputError:
        return self._error(event, "nested too deeply", expected=f"at most {MAX_DEPTH} levels")

    def _error(
        self, event: yaml.Event, message: str, *, value: object = None, expected: str | None = None
    ) -> InputError:
        return InputError(
            message, file=self._file, line=_line(event), value=value, expected=expected
        )


def _line(event: yaml.Event) -> int:
    mark = event.start_mark
    return 1 if mark is None else int(mark.line) + 1


def _plain(item: _Item, path: Place, lines: dict[Place, int]) -> Any:
    """The item as dicts, lists and scalars of its own; fills `lines` on the way."""
    if isinstance(item.content, dict):
        for key in item.content:
            lines[(*path, key)] = item.keys[key]
        return {key: _plain(child, (*path, key), lines) for key, child in item.content.items()}
    if isinstance(item.content, list):
        for index, child in enumerate(item.content):
            lines[(*path, index)] = child.line
        return [_plain(child, (*path, index), lines) for index, child in enumerate(item.content)]
    return item.content
