"""Intervals of 99 % for what two versions differ in: a handful of numbers is looked at together, and one in twenty such looks may
mislead.

Of a share: Wilson's score interval (1927). Of a quantile: the values at the ranks between which it lies so often, by the normal
approximation of the binomial; it holds for every distribution (Conover, Practical nonparametric statistics). Of a mean: the normal
one. Of a difference: from the intervals of both sides, by the square-and-add rule that Newcombe (1998, method 10) gave for shares,
and Zou and Donner (2008) for all.

All of it is of independent requests. Those of a queue that is full wait together: there the truth is less sure than is said.
"""

from __future__ import annotations

from math import expm1, hypot, log, sqrt
from statistics import NormalDist

from looptap.sketches.comparing import Estimate
from looptap.sketches.histogram import Histogram

_Z = NormalDist().inv_cdf(0.995)
#: Nobody asks how many times more than that.
_MOST_LOG = 100.0
#: How far a quantile of a histogram may be from the exact one.
_BUCKET = 0.0109


def share(count: int, total: int) -> Estimate:
    """Of ``count`` of ``total``, which is above zero."""
    value = count / total
    middle = (value + _Z * _Z / (2 * total)) / (1 + _Z * _Z / total)
    reach = _Z / (1 + _Z * _Z / total) * sqrt(value * (1 - value) / total + (_Z / (2 * total)) ** 2)
    return Estimate(value, max(0.0, middle - reach), min(1.0, middle + reach))


def quantile(histogram: Histogram, at: float) -> Estimate | None:
    """None where there are no values, or too few to have one on either side of it."""
    count = len(histogram)
    reach = _Z * sqrt(at * (1 - at) / count) if count else 1.0
    if not reach <= at <= 1 - reach:
        return None
    value, low, high = (histogram.quantile(share) for share in (at, at - reach, at + reach))
    if value is None or low is None or high is None:
        return None
    return Estimate(value, low * (1 - _BUCKET), high * (1 + _BUCKET))


def mean(values: list[tuple[float, int]]) -> Estimate | None:
    """Of values and how often each was seen; None of fewer than two."""
    count = sum(often for _, often in values)
    if count < 2:
        return None
    middle = sum(value * often for value, often in values) / count
    # Not a power, which raises where a product is infinite.
    variance = sum((value - middle) * (value - middle) * often for value, often in values) / (count - 1)
    reach = _Z * sqrt(variance / count)
    return Estimate(middle, middle - reach, middle + reach)


def difference(first: Estimate, second: Estimate) -> Estimate:
    """The second less the first."""
    value = second.value - first.value
    return Estimate(
        value,
        value - hypot(second.value - second.low, first.high - first.value),
        value + hypot(second.high - second.value, first.value - first.low),
    )


def relative_difference(first: Estimate, second: Estimate) -> Estimate | None:
    """By which part of the first the second is greater; None unless both are above zero and of sizes that can be compared."""
    if min(first.low, second.low) <= 0:
        return None
    found = difference(*(Estimate(*map(log, side)) for side in (first, second)))
    return Estimate(*map(expm1, found)) if found.high < _MOST_LOG else None
