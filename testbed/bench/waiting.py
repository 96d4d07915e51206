"""What the trials of `bench coalescing` come to: a row for each load and mode.

Pure: the document in, rows out, the same each time. Must not know how a trial is made.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from testbed.bench.figures import cpu_us, late_share
from testbed.bench.record import failures, usable
from testbed.measure.statistics import Ratio, paired_ratio

Trial = dict[str, Any]
Of = Callable[[Trial], float | None]

BASE: Final = "per-packet"
WITHOUT: Final = "off"
ALWAYS: Final = "fixed"
SOMETIMES: Final = "adaptive"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """The figures of one mode at one load: medians over its trials; None is "no data".

    `…_ratio` are to the mode `per-packet` in the same round; `added_us` is the median of what the
    99.9th percentile of the latency is above that mode's, round by round. `late_share` is the part
    of the time in which the node could have run and had no CPU: how far to trust latencies.
    `to_better` is the CPU time over that of the better of never and always waiting.
    """

    load: str
    name: str
    trials: int
    cpu_us: float | None
    cpu_ratio: Ratio | None
    wakeups: float | None
    wakeups_ratio: Ratio | None
    latency_us: Mapping[str, float | None]
    added_us: float | None
    p99_ratio: Ratio | None
    late_share: float | None
    delivered_share: float | None
    limited: int
    """Trials in which the generator did not keep the rate."""
    better: str | None
    to_better: Ratio | None
    decisions: Mapping[str, int]
    failed: str | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def rows(document: Mapping[str, Any]) -> list[Row]:
    """All rows: loads and modes in the order measured first."""
    groups: dict[str, dict[str, list[Trial]]] = {}
    for one in document["trials"]:
        groups.setdefault(one["load"], {}).setdefault(one["name"], []).append(one)
    first_round = list(dict.fromkeys(one["name"] for one in document["trials"]))
    return [
        _row(load, name, modes)
        for load, modes in groups.items()
        for name in first_round
        if name in modes
    ]


def _row(load: str, name: str, modes: Mapping[str, Sequence[Trial]]) -> Row:
    mine = modes[name]
    good = [one for one in mine if usable(one)]
    pairs = _pairs(modes.get(BASE, []), mine)
    better = _better(modes) if name == SOMETIMES else None
    failed = failures(mine)
    keys = list(good[0]["latency_ns"]) if good else []
    return Row(
        load=load,
        name=name,
        trials=len(good),
        cpu_us=_median(map(cpu_us, good)),
        cpu_ratio=_ratio(pairs, cpu_us),
        wakeups=_median(map(wakeups, good)),
        wakeups_ratio=_ratio(pairs, wakeups),
        latency_us={key: _median(_latency_us(key)(one) for one in good) for key in keys},
        added_us=_median(_difference(_latency_us("p99.9"), *pair) for pair in pairs),
        p99_ratio=_ratio(pairs, _latency_us("p99")),
        late_share=_median(map(late_share, good)),
        delivered_share=_median(map(_delivered, good)),
        limited=sum(one["generator_limited"] is not None for one in good),
        better=better,
        to_better=None if better is None else _ratio(_pairs(modes[better], mine), cpu_us),
        decisions=_decisions(good),
        failed=failed[0] if failed else None,
    )


def _pairs(base: Sequence[Trial], mine: Sequence[Trial]) -> list[tuple[Trial, Trial]]:
    by_round = {one["round"]: one for one in base if usable(one)}
    return [
        (by_round[one["round"]], one) for one in mine if usable(one) and one["round"] in by_round
    ]


def _better(modes: Mapping[str, Sequence[Trial]]) -> str | None:
    found = {
        name: value
        for name in (WITHOUT, ALWAYS)
        if (value := _median(cpu_us(one) for one in modes.get(name, []) if usable(one)))
    }
    return min(found, key=lambda name: found[name]) if found else None


def _ratio(pairs: Sequence[tuple[Trial, Trial]], of: Of) -> Ratio | None:
    if not pairs:
        return None
    found = paired_ratio([of(a) for a, _ in pairs], [of(b) for _, b in pairs])
    return found if found.ratio is not None else None


def wakeups(trial: Trial) -> float | None:
    """Wake-ups per delivered packet, by a descriptor or by the clock."""
    return trial["extra"]["wakeups"] / trial["delivered"] if trial["delivered"] else None


def _delivered(trial: Trial) -> float | None:
    return trial["delivered"] / trial["offered"] if trial["offered"] else None


def _latency_us(key: str) -> Of:
    def of(trial: Trial) -> float | None:
        value = trial["latency_ns"].get(key)
        return None if value is None else value / 1e3

    return of


def _difference(of: Of, base: Trial, mine: Trial) -> float | None:
    before, after = of(base), of(mine)
    return None if before is None or after is None else after - before


def _decisions(trials: Iterable[Trial]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in trials:
        for name, count in one["extra"].items():
            kind, _, decision = name.partition(":")
            if kind == "decision":
                total[decision] = total.get(decision, 0) + count
    return total


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
