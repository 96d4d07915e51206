"""An agent that is slowed down on purpose: by what the environment says, and by nothing else."""

from __future__ import annotations

import time

import pytest

from agent.config import SLOW_VARIABLE
from agent.errors import ConfigError
from agent.slowing import slow_ns, slowed


def test_nothing_is_slowed_unless_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SLOW_VARIABLE, raising=False)
    assert slow_ns() == 0
    monkeypatch.setenv(SLOW_VARIABLE, "250")
    assert slow_ns() == 250_000


@pytest.mark.parametrize("text", ["fast", "-1", "1.5", "100001", ""])
def test_what_is_no_time_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SLOW_VARIABLE, text)
    with pytest.raises(ConfigError, match=f"{SLOW_VARIABLE}: got {text!r}"):
        slow_ns()


def test_each_frame_costs_so_much_more_and_none_costs_nothing() -> None:
    taken = iter((3, 0))
    take = slowed(lambda now_ns: next(taken), 1_000_000)
    began_ns = time.perf_counter_ns()
    assert take(0) == 3
    assert time.perf_counter_ns() - began_ns >= 3_000_000
    assert take(0) == 0
