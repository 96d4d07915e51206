"""What the trials of `bench engines` come to: a row for each entry, path and batch size.

Pure: the document in, rows out, the same each time. Must not know how a trial is made.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from testbed.bench.entries import FLOOR
from testbed.bench.record import failures, usable
from testbed.measure.statistics import Ratio, paired_ratio

Trial = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """The figures of one entry: medians over its trials; None is "no data".

    `pps` delivered packets a second, which is what the tester could do and not what the entry can
    where `lower_bound` is set. `pps_ratio` is that over the floor's next to it, left out for pairs
    in which the tester was the limit of both; `bound` says that it was the limit of the entry
    ("≥"), of the floor ("≤"), or now of this, now of that ("≈"). `cpu_us` is CPU time per delivered
    packet, `work_ratio` packets for the same CPU time over the floor's. `late_share` is the part of
    the time in which the entry could have run and others had its CPU: how far to trust the rest.
    `failed` says why trials have no figures.
    """

    path: str
    name: str
    batch: int | None
    trials: int
    pps: float | None
    lower_bound: bool
    cpu_us: float | None
    calls: float | None
    delivered_share: float | None
    late_share: float | None
    pps_ratio: Ratio | None
    bound: str
    work_ratio: Ratio | None
    failed: str | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def rows(document: Mapping[str, Any]) -> list[Row]:
    """All rows: paths in the order measured, in each the floor first, batch sizes ascending."""
    trials: Sequence[Trial] = document["trials"]
    by_number = {one["number"]: one for one in trials}
    groups: dict[tuple[str, str, int | None], list[Trial]] = {}
    for one in sorted(trials, key=lambda one: int(one["number"])):
        groups.setdefault((one["path"], one["name"], one["batch"]), []).append(one)
    paths = list(dict.fromkeys(path for path, _, _ in groups))
    names = list(dict.fromkeys([FLOOR, *(name for _, name, _ in groups)]))
    ordered = sorted(
        groups, key=lambda key: (paths.index(key[0]), names.index(key[1]), key[2] or 0)
    )
    return [_row(*key, groups[key], by_number) for key in ordered]


def _row(
    path: str,
    name: str,
    batch: int | None,
    trials: Sequence[Trial],
    by_number: Mapping[int, Trial],
) -> Row:
    good = [one for one in trials if usable(one)]
    pairs = [
        (by_number[one["pair"]], one)
        for one in good
        if one["pair"] in by_number and usable(by_number[one["pair"]])
    ]
    apart = [(a, b) for a, b in pairs if not (a["lower_bound"] and b["lower_bound"])]
    marks = {
        "≥" if entry["lower_bound"] else "≤"
        for floor, entry in apart
        if entry["lower_bound"] != floor["lower_bound"]
    }
    failed = failures(trials)
    return Row(
        path=path,
        name=name,
        batch=batch,
        trials=len(good),
        pps=_median(map(pps, good)),
        lower_bound=any(one["lower_bound"] for one in good),
        cpu_us=_median(map(cpu_us, good)),
        calls=_median(map(calls, good)),
        delivered_share=_median(map(_share, good)),
        late_share=_median(map(late_share, good)),
        pps_ratio=_ratio(apart, pps),
        bound="≈" if len(marks) == 2 else "".join(marks),
        work_ratio=_ratio(pairs, lambda one: _inverse(cpu_us(one))),
        failed=failed[0] if failed else None,
    )


def pps(trial: Trial) -> float | None:
    """Delivered packets a second."""
    duration = trial["duration_ns"]
    return trial["delivered"] * 1e9 / duration if duration else None


def cpu_us(trial: Trial) -> float | None:
    """CPU time per delivered packet."""
    if trial["cpu_ns"] is None or not trial["delivered"]:
        return None
    return float(trial["cpu_ns"] / trial["delivered"] / 1e3)


def calls(trial: Trial) -> float | None:
    """System calls per delivered packet."""
    if trial["calls"] is None or not trial["delivered"]:
        return None
    return float(sum(trial["calls"].values()) / trial["delivered"])


def late_share(trial: Trial) -> float | None:
    """Part of the trial in which whoever forwards could have run and had no CPU."""
    if trial["run_delay_ns"] is None or not trial["duration_ns"]:
        return None
    return float(trial["run_delay_ns"] / trial["duration_ns"])


def _share(trial: Trial) -> float | None:
    return trial["delivered"] / trial["offered"] if trial["offered"] else None


def _inverse(value: float | None) -> float | None:
    return 1 / value if value else None


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _ratio(
    pairs: Sequence[tuple[Trial, Trial]], of: Callable[[Trial], float | None]
) -> Ratio | None:
    """Of the entries over the floors; None without a pair."""
    if not pairs:
        return None
    found = paired_ratio([of(a) for a, _ in pairs], [of(b) for _, b in pairs])
    return found if found.ratio is not None else None
