"""Frames that those who see the same stream agree on."""

from __future__ import annotations

import math
import random

import pytest

from looptap.sketches.framing import frame_of
from looptap.sketches.histogram import Histogram


def test_two_who_see_the_same_stream_choose_the_same() -> None:
    """Nearly always, whatever the stream; what they count can be merged then."""
    chance = random.Random(3)
    agreed = 0
    for _ in range(200):
        middle, width = chance.uniform(-1e3, 1e3), 10 ** chance.uniform(-6, 6)
        one, other = ([chance.gauss(middle, width) for _ in range(2_000)] for _ in range(2))
        agreed += frame_of(one) == frame_of(other)
    assert agreed >= 180


@pytest.mark.parametrize("scale", [1e-300, 1e-3, 1.0, 1e3, 1e300])
def test_the_middle_is_near(scale: float) -> None:
    """The median lies within two spreads of the center, and the spread within a factor of two of the quartiles' distance."""
    chance = random.Random(4)
    numbers = sorted(scale * chance.uniform(3, 4) for _ in range(1_001))
    center, spread = frame_of([*numbers, math.nan, math.inf])
    assert abs(numbers[500] - center) <= 2 * spread
    assert 0.2 * scale < spread <= 0.55 * scale


def test_nothing_to_go_by() -> None:
    """Few numbers, equal ones, and what has no distance."""
    for numbers in ([], [1.0] * 31, [5.0] * 100, [math.nan] * 100, [-1.7e308, 1.7e308] * 50):
        assert frame_of(numbers) == (0.0, 1.0)


def test_numbers_beyond_the_frame() -> None:
    """Are in the outermost buckets, where the transformed value would be infinite."""
    found = Histogram(*frame_of([1e-200 * number for number in range(100)]))
    found.add([1e300, -1e300, 1.0])
    least, *_, greatest = found.buckets()
    assert (least.count, greatest.count, len(found)) == (1, 1, 3)
