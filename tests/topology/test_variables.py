"""`${VAR}` in a text."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.files.variables import VariableError, expand

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("${A}", "one"),
        ("${A}-${B}", "one-two"),
        ("${UNSET:=three}", "three"),
        ("${UNSET:-three}", "three"),
        ("${A:=three}", "one"),
        ("${EMPTY:=three}", "three"),
        ("${EMPTY}", ""),
        ("${UNSET:=}", ""),
        ("${UNSET:=a:=b $ c}", "a:=b $ c"),
        ("$${A}", "${A}"),
        ("cost: 5$", "cost: 5$"),
        ("$A", "$A"),
        ("${OUTER}", "${A}"),
    ],
)
def test_expands(text: str, expected: str) -> None:
    variables = {"A": "one", "B": "two", "EMPTY": "", "OUTER": "${A}"}
    assert expand(text, variables) == expected


def test_an_unset_variable_is_named() -> None:
    with pytest.raises(VariableError) as caught:
        expand("x ${HELLO} y", {})
    assert caught.value.problem == "the variable HELLO is not set"
    assert caught.value.reference == "${HELLO}"
    assert caught.value.expected == ("HELLO in the environment, or a default as in ${HELLO:=value}")


@pytest.mark.parametrize("text", ["${", "${}", "${A", "${1A}", "${A:?x}", "${A:=${B}}", "${A B}"])
def test_a_broken_reference_is_refused(text: str) -> None:
    with pytest.raises(VariableError, match="cannot be read"):
        expand(text, {"A": "", "B": "two"})


@given(st.text().filter(lambda text: "${" not in text), NAMES)
def test_text_without_references_stays(text: str, name: str) -> None:
    assert expand(text, {name: "replaced"}) == text


@given(
    st.dictionaries(NAMES, st.text(min_size=1), min_size=1),
    st.text().filter(lambda text: "$" not in text),
)
def test_every_set_variable_is_replaced_once(variables: dict[str, str], between: str) -> None:
    text = between.join(f"${{{name}}}" for name in variables)
    assert expand(text, variables) == between.join(variables.values())


@given(NAMES, st.text().filter(lambda text: not set(text) & set("{}")))
def test_the_default_is_taken_as_it_stands(name: str, default: str) -> None:
    assert expand(f"<${{{name}:={default}}}>", {}) == f"<{default}>"


@given(st.text(alphabet="${}:=-A a", max_size=30))
def test_any_text_is_expanded_or_refused(text: str) -> None:
    with suppress(VariableError):
        assert "${A}" not in expand(text.replace("$$", ""), {"A": "x"})
