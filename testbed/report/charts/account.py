"""What became of the packets, as bars: delivered, dropped by cause, unexplained.

Must not know how it is drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from testbed.measure.statistics import trials_of
from testbed.report.charts.common import key_of, place_text, places_by_point
from testbed.report.charts.model import TONES, BarChart, Bars
from testbed.report.wording import percent
from testbed.results import Result

_WORTH_SHOWING = 0.0005
"""A bar of less than this share would not be seen; where all arrived there is nothing to show."""
_DELIVERED, _OTHER, _UNEXPLAINED = "delivered", "other causes", "unexplained"


def ledger(result: Result) -> Iterator[BarChart]:
    """A chart for each point at which packets were lost, a bar for each load and variant there."""
    for (point, frame_bytes), places in places_by_point(result).items():
        accounts: dict[str, Counter[str]] = {}
        for place in places:
            for variant in result.scenario.variants:
                account: Counter[str] = Counter()
                for trial in trials_of(result, place, variant.name):
                    if trial.ledger is None:
                        continue
                    account[_DELIVERED] += trial.ledger.delivered
                    account[_UNEXPLAINED] += max(trial.ledger.unexplained, 0)
                    for entry in trial.ledger.lines:
                        account[f"{entry.place}: {entry.cause}"] += max(entry.count, 0)
                whole = account.total()
                if whole and 1 - account[_DELIVERED] / whole >= _WORTH_SHOWING:
                    accounts[f"{place.load}, {variant.name}"] = account
        if not accounts:
            continue
        where = place_text(result, point, frame_bytes)
        told = " ".join(
            f"{name}: "
            + ", ".join(f"{percent(n / a.total(), 1)} {cause}" for cause, n in a.most_common() if n)
            + "."
            for name, a in accounts.items()
        )
        yield BarChart(
            key=key_of("ledger", point, frame_bytes),
            title=f"Where the packets went: {where}",
            axis="% of the offered packets",
            groups=tuple(accounts),
            group_title="",
            bars=tuple(_bars(list(accounts.values()))),
            alt=f"Shares of the offered packets, {where}. {told}",
            note="Loads and variants that lost packets.",
            stacked=True,
        )


def _bars(accounts: list[Counter[str]]) -> Iterator[Bars]:
    every: Counter[str] = Counter()
    for account in accounts:
        every.update(account)
    causes = [c for c, n in every.most_common() if n and c not in (_DELIVERED, _UNEXPLAINED)]
    named = causes[: TONES - 3]
    # Delivered is the baseline's grey: what is lost is what should be seen.
    yield _share(_DELIVERED, 0, accounts, [_DELIVERED])
    for tone, cause in enumerate(named, start=1):
        yield _share(cause, tone, accounts, [cause])
    if causes[len(named) :]:
        yield _share(_OTHER, TONES - 2, accounts, causes[len(named) :])
    if every[_UNEXPLAINED]:
        yield _share(_UNEXPLAINED, TONES - 1, accounts, [_UNEXPLAINED])


def _share(name: str, tone: int, accounts: list[Counter[str]], causes: list[str]) -> Bars:
    return Bars(
        name=name,
        tone=tone,
        values=tuple(100 * sum(a[cause] for cause in causes) / a.total() for a in accounts),
    )
