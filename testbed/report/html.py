"""The report as one HTML file that needs nothing else: no network, no font, no script.

The only module that knows Jinja. Sections and tables are those of every form; plots stand with the
section that they belong to, and on the first screen each claim has a line of its own that shows how
much of it was found. Must not know what the report says.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from testbed.measure.statistics import Finding, Verdict, assess
from testbed.report.blocks import Block, Bullets, Line, Table
from testbed.report.charts import BarChart, Chart, charts
from testbed.report.contents import contents
from testbed.report.summary import claim_text, found_text, several_candidates
from testbed.report.wording import TONES
from testbed.results import Result
from testbed.targets import Better

MARKS: Final = "●■▲◆▼✚✖★"
"""The marks of the drawings, as characters for their legends."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gauge:
    """Where a finding lies on the way from no change to its claim; all in percent of the width.

    `zero` is no change. From `claim_from` to `claim_to` is what was claimed. `low`, `at` and
    `high` are what was found, None where there is nothing to show.
    """

    zero: float
    claim_from: float
    claim_to: float
    low: float | None
    at: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """One row of the first screen."""

    claim: str
    load: str
    claimed: str
    found: str
    verdict: str
    tone: str
    gauge: Gauge | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Legend:
    """An entry of a plot's legend; `kind` is line, reference, dashed or bar."""

    name: str
    tone: int
    kind: str
    mark: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot:
    chart: Chart
    svg: Markup
    legend: tuple[Legend, ...]


def render_html(result: Result) -> str:
    """The whole page; ends with a newline. The same result gives the same text."""
    # Slow to import: who wants no page does not wait for it.
    from testbed.report.charts.drawing import draw

    findings = assess(result)
    plots = {
        key: [Plot(chart=one, svg=Markup(draw(one)), legend=_legend(one)) for one in made]
        for key, made in charts(result).items()
    }
    tally = Counter(finding.verdict for finding in findings if not finding.target.potential)
    page = _environment().get_template("report.html.jinja")
    text = page.render(
        result=result,
        sections=contents(result),
        plots=plots,
        claims=[_claim(one, several_candidates(findings)) for one in findings],
        tally=[(str(v), TONES[v].value, tally[v]) for v in Verdict if tally[v]],
        claims_in_all=tally.total(),
        kind=_kind,
    )
    return text.strip() + "\n"


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("testbed.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _kind(block: Block) -> str:
    if isinstance(block, Line):
        return "tally" if block.tally else "line"
    if isinstance(block, Bullets):
        return "bullets"
    assert isinstance(block, Table)
    return "claims" if block.claims else "table"


def _claim(finding: Finding, several: bool) -> Claim:
    return Claim(
        claim=claim_text(finding, several=several),
        load=finding.cell.load if finding.cell else finding.band,
        claimed=finding.target.claimed,
        found=found_text(finding),
        verdict=finding.verdict,
        tone=TONES[finding.verdict].value,
        gauge=_gauge(finding),
    )


def _gauge(finding: Finding) -> Gauge | None:
    """To the right is better, in logarithms. The modest end of a claim stands at the same place in
    each row, whatever it comes to; where nothing was to be added, no change stands in the middle.
    """
    target, estimate = finding.target, finding.estimate
    if estimate is None or estimate.ratio is None:
        return None
    sign = 1.0 if target.better is Better.HIGHER else -1.0
    least = sign * math.log(target.least)
    most = None if target.most is None else sign * math.log(target.most)
    # A claim of no gain has no way to it: half more or less is the width then.
    unit, zero = (40 / least, 20.0) if least > 0.02 else (45 / math.log(1.5), 50.0)

    def place(value: float | None) -> float | None:
        return None if value is None else round(min(max(zero + unit * value, 1.0), 99.0), 1)

    def found(ratio: float | None) -> float | None:
        return place(None if ratio is None else sign * math.log(ratio))

    ends = [end for end in (found(estimate.low), found(estimate.high)) if end is not None]
    return Gauge(
        zero=zero,
        claim_from=place(least) or 0.0,
        claim_to=99.0 if most is None or least <= 0.02 else place(most) or 99.0,
        low=min(ends, default=None),
        at=found(estimate.ratio),
        high=max(ends, default=None),
    )


def _legend(chart: Chart) -> tuple[Legend, ...]:
    if isinstance(chart, BarChart):
        return tuple(Legend(name=bars.name, tone=bars.tone, kind="bar") for bars in chart.bars)
    return tuple(
        Legend(
            name=series.name,
            tone=series.tone,
            kind="reference" if series.reference else "dashed" if series.dashed else "line",
            mark="" if series.smooth else MARKS[series.tone],
        )
        for series in chart.series
    )
