"""Around which center, in which spread, the numbers of a stream are best counted: so that buckets are fine where the numbers are.

Whoever sees a stream (each replica of a server, the evaluation of a training) chooses by some of its numbers. Centers and spreads
are rounded so coarsely that nearly all choose the same, because only histograms with the same two merge.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import frexp, inf, isfinite, ldexp
from statistics import quantiles

#: Fewer numbers do not tell.
LEAST_NUMBERS = 32
#: A center is a multiple of so many spreads.
_STEPS = 4


def frame_of(numbers: Sequence[float]) -> tuple[float, float]:
    """Center and spread for numbers like these (those that are not finite do not count): a multiple of four spreads near the
    median, and the power of two near the distance of the quartiles. (0, 1) where they do not tell."""
    finite = [number for number in numbers if isfinite(number)]
    if len(finite) < LEAST_NUMBERS:
        return 0.0, 1.0
    low, middle, high = quantiles(finite, n=4, method="inclusive")
    distance = high - low
    if not 0 < distance < inf:
        return 0.0, 1.0
    spread = ldexp(1.0, frexp(distance)[1] - 1)
    center = round(middle / (_STEPS * spread)) * (_STEPS * spread)
    return center, spread
