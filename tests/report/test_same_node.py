"""A node compared with itself shows no difference, at least 19 times in 20, on trials really made.

`same_node.json` holds pairs of trials of one and the same node, as they were measured. Which of a
pair is called baseline is chance; whatever a comparison then finds is noise of a real machine.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from testbed.measure.statistics import FEWEST_PAIRS, paired_ratio

STORED = json.loads((Path(__file__).parent / "same_node.json").read_text(encoding="utf-8"))
COMPARISONS = 120


@pytest.mark.parametrize("quantity", STORED["pairs"])
def test_a_node_does_not_differ_from_itself(quantity: str) -> None:
    pairs = STORED["pairs"][quantity]
    assert len(pairs) >= 2 * FEWEST_PAIRS
    chance = random.Random(7)
    differ = 0
    for number in range(COMPARISONS):
        drawn = [
            pair if chance.random() < 0.5 else pair[::-1]
            for pair in chance.sample(pairs, FEWEST_PAIRS)
        ]
        ratio = paired_ratio([a for a, _ in drawn], [b for _, b in drawn], seed=number)
        assert ratio.differs is not None
        differ += ratio.differs
    assert differ <= COMPARISONS / 20
