"""Which share of the numbers in a histogram lies below a value, and how far two histograms are apart by that."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import accumulate
from math import inf

from looptap.sketches.histogram import Histogram


class Cumulative:
    """Of a histogram as it is now. Exact at the bounds of its buckets; inside one, its numbers count as spread evenly."""

    def __init__(self, histogram: Histogram) -> None:
        buckets = list(histogram.buckets())
        self._lows = [bucket.low for bucket in buckets]
        self._highs = [bucket.high for bucket in buckets]
        self._below = [0, *accumulate(bucket.count for bucket in buckets)]

    def __len__(self) -> int:
        return self._below[-1]

    def bounds(self) -> Iterable[float]:
        """Where it is exact, in no order."""
        return {*self._lows, *self._highs}

    def up_to(self, value: float) -> float:
        """How many numbers are not above this one."""
        return self._count(bisect_right(self._highs, value), value)

    def below(self, value: float) -> float:
        """How many numbers are below this one. Another number only where there is a bucket of one value."""
        return self._count(bisect_left(self._highs, value), value)

    def _count(self, whole: int, value: float) -> float:
        """Those of the first ``whole`` buckets, and the part of the next one that reaches to the value."""
        if whole < len(self._lows) and (low := self._lows[whole]) < value:
            width = self._highs[whole] - low
            part = (value - low) / width if width < inf else 0.0
            return self._below[whole] + part * (self._below[whole + 1] - self._below[whole])
        return self._below[whole]


def kolmogorov_smirnov(one: Histogram, other: Histogram) -> float | None:
    """The greatest distance of the two distribution functions, 0 to 1; None when one has no numbers.

    Between histograms with the same center and spread it falls short of that of the numbers themselves by what two values of one
    bucket can add. With different ones a bucket may be cut in two by a bound of the other: each adds its share of the numbers at
    most.
    """
    if not (len(one) and len(other)):
        return None
    first, second = Cumulative(one), Cumulative(other)
    greatest = 0.0
    for value in {*first.bounds(), *second.bounds()}:
        for count in (Cumulative.up_to, Cumulative.below):
            greatest = max(greatest, abs(count(first, value) / len(first) - count(second, value) / len(second)))
    return greatest
