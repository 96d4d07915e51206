"""Values with units: text such as `10ms`, `50kpps`, `64KiB` or `1%` becomes a number, exactly.

Must not know where the text comes from: a wrong one raises `UnitError`, the caller adds the place.

Times are SI; rates are packets per second in powers of 1000; sizes in powers of 1000 (`kB`, `MB`)
and of 1024 (`KiB`, `MiB`) keep apart.
A bare 0 needs no unit. The arithmetic is exact (`Fraction`), so 0.1ms is 100us and nothing less.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from fractions import Fraction

DURATION_NS: Mapping[str, int] = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "min": 60_000_000_000,
}
# Micro is written with either of two letters of Unicode, or with none.
_MICRO = ("µs", "μs")
DURATION_UNITS = (*DURATION_NS, *_MICRO)
SIZE_BYTES: Mapping[str, int] = {
    "B": 1,
    "kB": 1_000,
    "MB": 1_000_000,
    "GB": 1_000_000_000,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
}
RATE_PPS: Mapping[str, int] = {"pps": 1, "kpps": 1_000, "mpps": 1_000_000}

DURATION_EXPECTED = "a time with its unit (us, ms, s, min), such as 10ms"
SIZE_EXPECTED = "a number of bytes, such as 256, 256B or 64KiB"
PACKET_RATE_EXPECTED = "a packet rate with its unit (pps, kpps), such as 500pps"
PERCENT_EXPECTED = "a percentage from 0% to 100%, such as 1% or 0.5%"

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_QUANTITY = re.compile(rf"({_NUMBER})\s*([^\s0-9.,+-]*)", re.ASCII)

# No value here is near this long; more digits are a mistake, or meant to keep us busy.
_LONGEST = 40


class UnitError(ValueError):
    """A value that is no quantity of the wanted sort. `expected` says what would have been."""

    def __init__(self, problem: str, expected: str) -> None:
        super().__init__(f"{problem}; expected {expected}")
        self.problem = problem
        self.expected = expected


def duration_ns(value: object) -> int:
    """A time in whole nanoseconds: `5ms` is 5 000 000. UnitError where it is none."""
    return _whole(_scaled(value, DURATION_NS, DURATION_EXPECTED), "ns", DURATION_EXPECTED)


def duration_us(value: object) -> int:
    """A time in whole microseconds; UnitError also where it is finer than one."""
    exact = _scaled(value, DURATION_NS, DURATION_EXPECTED) / DURATION_NS["us"]
    return _whole(exact, "us", DURATION_EXPECTED)


def duration_ms(value: object) -> int:
    """A time in whole milliseconds; UnitError also where it is finer than one."""
    exact = _scaled(value, DURATION_NS, DURATION_EXPECTED) / DURATION_NS["ms"]
    return _whole(exact, "ms", DURATION_EXPECTED)


def duration_s(value: object) -> float:
    """A time in seconds, as a float; UnitError where it is none."""
    return float(_scaled(value, DURATION_NS, DURATION_EXPECTED) / DURATION_NS["s"])


def size_bytes(value: object) -> int:
    """A size in bytes. A bare whole number is bytes, as with every MTU and frame length."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = f"{value}B"
    elif isinstance(value, float):
        raise UnitError("not a whole number of bytes", SIZE_EXPECTED)
    elif isinstance(value, str) and value.strip().isdecimal():
        value = f"{value.strip()}B"
    return _whole(_scaled(value, SIZE_BYTES, SIZE_EXPECTED), "B", SIZE_EXPECTED)


def rate_pps(value: object) -> float:
    """A rate in packets per second: `50kpps` is 50 000.0."""
    return float(_scaled(value, RATE_PPS, PACKET_RATE_EXPECTED))


def percent(value: object) -> float:
    """A percentage from 0 to 100, as such: `1%` is 1.0, not 0.01."""
    exact = _scaled(value, {"%": 1}, PERCENT_EXPECTED)
    if exact > 100:
        raise UnitError("more than 100%", PERCENT_EXPECTED)
    return float(exact)


def _scaled(value: object, units: Mapping[str, int], expected: str) -> Fraction:
    """The value in the smallest of its units, exactly."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise UnitError("not a number with a unit", expected)
    if not isinstance(value, str):
        if value == 0:
            return Fraction(0)
        raise UnitError("a negative number" if value < 0 else "the unit is missing", expected)
    text = value.strip()
    if len(text) > _LONGEST:
        raise UnitError("too long for a number with a unit", expected)
    if text.startswith("-"):
        raise UnitError("a negative number", expected)
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise UnitError("not a number with a unit", expected)
    number, unit = Fraction(match[1]), match[2]
    if unit in units:
        return number * units[unit]
    if unit in _MICRO and "us" in units:
        return number * units["us"]
    if not unit:
        if number == 0:
            return number
        raise UnitError("the unit is missing", expected)
    raise UnitError(f"unknown unit {unit!r}{_near(unit, units)}", expected)


def _near(unit: str, units: Mapping[str, int]) -> str:
    for known in units:
        if known.lower() == unit.lower():
            return f", did you mean {known!r}?"
    near = difflib.get_close_matches(unit, units, n=1, cutoff=0.6)
    return f", did you mean {near[0]!r}?" if near else ""


def _whole(exact: Fraction, unit: str, expected: str) -> int:
    if exact.denominator != 1:
        raise UnitError(f"finer than 1{unit}", expected)
    return exact.numerator
