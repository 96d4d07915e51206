"""Which share of a load counts as offered, and what belongs to it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from testbed.traffic.trial import OFFERED_SHARE, SEARCH_SHARE, LegTraffic


@pytest.mark.parametrize(("at_tap", "refused", "short"), [(False, 15, True), (True, 15, False)])
def test_what_a_full_tap_refused_was_offered_and_what_came_too_late_was_not(
    at_tap: bool, refused: int, short: bool
) -> None:
    generator = SimpleNamespace(
        intended_counted=1000, counted=980, refused_counted={"ENOBUFS": refused}
    )
    leg = LegTraffic(copies=1, generator=generator, sink=SimpleNamespace(), at_tap=at_tap)  # type: ignore[arg-type]
    assert leg.short_of(OFFERED_SHARE) is None
    assert (leg.short_of(SEARCH_SHARE) is not None) == short
