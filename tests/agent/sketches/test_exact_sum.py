"""Sums that do not depend on the order."""

from __future__ import annotations

import math
import random
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from looptap.sketches.exact_sum import exact_sum

finite = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(finite, max_size=40), st.randoms(use_true_random=False), st.integers(1, 7))
def test_parts_in_any_order_are_the_whole(values: list[float], chance: random.Random, parts: int) -> None:
    """Bit for bit, and exactly the sum, as long as that is a float."""
    whole = exact_sum(values)
    total = sum(map(Fraction, values), Fraction())
    if math.inf not in map(abs, whole):
        assert sum(map(Fraction, whole), Fraction()) == total
        assert list(map(abs, whole)) == sorted(map(abs, whole), reverse=True)
    sums = [exact_sum(values[part::parts]) for part in range(parts)]
    if all(math.isfinite(term) for terms in (whole, *sums) for term in terms):
        chance.shuffle(sums)
        merged: tuple[float, ...] = ()
        for one in sums:
            merged = exact_sum((*merged, *one))
            if not all(map(math.isfinite, merged)):
                return
        assert merged == whole


def test_beyond_the_range() -> None:
    """A sum that no float can be is infinite and stays so; one that only passes there on its way is right."""
    assert exact_sum([1e308, 1e308, -1e308]) == (1e308,)
    assert exact_sum([1e308] * 2) == (math.inf,)
    assert exact_sum([-1e308] * 2) == (-math.inf,)
    assert exact_sum([math.inf, -5.0]) == (math.inf,)
    assert exact_sum([]) == exact_sum([0.0, -0.0]) == exact_sum([0.1, -0.1]) == ()
