"""Quantities: exact, with their unit, and refused with a reason where they are none."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.files import units


@pytest.mark.parametrize(
    ("read", "text", "expected"),
    [
        (units.duration_ns, "5ms", 5_000_000),
        (units.duration_ns, "0.1us", 100),
        (units.duration_ns, " 2 s ", 2_000_000_000),
        (units.duration_us, "0.1ms", 100),
        (units.duration_us, "7µs", 7),
        (units.duration_us, "7μs", 7),
        (units.duration_us, 0, 0),
        (units.duration_us, "0", 0),
        (units.duration_ms, "1.5s", 1500),
        (units.duration_ms, "2min", 120_000),
        (units.duration_s, "250ms", 0.25),
        (units.size_bytes, 1436, 1436),
        (units.size_bytes, "1436", 1436),
        (units.size_bytes, "256B", 256),
        (units.size_bytes, "2kB", 2000),
        (units.size_bytes, "2KiB", 2048),
        (units.size_bytes, "1.5MiB", 1_572_864),
        (units.rate_pps, "500pps", 500.0),
        (units.rate_pps, "50kpps", 50_000.0),
        (units.percent, "1%", 1.0),
        (units.percent, "0.5 %", 0.5),
        (units.percent, "100%", 100.0),
        (units.percent, 0, 0.0),
    ],
)
def test_reads(read: Callable[[object], float], text: object, expected: float) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    ("read", "value", "problem"),
    [
        (units.duration_ms, 5, "the unit is missing"),
        (units.duration_ms, "5", "the unit is missing"),
        (units.duration_ms, 0.5, "the unit is missing"),
        (units.duration_ms, "0.5ms", "finer than 1ms"),
        (units.duration_us, "1ns", "finer than 1us"),
        (units.duration_ns, "0.1ns", "finer than 1ns"),
        (units.duration_ms, "-5ms", "a negative number"),
        (units.duration_ms, -5, "a negative number"),
        (units.duration_ms, "5MS", "unknown unit 'MS', did you mean 'ms'?"),
        (units.duration_ms, "5msec", "unknown unit 'msec', did you mean 'ms'?"),
        (units.duration_ms, "5mbit", "unknown unit 'mbit'"),
        (units.duration_ms, "ms", "not a number with a unit"),
        (units.duration_ms, "1,5s", "not a number with a unit"),
        (units.duration_ms, "1e3s", "not a number with a unit"),
        (units.duration_ms, "١s", "not a number with a unit"),
        (units.duration_ms, "", "not a number with a unit"),
        (units.duration_ms, True, "not a number with a unit"),
        (units.duration_ms, None, "not a number with a unit"),
        (units.duration_ms, ["5ms"], "not a number with a unit"),
        (units.duration_ms, "9" * 41 + "s", "too long for a number with a unit"),
        (units.size_bytes, "2kb", "unknown unit 'kb', did you mean 'kB'?"),
        (units.size_bytes, "0.5B", "finer than 1B"),
        (units.size_bytes, 1.5, "not a whole number of bytes"),
        (units.size_bytes, True, "not a number with a unit"),
        (units.size_bytes, -1, "a negative number"),
        (units.rate_pps, "500", "the unit is missing"),
        (units.percent, "1", "the unit is missing"),
        (units.percent, "101%", "more than 100%"),
        (units.percent, "-1%", "a negative number"),
    ],
)
def test_refuses(read: Callable[[object], float], value: object, problem: str) -> None:
    with pytest.raises(units.UnitError) as caught:
        read(value)
    assert caught.value.problem == problem
    assert caught.value.expected


def test_an_error_says_what_was_expected() -> None:
    with pytest.raises(units.UnitError) as caught:
        units.duration_ms("soon")
    assert str(caught.value) == (
        "not a number with a unit; expected a time with its unit (us, ms, s, min), such as 10ms"
    )


@given(
    st.decimals(min_value=0, max_value=10**9, places=3),
    st.sampled_from(sorted(units.DURATION_NS)),
)
def test_a_time_is_exact_or_refused(number: object, unit: str) -> None:
    exact = Fraction(str(number)) * units.DURATION_NS[unit]
    if exact.denominator == 1:
        assert units.duration_ns(f"{number}{unit}") == exact
    else:
        with pytest.raises(units.UnitError, match="finer"):
            units.duration_ns(f"{number}{unit}")


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (units.duration_us, units.size_bytes, units.rate_pps, units.percent):
        with suppress(units.UnitError):
            assert read(text) >= 0
