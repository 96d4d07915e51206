"""What values in a scenario file look like: names, times, frame sizes, rates, shares.

Must not know which keys there are.
"""

from __future__ import annotations

from typing import Final

from testbed.files import units
from testbed.files.fields import JsonSchema, Quantity, Text, Whole
from testbed.topology.file import LONGEST_NAME, NODE_NAME

MAX: Final = "max"
IMIX: Final = "imix"
LONGEST_FRAME: Final = 1450
"""In bytes, of the inner Ethernet frame; the mix has some of them."""

NAME: Final = Text(
    pattern=NODE_NAME,
    expected="letters, digits, '.', '_' and '-', a letter or digit first",
    longest=LONGEST_NAME,
)
SENTENCE: Final = Text(pattern=r"(?s:.+)", expected="text", longest=4000)
DURATION: Final = Quantity(
    parse=units.duration_s,
    units=units.DURATION_UNITS,
    expected="a time from 100ms to 60min, such as 2s",
    low=0.1,
    high=3600,
)
WARM_UP: Final = Quantity(
    parse=units.duration_s,
    units=units.DURATION_UNITS,
    expected="a time from 0s to 60s, such as 500ms",
    high=60,
)
REPEATS: Final = Whole(low=1, high=1000)
BURST: Final = Whole(low=1, high=1024)


class Share(Quantity):
    """A percentage, as a share from 0 to 1."""

    def check(self, value: object) -> float:
        return super().check(value) / 100


def _percentage(low: float, high: float, *, example: str) -> Share:
    return Share(
        parse=units.percent,
        units=("%",),
        expected=f"a percentage from {low:g}% to {high:g}%, such as {example}",
        low=low,
        high=high,
    )


class Frame(Quantity):
    """A size in bytes, or the Internet mix."""

    def check(self, value: object) -> float | str:  # type: ignore[override]
        return IMIX if value == IMIX else super().check(value)

    def schema(self) -> JsonSchema:
        return {"anyOf": [{"const": IMIX}, super().schema()]}


class Rate(Quantity):
    """Packets per second, or `max`."""

    def check(self, value: object) -> float:
        return 0.0 if value == MAX else super().check(value)

    def schema(self) -> JsonSchema:
        return {"anyOf": [{"const": MAX}, super().schema()]}


LOSS: Final = _percentage(0, 50, example="0.5%")
WIDTH: Final = _percentage(0.5, 50, example="5%")
SHARE: Final = _percentage(10, 100, example="25%")
FRAME: Final = Frame(
    parse=units.size_bytes,
    units=("B",),
    expected=f"a number of bytes from 60 to {LONGEST_FRAME}, such as 256, or imix",
    low=60,
    high=LONGEST_FRAME,
    bare=True,
)
_RATE_UNITS: Final = ("pps", "kpps", "mpps")
RATE: Final = Rate(
    parse=units.rate_pps,
    units=_RATE_UNITS,
    expected="a packet rate such as 500pps or 50kpps, or max",
    low=1,
    high=10_000_000,
)
PACED: Final = Quantity(
    parse=units.rate_pps,
    units=_RATE_UNITS,
    expected="a packet rate such as 500pps or 50kpps",
    low=1,
    high=10_000_000,
)
