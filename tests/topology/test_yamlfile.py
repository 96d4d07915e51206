"""YAML as values with lines, and refused with a place where it is not sane."""

from __future__ import annotations

import io
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.errors import InputError
from testbed.files import yamlfile
from testbed.files.document import Document, dotted


def parse(text: str, **env: str) -> Document:
    return yamlfile.parse(text, file="road.yaml", env=env)


def message(text: str, **env: str) -> str:
    with pytest.raises(InputError) as caught:
        parse(text, **env)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", 5),
        ("-5", -5),
        ("007", 7),
        ("0o17", 15),
        ("0x1F", 31),
        ("1.5", 1.5),
        ("2e3", 2000.0),
        ("true", True),
        ("False", False),
        ("", None),
        ("~", None),
        ("null", None),
        ("'5'", "5"),
        ('"true"', "true"),
        ("!!str 5", "5"),
        # What YAML 1.1 takes for something else.
        ("no", "no"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("2026-01-01", "2026-01-01"),
        ("fd77::1", "fd77::1"),
        ("10.77.0.9", "10.77.0.9"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, expected: object) -> None:
    value = parse(f"key: {text}").value["key"]
    assert value == expected
    assert type(value) is type(expected)


def test_keys_are_text_whatever_they_look_like() -> None:
    assert parse("no: 1\n5: 2\n'': 3\nnull: 4\n").value == {"no": 1, "5": 2, "": 3, "null": 4}


def test_every_value_has_its_line() -> None:
    document = parse("\n# comment\na:\n  b: 1\n  c:\n    - x\n    -\n      y: 2\n")
    assert document.value == {"a": {"b": 1, "c": ["x", {"y": 2}]}}
    assert document.lines == {
        (): 3,
        ("a",): 3,
        ("a", "b"): 4,
        ("a", "c"): 5,
        ("a", "c", 0): 6,
        ("a", "c", 1): 8,
        ("a", "c", 1, "y"): 8,
    }
    assert document.line(("a", "c", 1, "missing", "deeper")) == 8
    assert document.line(("nowhere",)) == 3


def test_aliases_and_merge_keys() -> None:
    document = parse(
        "base: &base\n  x: 1\n  y: 2\nmore: &more {y: 3, z: 3}\n"
        "one:\n  <<: *base\n  x: 9\ntwo: {<<: [*base, *more]}\nthree: *base\n"
    )
    assert document.value["one"] == {"x": 9, "y": 2}
    assert document.value["two"] == {"x": 1, "y": 2, "z": 3}
    assert document.value["three"] == {"x": 1, "y": 2}
    assert document.line(("one", "y")) == 3
    assert document.line(("two", "z")) == 4
    assert document.value["three"] is not document.value["base"]


def test_an_anchor_may_be_set_anew() -> None:
    assert parse("a: &x 1\nb: &x 2\nc: *x\n").value == {"a": 1, "b": 2, "c": 2}


def test_a_quoted_merge_key_is_a_key() -> None:
    assert parse("'<<': 1\n").value == {"<<": 1}


def test_variables_are_expanded_in_keys_and_values_and_not_in_comments() -> None:
    document = parse("# ${NOWHERE}\n${A}: ${N}\nb: '${N}'\nc: [\"${N}\", x]\n", A="name", N="1436")
    assert document.value == {"name": 1436, "b": "1436", "c": ["1436", "x"]}


def test_a_variable_brings_no_structure() -> None:
    assert parse("a: ${X}\nb: 1\n", X="1\nb: 2 # {[").value == {"a": "1\nb: 2 # {[", "b": 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1: the file is empty (expected a mapping)"),
        ("# a comment\n", "1: the file is empty (expected a mapping)"),
        ("\n- a\n", "2: the file holds a list (expected a mapping)"),
        ("text", "1: the file holds text (expected a mapping)"),
        ("5", "1: the file holds a number (expected a mapping)"),
        ("a: [\n", "2: not valid YAML: expected the node content, but found '<stream end>'"),
        ("a: 1\n\tb: 2\n", "2: not valid YAML: found character '\\t' that cannot start any token"),
        ("a: b: c\n", "1: not valid YAML: mapping values are not allowed here"),
        (
            "a: 1\nb: [${X:=1}]\n",
            (
                "2: not valid YAML: expected ',' or ']', but got '{' "
                "(expected quotes around a value with ${…} inside [ ] or { })"
            ),
        ),
        (
            "a: 1\nb: \x07\n",
            (
                "2: a character that YAML does not allow "
                "(got '\\x07'; expected printable text in UTF-8)"
            ),
        ),
        (
            "a: 1\nb: 1\na: 2\n",
            "3: the key 'a' stands here twice, first on line 1 (expected each key once)",
        ),
        (
            "a: {<<: {}, <<: {}}\n",
            "1: the key '<<' stands here twice, first on line 1 (expected each key once)",
        ),
        ("a: 1\n---\nb: 1\n", "2: a second document begins (expected one document)"),
        ("[a]: 1\n", "1: a key that is no plain text (expected text as a key)"),
        ("a: *b\n", "1: there is no anchor &b before this alias"),
        ("a: &b [1, *b]\n", "1: the anchor &b contains itself"),
        ("a: &b {c: {d: *b}}\n", "1: the anchor &b contains itself"),
        ("a: {<<: 5}\n", "1: << merges something else (expected a mapping, or a list of mappings)"),
        (
            "a: {<<: [{}, 5]}\n",
            "1: << merges something else (expected a mapping, or a list of mappings)",
        ),
        (
            "a: !!python/object/apply:os.system ['true']\n",
            (
                "1: a tag is not accepted (got '!!python/object/apply:os.system'; "
                "expected plain values)"
            ),
        ),
        ("a: !!int 5\n", "1: a tag is not accepted (got '!!int'; expected plain values)"),
        ("a: !own {b: 1}\n", "1: a tag is not accepted (got '!own'; expected plain values)"),
        ("a: " + "[" * 40 + "]" * 40, "1: nested too deeply (expected at most 32 levels)"),
        ("a: " + "[" * 100_000, "1: nested too deeply (expected at most 32 levels)"),
        (
            "a: 1\nb: ${HELLO}\n",
            (
                "2: the variable HELLO is not set (got '${HELLO}'; "
                "expected HELLO in the environment, or a default as in ${HELLO:=value})"
            ),
        ),
        (
            "a: ${HELLO!}\n",
            (
                "1: a variable that cannot be read (got '${HELLO!}'; "
                "expected ${NAME} or ${NAME:=default}, and $${ for a literal ${)"
            ),
        ),
    ],
)
def test_refuses(text: str, expected: str) -> None:
    assert message(text) == f"road.yaml:{expected}"


def test_anchors_that_explode_are_refused_before_they_do() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    assert message("\n".join(rows)) == (
        "road.yaml:6: too many values once its aliases are written out (expected at most 200000)"
    )


def test_a_long_chain_of_aliases_is_refused_as_too_deep() -> None:
    rows = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 100)]
    assert (
        message("\n".join(rows)) == "road.yaml:31: nested too deeply (expected at most 32 levels)"
    )


@given(st.text(alphabet="ab:-[]{}&*!<>|'\"# \n\t${}0%,?~", max_size=60))
def test_any_text_is_a_document_or_an_input_error(text: str) -> None:
    with suppress(InputError):
        assert isinstance(parse(text).value, dict)


# Files


def read_message(path: object) -> str:
    with pytest.raises(InputError) as caught:
        yamlfile.read(str(path), env={})
    return str(caught.value)


def test_reads_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes("\ufeffname: Straße\n".encode())
    document = yamlfile.read(path, env={})
    assert (document.value, document.file) == ({"name": "Straße"}, str(path))


def test_reads_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"name: road\n")))
    document = yamlfile.read("-", env={})
    assert (document.value, document.file) == ({"name": "road"}, "<stdin>")


def test_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    assert read_message(path) == f"{path}: there is no such file"


def test_a_directory(tmp_path: Path) -> None:
    assert read_message(tmp_path) == f"{tmp_path}: this is a directory (expected a YAML file)"


def test_a_path_through_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "a.yaml"
    assert read_message(path) == f"{path}: the file cannot be read: Not a directory"


def test_a_path_with_a_zero_byte() -> None:
    assert read_message("a\0b") == "a\0b: the file cannot be read: embedded null byte"


def test_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"a: 1\nname: Stra\xdfe\n")
    assert read_message(path) == (
        f"{path}:2: the file is not UTF-8 (got b'\\xdf'; expected text in UTF-8)"
    )


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_bytes(b"#" * (yamlfile.MAX_BYTES + 1))
    assert read_message(path) == f"{path}: the file is too large (expected at most 1048576 bytes)"


def test_a_file_without_end() -> None:
    expected = "/dev/zero: the file is too large (expected at most 1048576 bytes)"
    assert read_message("/dev/zero") == expected


def test_places_are_written_as_users_write_them() -> None:
    assert dotted(("topology", "links", 0, "endpoints", 1)) == "topology.links[0].endpoints[1]"
    assert dotted(()) == ""
