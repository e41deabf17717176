"""A distribution as counts of a few bins, which are chosen so that a reference has about as many values in each."""

from __future__ import annotations

from collections.abc import Sequence

from looptap.sketches.cumulative import Cumulative
from looptap.sketches.distribution import Distribution

#: Of numbers. Ten of a tenth each are what the usual thresholds of a PSI are meant for.
NUMBER_BINS = 10
#: Of bins in which fewer values are to be expected no test can say anything; they are taken together.
LEAST_EXPECTED = 5.0
_NO_NUMBERS = ("nan", "above", "below", "null")


class Bins:
    """Numbers in intervals whose bounds are bounds of the reference's buckets, classes by name; NaN, the infinities and what is
    missing have a bin each, and whatever the reference does not know has one together. Counts of a distribution with the same
    center and spread are exact."""

    def __init__(self, reference: Distribution) -> None:
        self._bounds = _inner_bounds(reference)
        self._names = sorted(reference.classes)
        #: Counts of the reference in each.
        self.reference = self.counts(reference)

    def counts(self, distribution: Distribution) -> list[float]:
        """One for each bin, in their order; together as many as there are values."""
        found = Cumulative(distribution.numbers)
        reached = [0.0, *(found.up_to(bound) for bound in self._bounds), float(len(found))]
        numbers = [high - low for low, high in zip(reached, reached[1:], strict=False)]
        classes = [float(distribution.classes[name]) for name in self._names]
        strange = [float(getattr(distribution, name)) for name in _NO_NUMBERS]
        unknown = distribution.classes.total() - sum(classes) + distribution.other
        return [*numbers, *classes, *strange, unknown]

    def pooled(self, counts: Sequence[float]) -> tuple[list[float], list[float]]:
        """These counts and those of the reference, with bins taken together in which too few values are to be expected. Of one
        length, without bins that are empty on both sides."""
        total, whole = sum(counts), sum(self.reference)
        smaller = min(total, whole)
        kept: list[tuple[float, float]] = []
        rest, rest_of_reference = 0.0, 0.0
        for count, known in zip(counts, self.reference, strict=True):
            if known * smaller >= LEAST_EXPECTED * whole:
                kept.append((count, known))
            else:
                rest, rest_of_reference = rest + count, rest_of_reference + known
        if rest or rest_of_reference:
            kept.append((rest, rest_of_reference))
        return [count for count, _ in kept], [known for _, known in kept]


def _inner_bounds(reference: Distribution) -> list[float]:
    """At most one less than there are to be bins; fewer where a bucket has more values than a bin should."""
    size = len(reference.numbers) / NUMBER_BINS
    bounds: list[float] = []
    reached = 0
    for bucket in reference.numbers.buckets():
        reached += bucket.count
        if reached >= size * (len(bounds) + 1) and reached < len(reference.numbers):
            # A bucket of many values fills the bins that would have begun in it.
            bounds.extend([bucket.high] * (int(reached / size) - len(bounds)))
    return sorted(set(bounds))
