"""The least draws are a fair sample, and samples can be merged."""

from __future__ import annotations

import random
from collections import Counter
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from looptap.sketches.sampling import MOST_EXAMPLES, sampled


class Call(NamedTuple):
    draw: float
    name: int = 0


@given(draws=st.lists(st.floats(0, 1), unique=True, max_size=60), at=st.integers(0, 60), most=st.integers(0, 30))
def test_of_parts_it_is_that_of_the_whole(draws: list[float], at: int, most: int) -> None:
    """However they were split, and in whatever order."""
    calls = [Call(draw) for draw in draws]
    whole = sampled(calls, most)
    assert whole == sampled([*sampled(calls[at:], most), *sampled(calls[:at], most)], most)
    assert len(whole) == min(most, len(calls))


def test_every_call_has_the_same_chance() -> None:
    """Whether it came first or last: each of 100 is kept in a fifth of 2,000 samples, within five standard deviations."""
    chance = random.Random(7)
    kept = Counter(call.name for _ in range(2_000) for call in sampled(Call(chance.random(), n) for n in range(100)))
    assert kept.total() == 2_000 * MOST_EXAMPLES
    assert all(abs(kept[name] - 400) < 5 * (2_000 * 0.2 * 0.8) ** 0.5 for name in range(100))
