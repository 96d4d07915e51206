"""Numbers and terms as a reader sees them, the same in every form of the report.

Must not know where a number comes from. No data is “–”, never zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from testbed.measure.statistics import Change, Ratio, Verdict
from testbed.report.blocks import Cell, Tone
from testbed.targets import Form

NOTHING = "–"
MINUS = "−"
SPACE = "\u00a0"

TONES = {
    Verdict.EXCEEDED: Tone.GOOD,
    Verdict.MET: Tone.GOOD,
    Verdict.MISSED: Tone.BAD,
    Verdict.INCONCLUSIVE: Tone.DOUBT,
    Verdict.NOT_MEASURED: Tone.FAINT,
    Verdict.FAILED_CHECKS: Tone.BAD,
}

CHANGE = (
    "“change” is not the quotient of two medians: it is the geometric mean of the ratios to the "
    "baseline, pair by pair, with its 95 % interval. Where trials scatter, it and the medians may "
    "point to different sides."
)
"""What stands below tables of medians that have a change beside them."""

PATHS = {
    "relay": "wire → wire",
    "relay-down": "wire → wire, downstream",
    "tap-to-wire": "TAP → wire",
    "wire-to-tap": "wire → TAP",
    "hairpin": "OBU → OBU",
    "group": "TAP → every OBU",
}


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def count(value: float | None) -> str:
    """A whole number with its thousands apart: 12 345."""
    if value is None:
        return NOTHING
    text = f"{round(abs(value)):,}".replace(",", SPACE)
    return (MINUS if round(value) < 0 else "") + text


def number(value: float | None, digits: int = 3) -> str:
    """A number to so many significant digits: 0.0123, 1.23, 123, 12 300."""
    if value is None:
        return NOTHING
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size >= digits - 1:
        return count(value) if size < 15 else f"{value:.2e}"
    places = min(digits - 1 - size, 6)
    text = f"{abs(value):.{places}f}"
    return (MINUS if value < 0 else "") + text


def percent(share: float | None, digits: int = 2) -> str:
    """A share as a percentage: 0.5 %; a share that is not nothing never prints as 0 %."""
    if share is None:
        return NOTHING
    if share == 0:
        return f"0{SPACE}%"
    value = 100 * share
    if abs(value) < 10**-digits:
        return f"<{SPACE}{10**-digits:g}{SPACE}%"
    text = f"{value:.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + f"{SPACE}%"


def mib(size: float | None) -> str:
    """A size in MiB, of a number of bytes."""
    return NOTHING if size is None else f"{size / (1 << 20):.1f}"


def change(ratio: float | None) -> str:
    """A ratio as a change in percent: +12 %, −3.1 %, ±0 %."""
    return NOTHING if ratio is None else f"{_change(ratio)}{SPACE}%"


def ratio_text(
    estimate: Ratio | Change | None, form: Form, *, at_least: bool = False, interval: bool = True
) -> str:
    """A ratio with its interval in the words in which a claim of that form is written.

    An interval that is no wider than the figure's last place is left out.
    """
    if estimate is None or estimate.ratio is None:
        return NOTHING
    ratio, fewer = estimate.ratio, estimate.ratio <= 1
    if form is Form.TIMES:
        text, write = f"{_factor(ratio)}×", _factor
    elif form is Form.FEWER:
        factor = _factor(1 / ratio if fewer else ratio)
        text = "as many" if factor == "1.00" else f"{factor}× {'fewer' if fewer else 'more'}"
        write = _inverse if fewer else _factor
    else:
        text, write = change(ratio), _change
    if interval and estimate.low is not None and estimate.high is not None:
        ends = [write(estimate.low), write(estimate.high)]
        if form is Form.FEWER and fewer:
            ends.reverse()
        if set(ends) != {write(ratio)}:
            text += f" [{', '.join(ends)}]"
    return (f"≥{SPACE}" if at_least else "") + text


def found(estimate: Ratio | None, *, at_least: bool = False) -> Cell:
    """A change with its interval; faint where the interval holds "no difference"."""
    text = ratio_text(estimate, Form.GAIN, at_least=at_least)
    differs = None if estimate is None else estimate.differs
    return Cell(text, Tone.PLAIN if differs else Tone.FAINT)


def seconds(duration: float) -> str:
    """A duration: 300 ms, 2 s, 81 s, 12 min 5 s."""
    if duration < 1:
        return f"{1000 * duration:.0f}{SPACE}ms"
    if duration < 120:
        return f"{duration:.3g}{SPACE}s"
    minutes, rest = divmod(round(duration), 60)
    return f"{minutes}{SPACE}min" + (f" {rest}{SPACE}s" if rest else "")


def _change(ratio: float) -> str:
    value = 100 * (ratio - 1)
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 0.05 else 2
    text = f"{size:.{digits}f}"
    if float(text) == 0:
        return "±0"
    return ("+" if value > 0 else MINUS) + text


def _factor(ratio: float) -> str:
    return number(ratio)


def _inverse(ratio: float) -> str:
    return number(1 / ratio)
