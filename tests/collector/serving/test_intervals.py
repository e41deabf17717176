"""Intervals against SciPy, a published example, and what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from looptap.sketches.comparing import Estimate
from looptap.sketches.histogram import Histogram
from looptap_collector.serving import intervals


@pytest.mark.parametrize(("count", "total"), [(0, 10), (1, 1), (3, 1_000), (500, 1_000), (999, 1_000)])
def test_a_share(count: int, total: int) -> None:
    """Is Wilson's interval."""
    expected = binomtest(count, total).proportion_ci(0.99, "wilson")
    found = intervals.share(count, total)
    assert found.value == count / total
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_a_difference_of_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    """56 of 70 and 48 of 80, the first example of Newcombe's paper: 0.0524 to 0.3339 at 95 %."""
    monkeypatch.setattr(intervals, "_Z", 1.959964)
    found = intervals.difference(intervals.share(48, 80), intervals.share(56, 70))
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def histogram(values: object) -> Histogram:
    made = Histogram()
    made.add(np.asarray(values).tolist())
    return made


@pytest.mark.parametrize("at", [0.5, 0.9, 0.99])
def test_a_quantile(at: float) -> None:
    """The true one lies in 99 of 100 intervals, whatever the distribution."""
    chance = np.random.default_rng(1)
    for values, truth in (
        (chance.exponential(1, (200, 3_000)), -np.log(1 - at)),
        (chance.uniform(1, 2, (200, 3_000)), 1 + at),
    ):
        found = [intervals.quantile(histogram(some), at) for some in values]
        held = [one is not None and one.low <= truth <= one.high for one in found]
        assert np.mean(held) >= 0.97


def test_a_relative_difference() -> None:
    """Of p90 of times that are 20 % longer: in nearly all intervals, and they are no wider than they need to be."""
    chance = np.random.default_rng(2)
    held, widths = [], []
    for _ in range(200):
        first, second = (intervals.quantile(histogram(scale * chance.gamma(3, 1, 5_000)), 0.9) for scale in (1.0, 1.2))
        assert first is not None
        assert second is not None
        found = intervals.relative_difference(first, second)
        assert found is not None
        held.append(found.low <= 0.2 <= found.high)
        widths.append(found.high - found.low)
    assert np.mean(held) >= 0.97
    assert np.mean(widths) < 0.16


def test_a_mean() -> None:
    """And of single values, which have no spread."""
    chance = np.random.default_rng(3)
    held = []
    for _ in range(300):
        found = intervals.mean([(value, 2) for value in chance.normal(5, 2, 200).tolist() for _ in range(1)])
        assert found is not None
        held.append(found.value)
    assert np.mean(held) == pytest.approx(5, abs=0.05)
    assert intervals.mean([(1.0, 1)]) is None
    assert intervals.mean([]) is None
    assert intervals.mean([(3.0, 10)]) == Estimate(3.0, 3.0, 3.0)


def test_too_few_to_tell() -> None:
    """A quantile beyond which there is no value has no interval; zero has no relative difference."""
    assert intervals.quantile(Histogram(), 0.5) is None
    assert intervals.quantile(histogram([1.0] * 100), 0.99) is None
    assert intervals.quantile(histogram([1.0] * 100), 0.5) is not None
    zero, one = Estimate(0.0, 0.0, 0.0), Estimate(1.0, 0.9, 1.1)
    assert intervals.relative_difference(zero, one) is None


def test_numbers_beyond_comparison() -> None:
    """Squares and ratios that no float holds raise nothing."""
    tiny, huge = Estimate(1e-300, 1e-301, 1e-299), Estimate(1e300, 1e299, 1e301)
    assert intervals.relative_difference(tiny, huge) is None
    assert intervals.difference(tiny, huge).value == 1e300
    found = intervals.mean([(1e300, 2), (-1e300, 2)])
    assert found is not None
    assert (found.value, found.high) == (0.0, float("inf"))
