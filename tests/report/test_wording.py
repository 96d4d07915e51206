"""Numbers as a reader sees them: no data is “–”, a little is not nothing, thousands stand apart."""

from __future__ import annotations

import pytest

from testbed.measure.statistics import Ratio
from testbed.report import wording
from testbed.targets import Form

NBSP = "\u00a0"


def test_several_are_listed_as_people_do() -> None:
    for names, text in ((["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")):
        assert wording.listed(names) == text


def plain(text: str) -> str:
    return text.replace(NBSP, " ")


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0"), (12, "12"), (1234.4, "1 234"), (1_234_567, "1 234 567"), (-5, "−5")],
)
def test_counts(value: float | None, text: str) -> None:
    assert plain(wording.count(value)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (0.03125, "0.0312"),
        (0.5, "0.500"),
        (1.2345, "1.23"),
        (12.345, "12.3"),
        (123.45, "123"),
        (12_345.6, "12 346"),
        (-1.5, "−1.50"),
        (0.00001234, "0.000012"),
    ],
)
def test_numbers_have_three_significant_digits(value: float | None, text: str) -> None:
    assert plain(wording.number(value)) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(None, "–"), (0, "0 %"), (0.5, "50 %"), (0.1234, "12.34 %"), (0.00001, "< 0.01 %")],
)
def test_a_share_that_is_not_nothing_never_prints_as_nothing(
    share: float | None, text: str
) -> None:
    assert plain(wording.percent(share)) == text


@pytest.mark.parametrize(
    ("share", "digits", "text"),
    [(1.0, 0, "100 %"), (1.0, 2, "100 %"), (0.9, 0, "90 %"), (0.004, 0, "< 1 %"), (0.5, 1, "50 %")],
)
def test_a_share_keeps_the_zeros_that_are_digits(share: float, digits: int, text: str) -> None:
    assert plain(wording.percent(share, digits)) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (None, "–"),
        (1.0, "±0 %"),
        (1.12, "+12.0 %"),
        (0.969, "−3.1 %"),
        (3.0, "+200 %"),
        (1.0002, "+0.02 %"),
        (1.000001, "±0 %"),
    ],
)
def test_a_ratio_as_a_change(ratio: float | None, text: str) -> None:
    assert plain(wording.change(ratio)) == text


def made(ratio: float, low: float | None, high: float | None) -> Ratio:
    return Ratio(ratio=ratio, low=low, high=high, pairs=5, spread=0.1, method="made")


@pytest.mark.parametrize(
    ("estimate", "form", "text"),
    [
        (made(1.12, 1.08, 1.16), Form.GAIN, "+12.0 % [+8.0, +16.0]"),
        (made(0.5, 0.4, 0.6), Form.REDUCTION, "−50.0 % [−60.0, −40.0]"),
        (made(2.0, 1.9, 2.1), Form.TIMES, "2.00× [1.90, 2.10]"),
        (made(0.5, 0.4, 0.625), Form.FEWER, "2.00× fewer [1.60, 2.50]"),
        (made(1.25, 1.1, 1.4), Form.FEWER, "1.25× more [1.10, 1.40]"),
        (made(1.0, 0.9, 1.1), Form.FEWER, "as many [0.909, 1.11]"),
        (made(1.0, None, None), Form.GAIN, "±0 %"),
        (made(1.0, 1.0, 1.0), Form.ADDED, "±0 %"),
        (None, Form.GAIN, "–"),
    ],
)
def test_a_ratio_in_the_words_of_its_claim(estimate: Ratio | None, form: Form, text: str) -> None:
    assert plain(wording.ratio_text(estimate, form)) == text


def test_a_lower_bound_is_marked() -> None:
    assert plain(wording.ratio_text(made(2.0, 1.9, 2.1), Form.TIMES, at_least=True)).startswith("≥")


@pytest.mark.parametrize(
    ("duration", "text"),
    [(0.3, "300 ms"), (2, "2 s"), (81.26, "81.3 s"), (725, "12 min 5 s"), (600, "10 min")],
)
def test_durations(duration: float, text: str) -> None:
    assert plain(wording.seconds(duration)) == text
