"""Bins of references of every kind."""

from __future__ import annotations

import random

import pytest

from looptap.sketches.binning import NUMBER_BINS, Bins
from looptap.sketches.distribution import Distribution


def numbers(values: list[float]) -> Distribution:
    made = Distribution()
    made.add_numbers(values)
    return made


def test_as_many_numbers_in_each() -> None:
    """About; whatever else is counted has all its values somewhere."""
    chance = random.Random(1)
    reference = numbers([chance.gauss(0, 1) for _ in range(10_000)])
    bins = Bins(reference)
    assert len([count for count in bins.reference if count]) == NUMBER_BINS
    assert all(count == 0 or 800 < count < 1_200 for count in bins.reference)
    now = numbers([chance.gauss(3, 5) for _ in range(5_000)])
    now.add_classes(["x"] * 7)
    now.add_null(2)
    assert sum(bins.counts(now)) == len(now)


def test_counts_are_exact() -> None:
    """At the bounds of buckets nothing is in two bins by halves."""
    chance = random.Random(2)
    bins = Bins(numbers([chance.expovariate(1) for _ in range(1_000)]))
    assert all(count == int(count) for count in bins.counts(numbers([chance.expovariate(2) for _ in range(999)])))


def test_many_of_one_value() -> None:
    """Has a bin of its own and takes those that would have begun in it."""
    bins = Bins(numbers([1.0] * 700 + [2.0] * 200 + [3.0] * 100))
    assert [count for count in bins.reference if count] == [700, 200, 100]
    assert [count for count in Bins(numbers([5.0] * 50)).reference if count] == [50]


def test_classes_and_what_is_no_number() -> None:
    """By name; unknown classes together, also with those that are not told by name."""
    reference = Distribution()
    reference.add_classes(["a"] * 60 + ["b"] * 40)
    reference.add_null(10)
    now = Distribution()
    now.add_classes(["b"] * 5 + ["new"] * 3)
    now.other = 2
    now.add_null(1)
    now.add_numbers([float("nan"), float("inf"), float("-inf")])
    bins = Bins(reference)
    assert sorted(count for count in bins.counts(now) if count) == [1, 1, 1, 1, 5, 5]
    assert sum(bins.counts(now)) == len(now) == 14


def test_bins_with_few_values_are_taken_together() -> None:
    reference = Distribution()
    reference.add_classes(["a"] * 900 + ["b"] * 90 + ["c"] * 6 + ["d"] * 4)
    bins = Bins(reference)
    now = Distribution()
    now.add_classes(["a"] * 95 + ["c"] * 3 + ["e"] * 2)
    assert bins.pooled(bins.counts(now)) == ([95.0, 0.0, 5.0], [900.0, 90.0, 10.0])
    assert bins.pooled(bins.reference) == ([900.0, 90.0, 6.0, 4.0], [900.0, 90.0, 6.0, 4.0])


@pytest.mark.parametrize("values", [[], [float("nan")]])
def test_a_reference_without_numbers(values: list[float]) -> None:
    bins = Bins(numbers(values))
    assert sum(bins.counts(numbers([1.0, -2.0]))) == 2
